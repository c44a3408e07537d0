"""Devtools: a console, a root password, SSH and tools, for an image that says of itself that it is for development."""

from __future__ import annotations

import re
from typing import Annotated

from tdxc.diagnostics import Code
from tdxc.ir import Setting

from tdx import _values as v
from tdx._declare import describes, here
from tdx._kinds import Constraint, Problem
from tdx.image import Image

DEFAULT_PACKAGES = ("curl", "iproute2", "less", "procps", "strace", "vim-tiny")

_HASH = re.compile(r"\$(?:6|5)\$(?:rounds=[0-9]+\$)?[./A-Za-z0-9]{1,16}\$[./A-Za-z0-9]{43,86}|\$y\$[./A-Za-z0-9$]{20,}")
_WORDS = ("random", "prompt", "locked")


def _password(value: str) -> Problem | None:
    """The text itself is not repeated: it may be a password."""
    if value in _WORDS or _HASH.fullmatch(value):
        return None
    text = "is neither a hash of crypt(5) nor one of 'random', 'prompt' and 'locked'"
    return Problem(Code.E_SECRET, text, "write 'random' or 'prompt', or give what `openssl passwd -6` prints")


Password = Annotated[
    str, Constraint(check=_password, noun="'random', 'prompt', 'locked' or a crypt(5) hash", hidden=True)
]


class Devtools:
    """Open an image for its developers, and mark it so that a verifier can refuse it.

    ``root_password``: ``random`` is made by each bake and printed once, ``prompt`` asks whoever bakes, a hash is the
    same in each bake, ``locked`` lets nobody log in by password. The compiled tree never depends on it; with ``random``
    and ``prompt`` two bakes differ by the hash, and so do their measurements. ``authorized_keys`` may log in by SSH.
    """

    @describes
    def __init__(
        self,
        *,
        root_password: Password = "random",  # noqa: S107 - a word that asks for one
        serial_console: bool = True,
        authorized_keys: v.Strings = (),
        packages: v.PackageNames = DEFAULT_PACKAGES,
    ) -> None:
        self.root_password = root_password
        self.serial_console = serial_console
        self.authorized_keys = tuple(authorized_keys)
        self.packages = tuple(packages)
        self._span = here()

    def apply(self, image: Image) -> None:
        """Declare the tools, the console and the mark."""
        with image.module("Devtools"):
            image.declare_one("development", Setting(value="Devtools", span=self._span))
            if self.root_password != "locked":  # noqa: S105 - a word of ours
                image.declare_one("root_password", Setting(value=self.root_password, span=self._span))
            image.install(*self.packages)
            if self.serial_console:
                _add_console(image)
            if self.authorized_keys:
                image.ssh(enabled=True, authorized_keys=list(self.authorized_keys))


def _add_console(image: Image) -> None:
    """A login on the first serial port, there before the boot steps: they may be what is to be looked into."""
    image.install("login", "util-linux")
    image.service(
        "devtools-console",
        exec="/usr/sbin/agetty --keep-baud 115200 --noclear ttyS0 linux",
        description="Login on the serial console, for development",
        type="idle",
        restart="always",
        restart_sec="1s",
        hardening="none",
        early=True,
        extra_unit={
            "Service": {
                "UtmpIdentifier": "ttyS0",
                "StandardInput": "tty",
                "StandardOutput": "tty",
                "TTYPath": "/dev/ttyS0",
                "TTYReset": True,
                "TTYVHangup": True,
                "IgnoreSIGPIPE": False,
                "SendSIGHUP": True,
            }
        },
    )
