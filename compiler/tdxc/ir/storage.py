"""Partitions and encryption that a recipe declares."""

from __future__ import annotations

from tdxc import records
from tdxc.ir.node import Node


@records.frozen(kw_only=True)
class Partition(Node):
    """A partition of the image's own disk, mounted at ``mount_point``."""

    mount_point: str
    fs: str
    size_bytes: int
    label: str = ""
    verity: bool = False


@records.frozen(kw_only=True)
class Encryption(Node):
    """How data partitions are encrypted."""

    type: str
    key_source: str
