"""The TDVF metadata of a firmware file: which parts of it the VMM puts where, and what of that is measured.

The file ends with a table of GUIDed entries that is read backwards; one of them gives the place of the descriptor.
Sources: Intel TDX Virtual Firmware Design Guide, section 11 (TDVF descriptor); edk2
``OvmfPkg/ResetVector/Ia16/ResetVectorVtf0.asm`` (the GUID table) and ``OvmfPkg/ResetVector/X64/OvmfSecMetadata.asm``.
All integers little-endian, GUIDs mixed-endian.
"""

from __future__ import annotations

import enum
import itertools
import struct
import uuid

import attrs
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

PAGE = 4096
FOOTER_GUID = uuid.UUID("96b582de-1fb2-45f7-baea-a366c55a082d")
METADATA_GUID = uuid.UUID("e47a6535-984a-4798-865e-4685a7bf8ec2")
DESCRIPTOR_GUID = uuid.UUID("e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae")
_TABLE_END = 32
_MAX_SECTIONS = 64
_MAX_FILE = 64 << 20


class SectionType(enum.IntEnum):
    """What a section holds."""

    BFV = 0
    CFV = 1
    TD_HOB = 2
    TEMP_MEM = 3
    PERM_MEM = 4
    PAYLOAD = 5
    PAYLOAD_PARAM = 6
    TD_INFO = 7
    TD_PARAMS = 8

    @property
    def title(self) -> str:
        """The name in the design guide."""
        return _TITLES[self]


_TITLES = {
    SectionType.BFV: "BFV",
    SectionType.CFV: "CFV",
    SectionType.TD_HOB: "TD_HOB",
    SectionType.TEMP_MEM: "TempMem",
    SectionType.PERM_MEM: "PermMem",
    SectionType.PAYLOAD: "Payload",
    SectionType.PAYLOAD_PARAM: "PayloadParam",
    SectionType.TD_INFO: "TD_INFO",
    SectionType.TD_PARAMS: "TD_PARAMS",
}
_HAS_DATA = frozenset({SectionType.BFV, SectionType.CFV})
_NO_DATA = frozenset({SectionType.TD_HOB, SectionType.TEMP_MEM, SectionType.PERM_MEM})
MR_EXTEND, PAGE_AUG = 1, 2


@attrs.frozen(kw_only=True)
class TdvfSection:
    """One section: bytes ``[offset, offset + raw_size)`` of the file go to guest address ``address``.

    ``memory_size`` is how much memory the section takes; what exceeds ``raw_size`` is zero. ``attributes`` has bit 0
    when the content is measured into MRTD and bit 1 when the pages are added after the TD was finalised.
    """

    type: SectionType
    offset: int
    raw_size: int
    address: int
    memory_size: int
    attributes: int

    @property
    def measured(self) -> bool:
        """Whether the content enters MRTD."""
        return bool(self.attributes & MR_EXTEND)

    @property
    def added_at_build(self) -> bool:
        """Whether the pages are there from the start, so that adding them enters MRTD."""
        return not self.attributes & PAGE_AUG

    @property
    def end(self) -> int:
        """The guest address after the section."""
        return self.address + self.memory_size


@attrs.frozen(kw_only=True)
class Tdvf:
    """A firmware file's metadata. ``descriptor_offset`` counts from the start of the file."""

    name: str
    descriptor_offset: int
    sections: tuple[TdvfSection, ...]

    def first(self, kind: SectionType) -> TdvfSection | None:
        """The first section of a kind."""
        return next((section for section in self.sections if section.type is kind), None)


def firmware_error(
    name: str, message: str, fix: str = "use a TDVF build of OVMF, such as OVMF.inteltdx.fd"
) -> DiagnosticError:
    """E_FIRMWARE about the file ``name``."""
    return DiagnosticError.of(Code.E_FIRMWARE, message, SourceSpan(file=name), fix=fix)


def guid_table(firmware: bytes) -> dict[uuid.UUID, bytes]:
    """The entries of the table at the end of an OVMF image, by GUID; empty when there is no table.

    ``ValueError`` for a table whose lengths do not add up.
    """
    if len(firmware) < _TABLE_END + 18:
        return {}
    end = len(firmware) - _TABLE_END
    total, guid = _entry_footer(firmware, end)
    if guid != FOOTER_GUID:
        return {}
    start = end - total
    if total < 18 or start < 0:
        raise ValueError(f"the table of GUIDs claims {total} bytes")
    position = end - 18
    entries: dict[uuid.UUID, bytes] = {}
    while position > start:
        if position - start < 18:
            raise ValueError("the table of GUIDs does not add up")
        length, guid = _entry_footer(firmware, position)
        if not 18 <= length <= position - start:
            raise ValueError(f"the entry {guid} claims {length} bytes")
        entries.setdefault(guid, firmware[position - length : position - 18])
        position -= length
    return entries


def _entry_footer(firmware: bytes, end: int) -> tuple[int, uuid.UUID]:
    length, guid = struct.unpack("<H16s", firmware[end - 18 : end])
    return length, uuid.UUID(bytes_le=guid)


def parse_tdvf(firmware: bytes, *, name: str) -> Tdvf:
    """Find and check the metadata; E_FIRMWARE, naming the file ``name``, for a file without any or with bad ones."""
    if len(firmware) > _MAX_FILE:
        raise firmware_error(name, f"a firmware image of {len(firmware)} bytes is not plausible")
    try:
        entry = guid_table(firmware).get(METADATA_GUID)
        if entry is None:
            raise firmware_error(name, "this file has no TDVF metadata, so it is no firmware for a TD")
        return _parse_descriptor(firmware, entry, name)
    except (ValueError, struct.error) as error:
        raise firmware_error(name, f"its TDVF metadata is damaged: {error}", "get the file again") from None


def _parse_descriptor(firmware: bytes, entry: bytes, name: str) -> Tdvf:
    if len(entry) < 4:
        raise ValueError("the metadata entry is too short")
    (back,) = struct.unpack("<I", entry[-4:])
    start = len(firmware) - back
    if not 16 <= start <= len(firmware) - 16:
        raise ValueError(f"the descriptor is said to lie {back:#x} bytes before the end")
    if firmware[start - 16 : start] != DESCRIPTOR_GUID.bytes_le:
        raise ValueError(f"there is no descriptor at {start:#x}")
    signature, length, version, count = struct.unpack("<4sIII", firmware[start : start + 16])
    if signature != b"TDVF" or version != 1:
        raise ValueError(f"the descriptor has signature {signature!r} and version {version}")
    if not 0 < count <= _MAX_SECTIONS or length != 16 + 32 * count or start + length > len(firmware):
        raise ValueError(f"the descriptor has {count} sections in {length} bytes")
    rows = (firmware[start + 16 + 32 * i : start + 48 + 32 * i] for i in range(count))
    sections = tuple(_parse_section(row, len(firmware)) for row in rows)
    _check_overlap(sections)
    if not any(s.type is SectionType.BFV and s.measured for s in sections):
        raise ValueError("no boot firmware volume is measured")
    return Tdvf(name=name, descriptor_offset=start, sections=sections)


def _parse_section(row: bytes, file_size: int) -> TdvfSection:
    offset, raw_size, address, memory_size, kind, attributes = struct.unpack("<IIQQII", row)
    if kind not in SectionType._value2member_map_:
        raise ValueError(f"unknown section type {kind}")
    section = TdvfSection(
        type=SectionType(kind),
        offset=offset,
        raw_size=raw_size,
        address=address,
        memory_size=memory_size,
        attributes=attributes,
    )
    complaint = _section_complaint(section, file_size)
    if complaint:
        raise ValueError(f"the {section.type.title} section at {address:#x} {complaint}")
    return section


def _section_complaint(section: TdvfSection, file_size: int) -> str:
    """What is wrong with a section, or an empty string."""
    checks = (
        (section.attributes & ~(MR_EXTEND | PAGE_AUG), f"has unknown attributes {section.attributes:#x}"),
        (section.address % PAGE or section.memory_size % PAGE, "is not made of whole pages"),
        (not section.memory_size, "is empty"),
        (section.raw_size > section.memory_size, "has more data than memory"),
        (section.offset + section.raw_size > file_size, "reaches beyond the end of the file"),
        (section.end > 1 << 52, "lies beyond the guest's address space"),
        (section.type in _HAS_DATA and not section.raw_size, "has no data"),
        (section.type in _NO_DATA and section.raw_size, "has data"),
        (section.measured and not section.added_at_build, "is measured but added too late for it"),
        (section.memory_size > _MAX_FILE and section.measured, "is too large to be measured"),
        (section.memory_size > 1 << 32, "is too large"),
    )
    return next((message for wrong, message in checks if wrong), "")


def _check_overlap(sections: tuple[TdvfSection, ...]) -> None:
    ordered = sorted(sections, key=lambda s: s.address)
    for low, high in itertools.pairwise(ordered):
        if low.end > high.address:
            raise ValueError(f"sections overlap at {high.address:#x}")
