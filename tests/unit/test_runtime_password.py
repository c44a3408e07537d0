"""Passwords of development images: hashed as openssl(1) does, and never the same twice."""

from __future__ import annotations

import re
import subprocess

from hypothesis import given, settings
from hypothesis import strategies as st
from tdxc_runtime.password import hash_password, new_password

SALTS = st.text("./09AZaz", min_size=1, max_size=16)


@settings(max_examples=15, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\0\n\r"), min_size=1, max_size=130), SALTS)
def test_hashes_are_those_of_openssl(password: str, salt: str) -> None:
    done = subprocess.run(
        ["openssl", "passwd", "-6", "-salt", salt, "-stdin"],
        input=f"{password}\n".encode(),
        capture_output=True,
        check=True,
    )
    assert hash_password(password, salt) == done.stdout.decode().strip()


def test_passwords_and_salts_are_new_each_time() -> None:
    passwords = {new_password() for _ in range(20)}
    assert len(passwords) == 20
    assert all(re.fullmatch(r"[a-z2-9]{5}(-[a-z2-9]{5}){3}", password) for password in passwords)
    assert hash_password("a") != hash_password("a")
