"""print_ir: the one stable text form of the IR, for dumps, tests and bug reports.

Fields at their default are left out::

    Service
      name: 'app'
      exec: '/usr/bin/app'
"""

from __future__ import annotations

import enum
from collections.abc import Iterator
from typing import Any

from tdxc import records
from tdxc.ir.blob import Blob
from tdxc.ir.node import Node


def print_ir(node: Node) -> str:
    """The node as indented text with a final newline; independent of where it was written."""
    return "\n".join(_lines(node, "")) + "\n"


def _lines(node: Node, indent: str) -> Iterator[str]:
    yield f"{indent}{type(node).__name__}"
    for field in records.fields_of(type(node)):
        value = getattr(node, field.name)
        if field.eq and value != field.default:
            yield from _field_lines(field.name, value, indent + "  ")


def _field_lines(name: str, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Node):
        yield f"{indent}{name}:"
        yield from _lines(value, indent + "  ")
    elif isinstance(value, tuple) and any(isinstance(item, Node) for item in value):
        yield f"{indent}{name}:"
        for item in value:
            yield from _lines(item, indent + "  ")
    elif isinstance(value, tuple):
        yield f"{indent}{name}: {', '.join(_scalar(item) for item in value)}"
    else:
        yield f"{indent}{name}: {_scalar(value)}"


def _scalar(value: Any) -> str:
    if isinstance(value, Blob):
        return f"sha256:{value.sha256} ({value.size_bytes} bytes)"
    if isinstance(value, enum.Enum):
        return str(value.value)
    return repr(value)
