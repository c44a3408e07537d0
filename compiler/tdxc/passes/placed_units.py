"""Unit files and drop-ins that a recipe places as plain files, read as far as checks need them.

::

    img.file("/etc/systemd/system/app.service.d/more.conf", content="[Service]\nExecStart=…")

Source of the folders: systemd.unit(5), "System Unit Search Path".
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tdxc import records
from tdxc.ir import Directive, File, Node, Section, Unit

_FOLDERS = r"/(?:etc|usr/lib|usr/local/lib|lib|run)/systemd/system(?:\.control|\.attached)?"
_PLACED = (
    rf"{_FOLDERS}/(?:(?P<unit>[^/]+\.(?:service|socket|mount|swap|timer|path|target|slice|scope|automount))"
    rf"|(?P<changed>[^/]+)\.d/[^/]+\.conf)"
)


@records.frozen(kw_only=True)
class PlacedUnit:
    """A unit or a drop-in for one, with the declaration that brings it.

    ``unit`` has the name of the unit that is changed; that of a drop-in for a whole kind of units is the kind's
    (``service``). ``path`` is its file's, empty for what the recipe declares as unit or drop-in.
    """

    unit: Unit
    node: Node
    path: str = ""

    @property
    def label(self) -> str:
        """How messages name it."""
        return f"'{self.unit.name}' (in {self.path})" if self.path else f"'{self.unit.name}'"


def placed_units(files: tuple[File, ...]) -> Iterator[PlacedUnit]:
    """The files among these that systemd reads as units or drop-ins, in their order."""
    for file in files:
        if "/systemd/system" in file.path and (found := re.fullmatch(_PLACED, file.path)):
            name = found["unit"] or found["changed"]
            unit = Unit(span=file.span, name=name, sections=tuple(_sections(file)))
            yield PlacedUnit(unit=unit, node=file, path=file.path)


def _sections(file: File) -> Iterator[Section]:
    """Sections and directives (systemd.syntax(7)): continued lines are joined, comments and other lines left out."""
    name = ""
    directives: list[Directive] = []
    for line in _lines(file.content.data.decode(errors="replace")):
        if line.startswith("[") and line.endswith("]"):
            yield Section(span=file.span, name=name, directives=tuple(directives))
            name, directives = line[1:-1], []
        elif "=" in line:
            key, _, value = line.partition("=")
            directives.append(Directive(span=file.span, key=key.strip(), value=value.strip()))
    yield Section(span=file.span, name=name, directives=tuple(directives))


def _lines(text: str) -> Iterator[str]:
    """Lines with their continuations: a backslash at the end stands for a blank, and comments between are no part."""
    joined = ""
    for line in text.split("\n"):
        if line.lstrip().startswith(("#", ";")):
            continue
        if line.endswith("\\"):
            joined += f"{line[:-1]} "
            continue
        yield (joined + line).strip()
        joined = ""
    yield joined.strip()
