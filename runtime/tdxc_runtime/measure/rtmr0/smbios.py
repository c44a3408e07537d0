"""The SMBIOS tables as firmware measures them: QEMU's structures and the firmware's own, without what names a machine.

Sources: DMTF DSP0134 (SMBIOS) 3.7, section 6.1 (structures, strings) and 7 (fields); edk2
``OvmfPkg/SmbiosPlatformDxe/SmbiosPlatformDxe.c`` (QEMU's structures in their order, then a type 0 of its own),
``MdeModulePkg/Universal/SmbiosDxe/SmbiosDxe.c`` (handles, end of table) and
``MdeModulePkg/Universal/SmbiosMeasurementDxe/SmbiosMeasurementDxe.c`` (what is blanked before hashing). All integers
little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import attrs

from tdxc_runtime.measure.firmware.texts import FirmwareTexts

_HEADER = struct.Struct("<BBH")
_BIOS, _PROCESSOR, _END, _OEM = 0, 4, 127, 128
_LAST_HANDLE = 0xFEFF
_PROCESSOR_ID = slice(8, 16)
_BLANKED_WHOLE = frozenset({11, 15, 18, 31, 33})
"""OEM strings, event log, 32- and 64-bit memory errors, boot integrity services."""


@attrs.frozen
class _Field:
    """A field that firmware blanks: where in the structure, how many bytes, whether it is the number of a string."""

    offset: int
    size: int = 1
    is_string: bool = False


def _string(offset: int) -> _Field:
    return _Field(offset, is_string=True)


_BLANKED = {
    1: (_string(7), _Field(8, 16), _Field(24)),
    2: (_string(7), _string(10)),
    3: (_string(7), _string(8)),
    4: (
        *map(_string, (32, 33, 34)),
        *map(_Field, (35, 36, 37)),
        *(_Field(offset, 2) for offset in (42, 44, 46)),
        _Field(17),
        _Field(22, 2),
    ),
    17: tuple(map(_string, (24, 25, 26))),
    22: (_string(7), _Field(16, 2), _Field(18, 2)),
    23: (_Field(5, 2),),
    27: (_Field(12, 2),),
    39: tuple(map(_string, (8, 9, 10))),
}
"""Serial numbers, asset tags, the machine's UUID, numbers of cores and speeds, by the structure's type."""


def measured_smbios(tables: bytes, texts: FirmwareTexts, *, processor_id: bytes | None = None) -> bytes:
    """The bytes that firmware hashes, from QEMU's ``etc/smbios/smbios-tables``.

    ``processor_id`` are the eight bytes of CPUID leaf 1 (EAX, EDX) in place of those of the QEMU that gave the tables.
    ``ValueError`` for tables that are damaged.
    """
    found = [bytearray(structure) for structure in _structures(tables)]
    if all(structure[0] != _BIOS for structure in found):
        handles = {_HEADER.unpack_from(structure)[2] for structure in found}
        free = next(handle for handle in range(_LAST_HANDLE) if handle not in handles)
        found.append(bytearray(_bios_structure(free, texts)))
    for structure in found:
        if structure[0] == _PROCESSOR and structure[1] >= _PROCESSOR_ID.stop and processor_id is not None:
            structure[_PROCESSOR_ID] = processor_id
        _blank(structure)
    return b"".join((*found, _HEADER.pack(_END, _HEADER.size, _LAST_HANDLE), b"\0\0"))


def _structures(tables: bytes) -> Iterator[bytes]:
    """Each structure with its strings, up to the one that ends the table."""
    position = 0
    while position + _HEADER.size <= len(tables):
        kind, length, _handle = _HEADER.unpack_from(tables, position)
        strings = tables.find(b"\0\0", position + length)
        if length < _HEADER.size or strings < 0:
            break
        if kind == _END:
            return
        yield tables[position : strings + 2]
        position = strings + 2
    raise ValueError(f"the SMBIOS table is damaged at {position:#x}")


def _bios_structure(handle: int, texts: FirmwareTexts) -> bytes:
    """The firmware's own structure of type 0, 26 bytes and its three strings."""
    body = struct.pack("<BBHBBQBBBBBBH", 1, 2, 0xE800, 3, 0, 1 << 3, 0, 0x1C, 0, 0, 0xFF, 0xFF, 0)
    strings = b"".join(text.encode("ascii") + b"\0" for text in (texts.vendor, texts.version, texts.release_date))
    return _HEADER.pack(_BIOS, _HEADER.size + len(body), handle) + body + strings + b"\0"


def _blank(structure: bytearray) -> None:
    """Blank what firmware leaves out: strings become spaces, numbers zero."""
    kind, length, _handle = _HEADER.unpack_from(structure)
    if kind in _BLANKED_WHOLE or kind >= _OEM:
        structure[_HEADER.size :] = bytes(len(structure) - _HEADER.size)
        return
    for field in _BLANKED.get(kind, ()):
        if field.offset + field.size > length:
            continue
        if field.is_string and structure[field.offset]:
            start, end = _string_place(structure, length, structure[field.offset])
            structure[start:end] = b" " * (end - start)
        structure[field.offset : field.offset + field.size] = bytes(field.size)


def _string_place(structure: Sequence[int], length: int, number: int) -> tuple[int, int]:
    """Where the string of that number lies; the last one when there are not that many."""
    data, start, end = bytes(structure), length, length
    for _ in range(number):
        if not data[start]:
            break
        end = data.index(b"\0", start)
        begin, start = start, end + 1
    return (begin, end) if end > length else (length, length)
