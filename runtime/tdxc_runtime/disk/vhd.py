"""Fixed VHD, the one disk format that Azure takes: the raw disk and a 512-byte footer.

Source: Microsoft, "Virtual Hard Disk Image Format Specification", version 1.0, sections "Hard Disk Footer Format" and
"CHS Calculation". Time stamp and identifier are fixed, so that the same disk is the same file.
"""

from __future__ import annotations

import struct
import uuid
from typing import BinaryIO

from tdxc_runtime.disk.extents import SparseImage, write_raw

_MIB = 1 << 20
FOOTER_BYTES = 512


def write_vhd(image: SparseImage, seed: uuid.UUID, file: BinaryIO) -> None:
    """Write disk and footer. Raises ValueError unless the disk is a whole number of MiB, as Azure demands."""
    if image.size % _MIB:
        raise ValueError(f"{image.size} bytes are not a whole number of MiB")
    write_raw(image, file)
    file.write(vhd_footer(image.size, uuid.uuid5(seed, "vhd")))


def vhd_footer(size: int, identifier: uuid.UUID) -> bytes:
    """The footer of a fixed disk of ``size`` bytes; all fields big-endian."""
    cylinders, heads, sectors = _geometry(size // 512)

    def pack(checksum: int) -> bytes:
        footer = struct.pack(
            ">8sIIQI4sI4sQQHBBII16sB",
            b"conectix", 2, 0x00010000, 0xFFFFFFFFFFFFFFFF, 0, b"tdxv", 0x00010000, b"Wi2k", size, size,
            cylinders, heads, sectors, 2, checksum, identifier.bytes, 0,
        )  # fmt: skip
        return footer.ljust(FOOTER_BYTES, b"\0")

    return pack(~sum(pack(0)) & 0xFFFFFFFF)


def _geometry(sectors: int) -> tuple[int, int, int]:
    """Cylinders, heads and sectors per track by the specification's algorithm."""
    sectors = min(sectors, 65535 * 16 * 255)
    if sectors >= 65535 * 16 * 63:
        per_track, heads = 255, 16
        cylinder_heads = sectors // per_track
    else:
        per_track = 17
        cylinder_heads = sectors // per_track
        heads = max((cylinder_heads + 1023) // 1024, 4)
        if cylinder_heads >= heads * 1024 or heads > 16:
            per_track, heads = 31, 16
            cylinder_heads = sectors // per_track
        if cylinder_heads >= heads * 1024:
            per_track, heads = 63, 16
            cylinder_heads = sectors // per_track
    return cylinder_heads // heads, heads, per_track
