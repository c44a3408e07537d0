"""A unit's sections as the text of a unit file (systemd.syntax(7)): order kept, keys repeated, values untouched."""

from __future__ import annotations

import re
from collections.abc import Iterator

from tdxc import quoting
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import DropIn, Section, Unit

_KEY = re.compile(r"[A-Za-z][A-Za-z0-9-]*")
_SECTION = re.compile(r"(X-)?[A-Za-z][A-Za-z0-9-]*")


def header(what: str, image_name: str) -> str:
    """The comment line that opens each generated file."""
    return f"# {quoting.shell_comment(what)} of image {quoting.shell_comment(image_name)}, written by tdxc\n"


def render_unit(unit: Unit, image_name: str) -> str:
    """The text of the unit file.

    Raises E_EMIT for a key or section name that is not one, E_VALUE for a value that no line of a unit can hold.
    """
    return header(unit.name, image_name) + _render_sections(unit.sections)


def render_drop_in(drop_in: DropIn, image_name: str) -> str:
    """The text of a drop-in file; raises as :func:`render_unit` does."""
    return header(f"{drop_in.name}, drop-in for {drop_in.unit},", image_name) + _render_sections(drop_in.sections)


def _render_sections(sections: tuple[Section, ...]) -> str:
    return "".join(f"\n{line}" if line.startswith("[") else line for line in _lines(sections))


def _lines(sections: tuple[Section, ...]) -> Iterator[str]:
    for section in sections:
        if not _SECTION.fullmatch(section.name):
            raise DiagnosticError.of(Code.E_EMIT, f"{section.name!r} is no name for a section of a unit", section.span)
        yield f"[{section.name}]\n"
        for directive in section.directives:
            if not _KEY.fullmatch(directive.key):
                message = f"{directive.key!r} is no name for a directive of a unit"
                raise DiagnosticError.of(Code.E_EMIT, message, directive.span)
            value = quoting.unit_directive(directive.value, span=directive.span, what=f"value of {directive.key}=")
            yield f"{directive.key}={value}\n"
