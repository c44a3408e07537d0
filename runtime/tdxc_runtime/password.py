"""Passwords for images for development: made at random, and hashed as crypt(5) does.

Source: "Unix crypt using SHA-256 and SHA-512" (U. Drepper), which crypt(5) calls ``sha512crypt``. Python's own module
for it is gone since 3.13.
"""

from __future__ import annotations

import hashlib
import secrets

_ALPHABET = "./0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
_READABLE = "abcdefghjkmnpqrstuvwxyz23456789"
_ROUNDS = 5000
_SIZE = 64


def new_password() -> str:
    """Twenty characters that are told apart on a console (99 bits), in groups of five."""
    word = [secrets.choice(_READABLE) for _ in range(20)]
    return "-".join("".join(word[start : start + 5]) for start in range(0, 20, 5))


def hash_password(password: str, salt: str = "") -> str:
    """``$6$SALT$HASH``, under a new salt unless one is given.

    >>> hash_password("Hello world!", "saltstring")
    '$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1'
    """
    salt = salt or "".join(secrets.choice(_ALPHABET) for _ in range(16))
    return f"$6${salt}${_encoded(_digest(password.encode(), salt.encode()))}"


def _digest(password: bytes, salt: bytes) -> bytes:
    def sha(data: bytes) -> bytes:
        return hashlib.sha512(data).digest()

    other = sha(password + salt + password)
    first = password + salt + _stretched(other, len(password))
    length = len(password)
    while length:
        first += other if length & 1 else password
        length >>= 1
    state = sha(first)
    words = _stretched(sha(password * len(password)), len(password))
    grains = _stretched(sha(salt * (16 + state[0])), len(salt))
    for turn in range(_ROUNDS):
        parts = [words if turn & 1 else state]
        parts += [grains] * bool(turn % 3) + [words] * bool(turn % 7)
        parts.append(state if turn & 1 else words)
        state = sha(b"".join(parts))
    return state


def _stretched(data: bytes, size: int) -> bytes:
    return (data * (size // _SIZE + 1))[:size]


def _encoded(digest: bytes) -> str:
    """Six bits a character, lowest first, of three bytes each that stand 21 apart; the last byte alone."""
    text = ""
    for index in range(21):
        places = (index, index + 21, index + 42)
        turned = places[index % 3 :] + places[: index % 3]
        text += _characters(int.from_bytes(bytes(digest[place] for place in turned)), 4)
    return text + _characters(digest[63], 2)


def _characters(value: int, count: int) -> str:
    return "".join(_ALPHABET[value >> 6 * place & 63] for place in range(count))
