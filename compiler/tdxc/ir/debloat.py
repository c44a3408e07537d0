"""What is removed from the image, what is kept, and who wanted it."""

from __future__ import annotations

import enum

from tdxc import records
from tdxc.ir.node import Node


class DebloatKind(enum.StrEnum):
    """What a keep decision speaks of."""

    BINARY = "binary"
    UNIT = "unit"
    PATH = "path"
    MODULE = "module"


@records.frozen(kw_only=True)
class Debloat(Node):
    """What a recipe says; ``keep_*`` extend the computed keep-lists. None leaves ``enabled`` as it is."""

    enabled: bool | None = None
    keep_binaries: tuple[str, ...] = ()
    keep_units: tuple[str, ...] = ()
    keep_paths: tuple[str, ...] = ()
    keep_modules: tuple[str, ...] = ()


@records.frozen(kw_only=True)
class KeepDecision(Node):
    """``name`` stays; ``reason`` is a sentence naming the line or rule that wanted it."""

    kind: DebloatKind
    name: str
    reason: str


@records.frozen(kw_only=True)
class RemoveDecision(Node):
    """``name`` (a path, a glob, or a unit) goes; ``reason`` says by which rule."""

    kind: DebloatKind
    name: str
    reason: str


@records.frozen(kw_only=True)
class ResolvedDebloat(Node):
    """The decisions, sorted by kind and name. When not ``enabled`` both lists are empty."""

    enabled: bool
    keep: tuple[KeepDecision, ...] = ()
    remove: tuple[RemoveDecision, ...] = ()
