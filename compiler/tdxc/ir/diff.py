"""What changed between two images, in terms of the recipe: one entry per declaration, matched by its name or path.

Example::

    ~ services[app].restart: 'no' -> 'always'
    + packages[jq]
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

from tdxc import records
from tdxc.diagnostics import UNKNOWN_SPAN, SourceSpan
from tdxc.ir.blob import Blob
from tdxc.ir.node import Node

_IDENTITY = ("path", "name", "mount_point", "key", "text", "dest")
"""The field by which two nodes of one kind are the same declaration: the first of these that the kind has."""


class ChangeKind(enum.StrEnum):
    """How a declaration differs; the value is the sign that reviewers know."""

    ADDED = "+"
    REMOVED = "-"
    CHANGED = "~"


@records.frozen(kw_only=True)
class Change:
    """One difference; ``before`` and ``after`` are printable, empty where the declaration does not exist."""

    kind: ChangeKind
    place: str
    before: str = ""
    after: str = ""
    span: SourceSpan = UNKNOWN_SPAN

    def __str__(self) -> str:
        if self.kind is ChangeKind.CHANGED:
            return f"{self.kind.value} {self.place}: {self.before} -> {self.after}"
        return f"{self.kind.value} {self.place}" + (
            f": {self.before or self.after}" if self.before or self.after else ""
        )


def diff_nodes(before: Node, after: Node, place: str = "") -> Iterator[Change]:
    """All differences of two nodes of one class, in field order."""
    for field in records.fields_of(type(after)):
        if field.eq:
            where = f"{place}.{field.name}" if place else field.name
            yield from _diff_values(getattr(before, field.name), getattr(after, field.name), where, after.span)


def _diff_values(before: Any, after: Any, place: str, span: SourceSpan) -> Iterator[Change]:
    if before == after:
        return
    if isinstance(before, Node) and isinstance(after, Node):
        yield from diff_nodes(before, after, "" if place == "layer" else place)
    elif isinstance(before, tuple) and isinstance(after, tuple):
        yield from _diff_tuples(before, after, place, span)
    elif before is None:
        yield Change(kind=ChangeKind.ADDED, place=place, after=_text(after), span=_span(after, span))
    elif after is None:
        yield Change(kind=ChangeKind.REMOVED, place=place, before=_text(before), span=_span(before, span))
    else:
        yield Change(kind=ChangeKind.CHANGED, place=place, before=_text(before), after=_text(after), span=span)


def _diff_tuples(before: tuple[Any, ...], after: tuple[Any, ...], place: str, span: SourceSpan) -> Iterator[Change]:
    old, new = _by_identity(before), _by_identity(after)
    for key, item in old.items():
        if key not in new:
            yield Change(kind=ChangeKind.REMOVED, place=f"{place}[{key}]", span=_span(item, span))
    for key, item in new.items():
        if key not in old:
            yield Change(kind=ChangeKind.ADDED, place=f"{place}[{key}]", span=_span(item, span))
        elif isinstance(item, Node):
            yield from diff_nodes(old[key], item, f"{place}[{key}]")
    kept = [key for key in old if key in new]
    if kept != [key for key in new if key in old]:
        yield Change(kind=ChangeKind.CHANGED, place=place, before="order", after="another order", span=span)


def _by_identity(items: tuple[Any, ...]) -> dict[str, Any]:
    """Items by printable identity; repeated ones get ``#2``, ``#3`` so that none is lost."""
    found: dict[str, Any] = {}
    for item in items:
        base = key = _identity(item)
        count = 1
        while key in found:
            count += 1
            key = f"{base}#{count}"
        found[key] = item
    return found


def _identity(item: Any) -> str:
    if isinstance(item, Node):
        names = {field.name for field in records.fields_of(type(item))}
        for name in _IDENTITY:
            if name in names:
                return str(getattr(item, name))
    return str(item)


def _span(value: Any, default: SourceSpan) -> SourceSpan:
    return value.span if isinstance(value, Node) else default


def _text(value: Any) -> str:
    if isinstance(value, Blob):
        return f"sha256:{value.sha256[:16]}… ({value.size_bytes} bytes)"
    if isinstance(value, enum.Enum):
        return str(value.value)
    if isinstance(value, Node):
        return " ".join(f"{name}={_text(field)}" for name, field in _given(value))
    if isinstance(value, tuple):
        return f"[{', '.join(map(_item, value))}]"
    return repr(value) if isinstance(value, str) else str(value)


def _given(node: Node) -> list[tuple[str, Any]]:
    """The fields that differ from their defaults."""
    fields = ((field, getattr(node, field.name)) for field in records.fields_of(type(node)) if field.eq)
    return [(field.name, value) for field, value in fields if value != field.default]


def _item(value: Any) -> str:
    """An item of a list: one that says a single thing as that thing."""
    if isinstance(value, Node):
        given = _given(value)
        return _text(given[0][1]) if len(given) == 1 else f"({_text(value)})"
    return _text(value)
