"""What every IR node has: where in the recipe it stems from, and why it exists. Neither is part of its value."""

from __future__ import annotations

import functools
import operator
from collections.abc import Callable, Iterator
from typing import Any

import attrs

from tdxc.diagnostics import UNKNOWN_SPAN, SourceSpan


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Node:
    """Base of all IR nodes: frozen, compared and hashed by value, ``span`` and ``cause`` excluded from both.

    ``cause`` is empty for what the recipe says itself; a node made by a pass says which pass and why, and takes the
    span of the node that made it necessary.

    Equality, hash and repr are written once here. Subclasses say ``eq=False, repr=False``, so that attrs generates
    and compiles none for each of them: that took half the time of importing the IR.
    """

    span: SourceSpan = attrs.field(default=UNKNOWN_SPAN, eq=False, repr=False)
    cause: str = attrs.field(default="", eq=False, repr=False)

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        return bool(_value(self) == _value(other))

    def __hash__(self) -> int:
        return hash((type(self), _value(self)))

    def __repr__(self) -> str:
        shown = (f"{field.name}={getattr(self, field.name)!r}" for field in attrs.fields(type(self)) if field.repr)
        return f"{type(self).__name__}({', '.join(shown)})"


def _value(node: Any) -> Any:
    """What makes the node's value: all its fields but those that say where it stems from."""
    cls: Any = type(node)
    return _value_getter(cls)(node)


@functools.cache
def _value_getter(cls: Any) -> Callable[[Any], Any]:
    names = [field.name for field in attrs.fields(cls) if field.eq]
    return operator.attrgetter(*names) if names else type


def walk(node: Node) -> Iterator[Node]:
    """The node and every node below it, depth first, in field order."""
    yield node
    for field in attrs.fields(type(node)):
        value = getattr(node, field.name)
        if isinstance(value, Node):
            yield from walk(value)
        elif isinstance(value, tuple):
            for item in value:
                if isinstance(item, Node):
                    yield from walk(item)
