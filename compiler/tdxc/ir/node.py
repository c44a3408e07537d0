"""What every IR node has: where in the recipe it stems from, and why it exists. Neither is part of its value."""

from __future__ import annotations

from collections.abc import Iterator

import attrs

from tdxc.diagnostics import UNKNOWN_SPAN, SourceSpan


@attrs.frozen(kw_only=True)
class Node:
    """Base of all IR nodes: frozen, compared and hashed by value, ``span`` and ``cause`` excluded from both.

    ``cause`` is empty for what the recipe says itself; a node made by a pass says which pass and why, and takes the
    span of the node that made it necessary.
    """

    span: SourceSpan = attrs.field(default=UNKNOWN_SPAN, eq=False, repr=False)
    cause: str = attrs.field(default="", eq=False, repr=False)


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
