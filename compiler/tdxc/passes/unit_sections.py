"""Pure edits of a unit's sections, shared by the passes that rewrite units."""

from __future__ import annotations

from collections.abc import Iterable

from tdxc import records
from tdxc.ir import Directive, Section, Unit


def with_directives(unit: Unit, section: str, directives: Iterable[Directive]) -> Unit:
    """The unit with ``directives`` appended to its last section of that name, which is created where it lacks."""
    added = tuple(directives)
    if not added:
        return unit
    places = [index for index, known in enumerate(unit.sections) if known.name == section]
    if not places:
        front = Section(span=unit.span, cause=added[0].cause, name=section, directives=added)
        return records.evolve(unit, sections=(front, *unit.sections))
    last = unit.sections[places[-1]]
    grown = records.evolve(last, directives=last.directives + added)
    return records.evolve(unit, sections=(*unit.sections[: places[-1]], grown, *unit.sections[places[-1] + 1 :]))


def words(unit: Unit, section: str, key: str) -> tuple[str, ...]:
    """The blank-separated words of all values of ``key``; an empty value takes back those before it, as in systemd."""
    found: list[str] = []
    for value in unit.values(section, key):
        found = [*found, *value.split()] if value else []
    return tuple(found)


def last_value(unit: Unit, section: str, key: str) -> str:
    """The value of ``key`` that counts when only one can: the last one; empty when there is none."""
    values = unit.values(section, key)
    return values[-1] if values else ""


def is_true(value: str) -> bool:
    """systemd's idea of a true boolean (systemd.syntax(7))."""
    return value.lower() in {"1", "yes", "y", "true", "t", "on"}


def is_false(value: str) -> bool:
    """systemd's idea of a false boolean."""
    return value.lower() in {"0", "no", "n", "false", "f", "off"}
