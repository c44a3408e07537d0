"""What every IR node has: where in the recipe it stems from, and why it exists. Neither is part of its value."""

from __future__ import annotations

from collections.abc import Iterator

from tdxc import records
from tdxc.diagnostics import UNKNOWN_SPAN, SourceSpan


@records.frozen(kw_only=True)
class Node:
    """Base of all IR nodes: frozen, compared and hashed by value, ``span`` and ``cause`` excluded from both.

    ``cause`` is empty for what the recipe says itself; a node made by a pass says which pass and why, and takes the
    span of the node that made it necessary. Each node is declared with ``@records.frozen(kw_only=True)``.
    """

    span: SourceSpan = records.field(default=UNKNOWN_SPAN, eq=False, repr=False)
    cause: str = records.field(default="", eq=False, repr=False)


def walk(node: Node) -> Iterator[Node]:
    """The node and every node below it, depth first, in field order."""
    yield node
    for field in records.fields_of(type(node)):
        value = getattr(node, field.name)
        if isinstance(value, Node):
            yield from walk(value)
        elif isinstance(value, tuple):
            for item in value:
                if isinstance(item, Node):
                    yield from walk(item)
