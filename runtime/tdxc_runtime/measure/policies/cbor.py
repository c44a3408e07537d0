"""A deterministic CBOR encoder for the few kinds of data that a CoRIM has.

Source: RFC 8949, sections 3.1 (major types) and 4.2.1 (core deterministic encoding: shortest lengths, keys in order of
their encoded bytes).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import attrs


@attrs.frozen
class Tag:
    """A tagged value."""

    number: int
    value: Value


Value: TypeAlias = "int | str | bytes | Sequence[Value] | Mapping[int, Value] | Mapping[str, Value] | Tag"


def encode(value: Value) -> bytes:
    """The encoded bytes; integers are unsigned. ``TypeError`` for anything else."""
    match value:
        case bool():
            raise TypeError("a CoRIM of this kind has no booleans")
        case int():
            return _head(0, value)
        case bytes():
            return _head(2, len(value)) + value
        case str():
            data = value.encode()
            return _head(3, len(data)) + data
        case Tag():
            return _head(6, value.number) + encode(value.value)
        case Mapping():
            pairs = sorted((encode(key), encode(item)) for key, item in value.items())
            return _head(5, len(pairs)) + b"".join(key + item for key, item in pairs)
        case Sequence():
            return _head(4, len(value)) + b"".join(map(encode, value))
        case _:
            raise TypeError(f"{type(value).__name__} has no encoding here")


def _head(major: int, argument: int) -> bytes:
    """Major type and argument in the shortest form."""
    if argument < 0:
        raise TypeError("negative numbers have no encoding here")
    if argument < 24:
        return bytes((major << 5 | argument,))
    size = next(size for size in (1, 2, 4, 8) if argument < 1 << 8 * size)
    return bytes((major << 5 | 23 + size.bit_length(),)) + argument.to_bytes(size, "big")
