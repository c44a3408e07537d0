"""GUID partition tables (UEFI specification 2.10, section 5.3), with identifiers that the caller fixes."""

from __future__ import annotations

import struct
import uuid
import zlib

import attrs

SECTOR = 512
ENTRY_COUNT = 128
_ENTRY_BYTES = 128
_TABLE_SECTORS = ENTRY_COUNT * _ENTRY_BYTES // SECTOR
FIRST_USABLE_LBA = 2 + _TABLE_SECTORS
EFI_SYSTEM_PARTITION = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
"""Partition type of an ESP (UEFI 2.10, table 5.7)."""


@attrs.frozen(kw_only=True)
class GptPartition:
    """``first_lba`` to ``last_lba``, both included, in sectors of 512 bytes."""

    type: uuid.UUID
    unique: uuid.UUID
    first_lba: int
    last_lba: int
    name: str
    attributes: int = 0

    def pack(self) -> bytes:
        """The 128-byte entry; GUIDs in mixed endianness, the name in UTF-16LE."""
        name = self.name.encode("utf-16-le")
        if len(name) > 72:
            raise ValueError(f"partition name {self.name!r} is longer than 36 UTF-16 units")
        head = struct.pack("<16s16sQQQ", self.type.bytes_le, self.unique.bytes_le, self.first_lba, self.last_lba,
                           self.attributes)  # fmt: skip
        return head + name.ljust(72, b"\0")


def primary_table(disk: uuid.UUID, sectors: int, partitions: tuple[GptPartition, ...]) -> bytes:
    """Protective MBR, primary header and entries: the first :data:`FIRST_USABLE_LBA` sectors of the disk."""
    entries = _entries(partitions)
    header = _header(disk, sectors, entries, here=1, other=sectors - 1, table=2)
    return _protective_mbr(sectors) + header.ljust(SECTOR, b"\0") + entries


def backup_table(disk: uuid.UUID, sectors: int, partitions: tuple[GptPartition, ...]) -> bytes:
    """Entries and backup header: the last 33 sectors of the disk."""
    entries = _entries(partitions)
    header = _header(disk, sectors, entries, here=sectors - 1, other=1, table=sectors - 1 - _TABLE_SECTORS)
    return entries + header.ljust(SECTOR, b"\0")


def last_usable_lba(sectors: int) -> int:
    """The last sector in front of the backup table."""
    return sectors - 2 - _TABLE_SECTORS


def _entries(partitions: tuple[GptPartition, ...]) -> bytes:
    return b"".join(partition.pack() for partition in partitions).ljust(ENTRY_COUNT * _ENTRY_BYTES, b"\0")


def _header(disk: uuid.UUID, sectors: int, entries: bytes, *, here: int, other: int, table: int) -> bytes:
    def pack(crc: int) -> bytes:
        return struct.pack("<8sIIIIQQQQ16sQIII", b"EFI PART", 0x00010000, 92, crc, 0, here, other, FIRST_USABLE_LBA,
                           last_usable_lba(sectors), disk.bytes_le, table, ENTRY_COUNT, _ENTRY_BYTES,
                           zlib.crc32(entries))  # fmt: skip

    return pack(zlib.crc32(pack(0)))


def _protective_mbr(sectors: int) -> bytes:
    """One partition of type 0xEE over the whole disk (UEFI 2.10, table 5.4)."""
    size = min(sectors - 1, 0xFFFFFFFF)
    entry = struct.pack("<B3sB3sII", 0, b"\x00\x02\x00", 0xEE, b"\xff\xff\xff", 1, size)
    return b"\0" * 446 + entry + b"\0" * 48 + b"\x55\xaa"
