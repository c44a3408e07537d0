"""The CCEL ACPI table, which tells where a confidential VM's firmware keeps its event log.

Source: ACPI 6.5, "CC Event Log ACPI Table": the 36-byte header, then ``u8 CC type``, ``u8 CC subtype``,
two reserved bytes, ``u64 log area minimum length`` and ``u64 log area start address``, all little-endian. Linux exposes
the table as ``/sys/firmware/acpi/tables/CCEL`` and the area as ``/sys/firmware/acpi/tables/data/CCEL``.
"""

from __future__ import annotations

import attrs
from tdxc.diagnostics import Code

from tdxc_runtime.measure.cursor import Cursor

SIGNATURE = b"CCEL"
TABLE_SIZE = 56
CC_TYPE_TDX = 2


@attrs.frozen(kw_only=True)
class CcelTable:
    """The table's own fields; ``area_length`` in bytes, ``area_address`` a guest physical address."""

    revision: int
    oem_id: bytes
    cc_type: int
    cc_subtype: int
    area_length: int
    area_address: int


def is_ccel_table(data: bytes) -> bool:
    """Whether a file looks like the table rather than the log area itself."""
    return data[:4] == SIGNATURE


def parse_ccel_table(data: bytes, *, name: str) -> CcelTable:
    """Read the table. E_EVENTLOG when it is too short, is another table, has a bad checksum or is not for TDX."""
    cursor = Cursor(data, name=name, code=Code.E_EVENTLOG)
    if bytes(cursor.take(4, "the table's signature")) != SIGNATURE:
        raise cursor.error("this is not a CCEL table: its signature is not 'CCEL'", at=0)
    length = cursor.u32("the table's length")
    if not TABLE_SIZE <= length <= len(data):
        raise cursor.error(f"the CCEL table claims {length} bytes", at=4)
    if sum(data[:length]) & 0xFF:
        raise cursor.error("the checksum of the CCEL table is wrong", at=9)
    revision = cursor.u8("the revision")
    cursor.u8("the checksum")
    oem_id = bytes(cursor.take(6, "the OEM id"))
    cursor.take(20, "the rest of the header")
    cc_type, cc_subtype = cursor.u8("the CC type"), cursor.u8("the CC subtype")
    if cc_type != CC_TYPE_TDX:
        raise cursor.error(f"the CCEL table is for confidential computing type {cc_type}, TDX is {CC_TYPE_TDX}", at=36)
    cursor.u16("the reserved field")
    return CcelTable(
        revision=revision,
        oem_id=oem_id,
        cc_type=cc_type,
        cc_subtype=cc_subtype,
        area_length=cursor.u64("the log area's length"),
        area_address=cursor.u64("the log area's address"),
    )


def write_ccel_table(table: CcelTable) -> bytes:
    """The 56 bytes of a table, with its checksum."""
    header = SIGNATURE + TABLE_SIZE.to_bytes(4, "little") + bytes((table.revision, 0))
    header += table.oem_id.ljust(6)[:6] + b"TDXVM   " + bytes(4) + b"TDXC" + bytes(4)
    body = bytes((table.cc_type, table.cc_subtype, 0, 0))
    body += table.area_length.to_bytes(8, "little") + table.area_address.to_bytes(8, "little")
    data = bytearray(header + body)
    data[9] = -sum(data) & 0xFF
    return bytes(data)
