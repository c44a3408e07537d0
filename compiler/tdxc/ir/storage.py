"""Partitions and encryption that a recipe declares."""

from __future__ import annotations

import attrs

from tdxc.ir.node import Node


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Partition(Node):
    """A partition of the image's own disk, mounted at ``mount_point``."""

    mount_point: str
    fs: str
    size_bytes: int
    label: str = ""
    verity: bool = False


@attrs.frozen(kw_only=True, eq=False, repr=False)
class Encryption(Node):
    """How data partitions are encrypted."""

    type: str
    key_source: str
