"""What the modules for the inside of the guest share: its program ``tdx-guest``, and the values they take."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Annotated

from tdxc.diagnostics import UNKNOWN_SPAN, Code
from tdxc.ir import Artifact, Blob, Build, BuildLanguage, BuildSource, SourceFile, Toolchain

from tdx._declarations import with_span
from tdx._kinds import Constraint, Problem
from tdx._source import read_folder
from tdx.image import Image

NAME = "tdx-guest"
PROGRAM = f"/usr/bin/{NAME}"
_LONGEST_NAME = 32
KEY_PRIORITY, DISK_PRIORITY, SECRETS_PRIORITY = 10, 20, 30

_PACKAGE = Path(__file__).resolve().parents[1]


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
    """Put ``tdx-guest`` into the image: a source build like those of recipes, so pinned, reproducible and measured."""
    span = image.place
    build = Build(
        name=NAME,
        language=BuildLanguage.GO,
        source=BuildSource(files=with_span(program_sources(), span), span=span),
        toolchain=Toolchain(span=span),
        artifacts=(Artifact(source="", dest=PROGRAM, span=span),),
        program=NAME,
        span=span,
    )
    image.declare("builds", build)


@functools.cache
def program_sources() -> tuple[SourceFile, ...]:
    """The program's sources without its tests, sorted by path. Raises E_PATH where the installation lacks them."""
    installed = _PACKAGE / "guest"
    folder = installed if installed.is_dir() else _PACKAGE.parents[1] / "runtime" / "guest"
    return tuple(
        SourceFile(path=source.name, content=Blob.of(source.data))
        for source in read_folder(
            folder.parent, folder.name, outside=True, span=UNKNOWN_SPAN, wanted=_is_part_of_the_program
        )
    )


def _is_part_of_the_program(name: str) -> bool:
    return name.endswith((".go", "go.mod", "go.sum")) and not name.endswith("_test.go") and "testdata/" not in name
