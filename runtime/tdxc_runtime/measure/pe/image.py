"""Parse the headers of a PE image, as far as measurement needs them; every field is checked against the file.

Source: Microsoft PE Format, "COFF File Header", "Optional Header" and "Section Table". All integers little-endian.
"""

from __future__ import annotations

import struct

import attrs

from tdxc_runtime.measure.sources import ByteSource, TruncatedInputError, Window

MACHINE_AMD64 = 0x8664
_MAX_SECTIONS = 96
_MAX_HEADERS = 1 << 20
_PE32, _PE32_PLUS = 0x10B, 0x20B
_CERTIFICATE_ENTRY = 4
_MEM_WRITE = 0x80000000


class MalformedImageError(ValueError):
    """The bytes are not a PE image that firmware would load."""


@attrs.frozen(kw_only=True)
class Section:
    """One row of the section table: where its bytes lie in the file, how many the loader maps and where.

    ``writable``: the section holds data that the program changes (IMAGE_SCN_MEM_WRITE).
    """

    name: str
    virtual_address: int
    virtual_size: int
    raw_offset: int
    raw_size: int
    writable: bool

    @property
    def stored_size(self) -> int:
        """How many of the mapped bytes come from the file; the loader zeroes the rest."""
        return min(self.raw_size, self.virtual_size)

    @property
    def memory_size(self) -> int:
        """How many bytes of memory the loader fills; a section without a size there is loaded as it is in the file."""
        return self.virtual_size or self.raw_size


@attrs.frozen(kw_only=True)
class PeImage:
    """The headers of an image. Offsets count from the start of the image.

    ``certificate_entry`` is the offset of the certificate table's data directory, or ``None`` when the image has fewer
    than five directories; ``certificate_size`` is the size that it states.
    """

    size: int
    machine: int
    checksum_offset: int
    certificate_entry: int | None
    certificate_size: int
    headers_size: int
    entry_point: int
    sections: tuple[Section, ...]

    def section(self, name: str) -> Section | None:
        """The first section of that name."""
        return next((section for section in self.sections if section.name == name), None)


def parse_image(source: ByteSource) -> PeImage:
    """Read the headers of a PE32 or PE32+ image; :class:`MalformedImageError` for headers that make no sense."""
    try:
        return _parse(source)
    except TruncatedInputError as error:
        raise MalformedImageError(f"the headers are cut short: {error}") from None


def _parse(source: ByteSource) -> PeImage:
    if source.read(0, 2) != b"MZ":
        raise MalformedImageError("it does not begin with 'MZ'")
    (header,) = struct.unpack("<I", source.read(0x3C, 4))
    if source.read(header, 4) != b"PE\0\0":
        raise MalformedImageError(f"there is no PE header at {header:#x}")
    machine, count, optional_size = struct.unpack("<HH12xH2x", source.read(header + 4, 20))
    if not 0 < count <= _MAX_SECTIONS:
        raise MalformedImageError(f"it has {count} sections")
    optional = header + 24
    (magic,) = struct.unpack("<H", source.read(optional, 2))
    if magic not in {_PE32, _PE32_PLUS}:
        raise MalformedImageError(f"its optional header has the unknown magic {magic:#x}")
    entry_point, headers_size = struct.unpack("<16xI40xI", source.read(optional, 64))
    directories = optional + (112 if magic == _PE32_PLUS else 96)
    (directory_count,) = struct.unpack("<I", source.read(directories - 4, 4))
    if optional_size < directories - optional + 8 * directory_count or directory_count > 16:
        raise MalformedImageError(
            f"its optional header of {optional_size} bytes cannot hold {directory_count} directories"
        )
    certificate_entry, certificate_size = None, 0
    if directory_count > _CERTIFICATE_ENTRY:
        certificate_entry = directories + 8 * _CERTIFICATE_ENTRY
        (certificate_size,) = struct.unpack("<4xI", source.read(certificate_entry, 8))
    table = optional + optional_size
    if not table + 40 * count <= headers_size <= min(source.size, _MAX_HEADERS):
        raise MalformedImageError(f"SizeOfHeaders {headers_size:#x} does not fit the section table and the file")
    rows = source.read(table, 40 * count)
    return PeImage(
        size=source.size,
        machine=machine,
        checksum_offset=optional + 64,
        certificate_entry=certificate_entry,
        certificate_size=certificate_size,
        headers_size=headers_size,
        entry_point=entry_point,
        sections=tuple(_parse_section(rows[40 * i : 40 * (i + 1)], source.size) for i in range(count)),
    )


def _parse_section(row: bytes, file_size: int) -> Section:
    name_field, virtual_size, virtual_address, raw_size, raw_offset, flags = struct.unpack("<8sIIII12xI", row)
    name = name_field.rstrip(b"\0").decode("latin-1")
    if raw_size and raw_offset + raw_size > file_size:
        raise MalformedImageError(f"section '{name}' reaches {raw_offset + raw_size:#x}, beyond the end of the file")
    return Section(
        name=name,
        virtual_address=virtual_address,
        virtual_size=virtual_size,
        raw_offset=raw_offset,
        raw_size=raw_size,
        writable=bool(flags & _MEM_WRITE),
    )


def section_window(source: ByteSource, section: Section) -> Window:
    """The section's bytes as they lie in memory: ``VirtualSize`` of them, zeros after the stored ones."""
    return Window(
        source=source,
        offset=section.raw_offset,
        stored=section.stored_size,
        size=section.virtual_size,
        name=f"{source.name}[{section.name}]",
    )
