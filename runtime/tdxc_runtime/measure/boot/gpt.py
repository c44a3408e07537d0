"""The partition table event of a disk boot.

The event's data is ``UEFI_GPT_DATA``: the 92 bytes of the primary header, the number of used entries as a 64-bit
integer, and those entries as they lie on the disk. Identifiers, names, sizes and the header's checksums all count.
Sources: TCG PC Client Platform Firmware Profile 1.06, section 10.2.6; edk2 ``Tcg2MeasureGptTable`` in
``SecurityPkg/Library/DxeTpm2MeasureBootLib``; UEFI 2.10 section 5.3. All integers little-endian.
"""

from __future__ import annotations

import struct
import zlib

import attrs

from tdxc_runtime.measure.events import EventType, Origin, PredictedEvent, Register
from tdxc_runtime.measure.pe.diagnose import artifact_error
from tdxc_runtime.measure.sources import ByteSource, TruncatedInputError

SECTOR = 512
ESP_TYPE = bytes.fromhex("28732ac11ff8d211ba4b00a0c93ec93b")
"""C12A7328-F81F-11D2-BA4B-00A0C93EC93B, in the byte order of the disk."""
_HEADER_SIZE = 92
_MAX_ENTRIES = 4096


@attrs.frozen(kw_only=True)
class Partition:
    """A used entry: its type GUID as stored, and its first and last sector (inclusive)."""

    type_guid: bytes
    first_lba: int
    last_lba: int
    raw: bytes


@attrs.frozen(kw_only=True)
class PartitionTable:
    """The primary GPT of a disk."""

    header: bytes
    partitions: tuple[Partition, ...]

    @property
    def event_data(self) -> bytes:
        """``UEFI_GPT_DATA``."""
        return self.header + struct.pack("<Q", len(self.partitions)) + b"".join(p.raw for p in self.partitions)


def read_partition_table(disk: ByteSource, *, artifact: str) -> PartitionTable:
    """Parse the primary GPT of a disk with 512-byte sectors; its first 34 sectors are enough.

    E_ARTIFACT when there is none or when its checksums are wrong, in which case firmware would repair or reject it.
    """
    try:
        return _parse(disk, artifact)
    except TruncatedInputError as error:
        raise artifact_error(artifact, f"the partition table is cut short: {error}") from None


def _parse(disk: ByteSource, artifact: str) -> PartitionTable:
    header = disk.read(SECTOR, _HEADER_SIZE)
    signature, _revision, size, checksum, _zero, entries_lba, count, entry_size, entries_checksum = struct.unpack(
        "<8sIIII48xQIII", header
    )
    if signature != b"EFI PART":
        raise artifact_error(artifact, "the disk has no GPT in its second sector", "name a disk image in raw format")
    if size != _HEADER_SIZE or zlib.crc32(header[:16] + bytes(4) + header[20:]) != checksum:
        raise artifact_error(artifact, "the header of the partition table has a wrong checksum")
    if entry_size != 128 or not 0 < count <= _MAX_ENTRIES:
        raise artifact_error(artifact, f"the partition table has {count} entries of {entry_size} bytes")
    table = disk.read(entries_lba * SECTOR, count * entry_size)
    if zlib.crc32(table) != entries_checksum:
        raise artifact_error(artifact, "the entries of the partition table have a wrong checksum")
    rows = (table[start : start + entry_size] for start in range(0, len(table), entry_size))
    return PartitionTable(header=header, partitions=tuple(_partition(row) for row in rows if any(row[:16])))


def _partition(row: bytes) -> Partition:
    type_guid, first, last = struct.unpack("<16s16xQQ", row[:48])
    return Partition(type_guid=type_guid, first_lba=first, last_lba=last, raw=row)


def gpt_event(table: PartitionTable, *, artifact: str) -> PredictedEvent:
    """The event that firmware makes before it starts the first application from a disk."""
    return PredictedEvent.of_bytes(
        register=Register.pcr(5),
        event_type=EventType.EV_EFI_GPT_EVENT,
        data=table.event_data,
        description=f"the firmware measures the partition table: {len(table.partitions)} partitions",
        origin=Origin(artifact=artifact, section="GPT", rule="edk2 DxeTpm2MeasureBootLib"),
    )
