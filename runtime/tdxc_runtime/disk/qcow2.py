"""qcow2 (version 3) with only the clusters that hold data; QEMU's docs/interop/qcow2.txt gives the fields."""

from __future__ import annotations

import struct
from typing import BinaryIO

from tdxc_runtime.disk.extents import SparseImage

CLUSTER = 1 << 16
_ENTRIES_PER_L2 = CLUSTER // 8
_REFCOUNTS_PER_BLOCK = CLUSTER // 2
_COPIED = 1 << 63


def write_qcow2(image: SparseImage, file: BinaryIO) -> None:
    """Write the image: header, refcount table and blocks, L1, L2 tables, data, in this order and each in clusters."""
    used = sorted({n for e in image.extents for n in range(e.offset // CLUSTER, -(-e.end // CLUSTER))})
    guest_clusters = -(-image.size // CLUSTER)
    l1_entries = -(-guest_clusters // _ENTRIES_PER_L2)
    l1_clusters = -(-l1_entries * 8 // CLUSTER)
    l2_tables = sorted({number // _ENTRIES_PER_L2 for number in used})
    fixed = 2 + l1_clusters + len(l2_tables) + len(used)  # header and refcount table, then the rest
    blocks = 1
    while blocks * _REFCOUNTS_PER_BLOCK < fixed + blocks:
        blocks += 1
    if blocks > CLUSTER // 8:
        raise ValueError("the image is too large for one cluster of refcount table")
    l1_start = 2 + blocks
    l2_start = l1_start + l1_clusters
    data_start = l2_start + len(l2_tables)
    file.write(_header(image.size, l1_entries, l1_start).ljust(CLUSTER, b"\0"))
    file.write(struct.pack(f">{blocks}Q", *((2 + n) * CLUSTER for n in range(blocks))).ljust(CLUSTER, b"\0"))
    counted = data_start + len(used)
    file.write(struct.pack(f">{counted}H", *([1] * counted)).ljust(blocks * CLUSTER, b"\0"))
    l1 = [0] * l1_entries
    for place, table in enumerate(l2_tables):
        l1[table] = (l2_start + place) * CLUSTER | _COPIED
    file.write(struct.pack(f">{l1_entries}Q", *l1).ljust(l1_clusters * CLUSTER, b"\0"))
    host = {number: data_start + place for place, number in enumerate(used)}
    for table in l2_tables:
        numbers = range(table * _ENTRIES_PER_L2, (table + 1) * _ENTRIES_PER_L2)
        entries = [host[n] * CLUSTER | _COPIED if n in host else 0 for n in numbers]
        file.write(struct.pack(f">{_ENTRIES_PER_L2}Q", *entries))
    file.writelines(block for _number, block in image.aligned(CLUSTER))


def _header(size: int, l1_entries: int, l1_start: int) -> bytes:
    return struct.pack(
        ">4sIQIIQIIQQIIQQQQII",
        b"QFI\xfb", 3, 0, 0, 16, size, 0, l1_entries, l1_start * CLUSTER, CLUSTER, 1, 0, 0, 0, 0, 0, 4, 104,
    )  # fmt: skip
