"""A FAT32 file system that holds a few large files, laid out in the order given, all times 1980-01-01.

Layout and field names: Microsoft, "FAT: General Overview of On-Disk Format", version 1.03, sections on the BPB, FSInfo
and directory entries. Only short (8.3, upper-case) names exist here, which is all that EFI/BOOT/BOOTX64.EFI needs.
"""

from __future__ import annotations

import re
import struct
from pathlib import Path

import attrs

from tdxc_runtime.disk.extents import Extent

SECTOR = 512
_SECTORS_PER_CLUSTER = 8
CLUSTER_BYTES = SECTOR * _SECTORS_PER_CLUSTER
_RESERVED_SECTORS = 32
_FATS = 2
_END_OF_CHAIN = 0x0FFFFFFF
_MEDIA_FIXED = 0xF8
_DATE_1980_01_01 = (1 << 5) | 1
_ATTRIBUTE_DIRECTORY, _ATTRIBUTE_ARCHIVE, _ATTRIBUTE_VOLUME = 0x10, 0x20, 0x08
_SMALLEST_CLUSTERS = 65525
"""A volume with fewer clusters would be read as FAT16 (section "FAT Type Determination")."""

_SHORT_NAME = re.compile(r"[A-Z0-9_-]{1,8}(?:\.[A-Z0-9_-]{1,3})?")


@attrs.frozen(kw_only=True)
class FatFile:
    """A file by its path in the volume (``EFI/BOOT/BOOTX64.EFI``) and where its ``size`` bytes come from."""

    path: str
    source: bytes | Path
    size: int


@attrs.frozen(kw_only=True)
class _Node:
    """A directory or file with its place: cluster numbers ``first`` to ``first + count - 1``."""

    name: str
    first: int
    count: int
    size: int
    children: tuple[str, ...] | None


def fat32_extents(files: tuple[FatFile, ...], *, sectors: int, hidden_sectors: int, volume_id: int,
                  label: str) -> tuple[Extent, ...]:  # fmt: skip
    """What is not zero of a volume of ``sectors`` sectors, offsets from its start.

    ``hidden_sectors`` is the partition's first sector. Raises ValueError for names that are not 8.3, for a volume that
    is too small for FAT32 or for the files.
    """
    fat_sectors = _fat_sectors(sectors)
    data_sector = _RESERVED_SECTORS + _FATS * fat_sectors
    clusters = (sectors - data_sector) // _SECTORS_PER_CLUSTER
    if clusters < _SMALLEST_CLUSTERS:
        raise ValueError(f"{sectors} sectors hold {clusters} clusters; FAT32 needs {_SMALLEST_CLUSTERS}")
    nodes, chains = _place(files)
    used = sum(count for _first, count in chains)
    if used > clusters:
        raise ValueError(f"the files need {used} clusters, the volume has {clusters}")
    boot = _boot_sectors(
        sectors, hidden_sectors, fat_sectors, volume_id, label, free=clusters - used, next_free=used + 2
    )
    table = _table(chains)

    def offset(cluster: int) -> int:
        return data_sector * SECTOR + (cluster - 2) * CLUSTER_BYTES

    extents = [Extent(offset=0, source=boot, size=len(boot))]
    for number in range(_FATS):
        start = (_RESERVED_SECTORS + number * fat_sectors) * SECTOR
        extents.append(Extent(offset=start, source=table, size=len(table)))
    contents = {file.path: file for file in files}
    for path, node in nodes.items():
        if node.children is not None:
            data = _directory(path, node, nodes, label)
            extents.append(Extent(offset=offset(node.first), source=data, size=len(data)))
        elif node.size:
            extents.append(Extent(offset=offset(node.first), source=contents[path].source, size=node.size))
    return tuple(extents)


def _fat_sectors(sectors: int) -> int:
    """Microsoft's own formula (section "FAT Volume Initialization"); may be a sector more than needed."""
    return -(-(sectors - _RESERVED_SECTORS) // ((256 * _SECTORS_PER_CLUSTER + _FATS) // 2))


def _place(files: tuple[FatFile, ...]) -> tuple[dict[str, _Node], list[tuple[int, int]]]:
    """Give every directory and file its clusters, directories first, in the order of first mention."""
    tree: dict[str, list[str]] = {"": []}
    for file in files:
        parts = file.path.split("/")
        for depth, part in enumerate(parts):
            if not _SHORT_NAME.fullmatch(part):
                raise ValueError(f"{part!r} is not an upper-case 8.3 name")
            parent, path = "/".join(parts[:depth]), "/".join(parts[: depth + 1])
            if path not in tree[parent]:
                tree[parent].append(path)
            if depth < len(parts) - 1:
                tree.setdefault(path, [])
    if any(len(children) > CLUSTER_BYTES // 32 - 3 for children in tree.values()):
        raise ValueError("a directory with that many entries does not fit one cluster")
    nodes: dict[str, _Node] = {}
    chains: list[tuple[int, int]] = []
    cluster = 2
    for path, children in tree.items():
        nodes[path] = _Node(name=path.rpartition("/")[2], first=cluster, count=1, size=0, children=tuple(children))
        chains.append((cluster, 1))
        cluster += 1
    for file in files:
        count = -(-file.size // CLUSTER_BYTES)
        first = cluster if count else 0
        nodes[file.path] = _Node(
            name=file.path.rpartition("/")[2], first=first, count=count, size=file.size, children=None
        )
        if count:
            chains.append((cluster, count))
        cluster += count
    return nodes, chains


def _table(chains: list[tuple[int, int]]) -> bytes:
    entries = [0x0FFFFF00 | _MEDIA_FIXED, _END_OF_CHAIN]
    for first, count in chains:
        entries += [*range(first + 1, first + count), _END_OF_CHAIN]
    return struct.pack(f"<{len(entries)}I", *entries)


def _directory(path: str, node: _Node, nodes: dict[str, _Node], label: str) -> bytes:
    entries = [_entry(label.encode("ascii").ljust(11), _ATTRIBUTE_VOLUME, 0, 0)] if not path else []
    if path:
        parent = path.rpartition("/")[0]
        above = nodes[parent].first if parent else 0  # the root directory is cluster 0 in a ".." entry
        entries += [_entry(b".".ljust(11), _ATTRIBUTE_DIRECTORY, node.first, 0)]
        entries += [_entry(b"..".ljust(11), _ATTRIBUTE_DIRECTORY, above, 0)]
    for child in node.children or ():
        below = nodes[child]
        kind = _ATTRIBUTE_ARCHIVE if below.children is None else _ATTRIBUTE_DIRECTORY
        entries.append(_entry(_padded(below.name), kind, below.first, below.size))
    return b"".join(entries)


def _padded(name: str) -> bytes:
    stem, _dot, extension = name.partition(".")
    return stem.encode("ascii").ljust(8) + extension.encode("ascii").ljust(3)


def _entry(name: bytes, attribute: int, cluster: int, size: int) -> bytes:
    return struct.pack("<11sBBBHHHHHHHI", name, attribute, 0, 0, 0, _DATE_1980_01_01, _DATE_1980_01_01,
                       cluster >> 16, 0, _DATE_1980_01_01, cluster & 0xFFFF, size)  # fmt: skip


def _boot_sectors(sectors: int, hidden: int, fat_sectors: int, volume_id: int, label: str, *, free: int,
                  next_free: int) -> bytes:  # fmt: skip
    """The reserved region: boot sector, FSInfo, a third sector with the signature, and their backup at sector 6."""
    boot = struct.pack(
        "<3s8sHBHBHHBHHHIIIHHIHH12sBBBI11s8s",
        b"\xeb\x58\x90", b"TDXVM   ", SECTOR, _SECTORS_PER_CLUSTER, _RESERVED_SECTORS, _FATS, 0, 0, _MEDIA_FIXED, 0,
        32, 8, hidden, sectors, fat_sectors, 0, 0, 2, 1, 6, b"\0" * 12, 0x80, 0, 0x29, volume_id,
        label.encode("ascii").ljust(11), b"FAT32   ",
    )  # fmt: skip
    information = b"RRaA" + b"\0" * 480 + b"rrAa" + struct.pack("<II", free, next_free) + b"\0" * 12 + b"\0\0\x55\xaa"
    signed = b"\0" * 510 + b"\x55\xaa"
    group = boot.ljust(510, b"\0") + b"\x55\xaa" + information + signed
    return group.ljust(6 * SECTOR, b"\0") + group
