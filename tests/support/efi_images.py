"""Made-up EFI images, UKIs, kernels, firmware files and disks, small but whole."""

import struct
import uuid
import zlib
from collections.abc import Sequence

import attrs
from tdxc_runtime.measure.firmware.tdvf import DESCRIPTOR_GUID, FOOTER_GUID, METADATA_GUID

ALIGNMENT = 512
SECTION_ALIGNMENT = 4096
MACHINE_AMD64 = 0x8664


@attrs.frozen
class Part:
    """A section to be: its name, its data, and its size in memory where that differs.

    ``address`` puts it there instead of behind the section before; ``writable``: as ``.data`` is.
    """

    name: str
    data: bytes
    virtual_size: int | None = None
    address: int | None = None
    writable: bool = False


def _align(size: int, alignment: int) -> int:
    return (size + alignment - 1) // alignment * alignment


def build_pe(
    parts: Sequence[Part],
    *,
    certificate: bytes = b"",
    trailing: bytes = b"",
    machine: int = MACHINE_AMD64,
    directories: int = 16,
    dos: bytes = b"",
    header_at: int = 0x80,
) -> bytes:
    """A PE32+ image with the given sections in file order; ``dos`` fills the space before the PE header."""
    optional_size = 112 + 8 * directories
    table = header_at + 24 + optional_size
    headers_size = _align(table + 40 * len(parts), ALIGNMENT)
    rows, bodies = [], []
    raw_offset, address = headers_size, SECTION_ALIGNMENT
    for part in parts:
        address = address if part.address is None else part.address
        raw = part.data.ljust(_align(len(part.data), ALIGNMENT), b"\0")
        virtual = len(part.data) if part.virtual_size is None else part.virtual_size
        name = part.name.encode().ljust(8, b"\0")[:8]
        place, flags = raw_offset if raw else 0, 0xC0000040 if part.writable else 0x40000040
        rows.append(struct.pack("<8sIIII12xI", name, virtual, address, len(raw), place, flags))
        bodies.append(raw)
        raw_offset += len(raw)
        address += _align(max(virtual, 1), SECTION_ALIGNMENT)
    optional = struct.pack("<H14xI8xQII", 0x20B, 0x1000, 0x140000000, SECTION_ALIGNMENT, ALIGNMENT)
    optional = optional.ljust(56, b"\0") + struct.pack("<III", address, headers_size, 0xC0FFEE)
    optional = optional.ljust(108, b"\0") + struct.pack("<I", directories)
    entries = bytearray(8 * directories)
    if directories > 4 and certificate:
        struct.pack_into("<II", entries, 32, raw_offset + len(trailing), len(certificate))
    coff = struct.pack("<4sHH12xHH", b"PE\0\0", machine, len(parts), optional_size, 0x22)
    start = (b"MZ" + dos[2:]).ljust(header_at, b"\0")[:header_at]
    start = start[:0x3C] + struct.pack("<I", header_at) + start[0x40:]
    headers = (start + coff + optional + bytes(entries) + b"".join(rows)).ljust(headers_size, b"\0")
    return headers + b"".join(bodies) + trailing + certificate


def build_kernel(version: str = "6.12.43-amd64", *, payload: bytes = b"kernel" * 100, protocol: int = 0x20F) -> bytes:
    """A bzImage as far as its headers go: setup header, version text, PE image."""
    setup = bytearray(0x400)
    setup[:2] = b"MZ"
    setup[0x1F1] = 1
    setup[0x202:0x206] = b"HdrS"
    struct.pack_into("<H6xH", setup, 0x206, protocol, 0x100)
    setup[0x211] = 0x01
    struct.pack_into("<I", setup, 0x22C, 0x7FFFFFFF)
    struct.pack_into("<H", setup, 0x236, 0x3F)
    text = version.encode() + b" (test)\0"
    setup[0x300 : 0x300 + len(text)] = text
    return build_pe([Part(".text", payload)], dos=bytes(setup), header_at=0x400)


def sdmagic(version: str) -> bytes:
    return f"#### LoaderInfo: systemd-stub {version} ####".encode() + b"\0"


def build_uki(
    *,
    stub: str = "257.13-1~deb13u1",
    cmdline: str | None = "console=ttyS0 quiet",
    initrd: bytes = b"initrd bytes, seventeen more",
    osrel: bytes = b"ID=debian\nVERSION_ID=13\n",
    kernel: bytes | None = None,
    uname: str = "6.12.43-amd64",
    extra: Sequence[Part] = (),
    certificate: bytes = b"",
) -> bytes:
    """A UKI as ukify lays it out: stub sections first, then payload sections."""
    parts = [
        Part(".text", b"\x90" * 700),
        Part(".sbat", b"sbat,1,SBAT Version,sbat,1,https://example.org\n\0"),
        Part(".sdmagic", sdmagic(stub)),
        Part(".osrel", osrel),
        *(() if cmdline is None else (Part(".cmdline", cmdline.encode()),)),
        Part(".uname", uname.encode()),
        Part(".linux", build_kernel() if kernel is None else kernel),
        *((Part(".initrd", initrd),) if initrd else ()),
        *extra,
    ]
    return build_pe(parts, certificate=certificate)


@attrs.frozen
class Area:
    """A section of TDVF metadata: file offset and size, guest address and memory size, type, attributes."""

    offset: int
    raw_size: int
    address: int
    memory_size: int
    kind: int
    attributes: int = 0

    def pack(self) -> bytes:
        return struct.pack(
            "<IIQQII", self.offset, self.raw_size, self.address, self.memory_size, self.kind, self.attributes
        )


DEFAULT_AREAS = (
    Area(0x2000, 0x3000, 0xFFFFD000, 0x3000, 0, 1),
    Area(0, 0x2000, 0xFFFFB000, 0x2000, 1),
    Area(0, 0, 0x810000, 0x10000, 3),
    Area(0, 0, 0x809000, 0x2000, 2),
)


def build_firmware(
    areas: Sequence[Area] = DEFAULT_AREAS,
    *,
    size: int = 0x5000,
    version: int = 1,
    fill: bytes = b"",
    count: int | None = None,
    length: int | None = None,
) -> bytes:
    """A firmware file with TDVF metadata near its end and the table of GUIDs that leads to it."""
    image = bytearray((fill or bytes(range(256))) * (size // max(1, len(fill or bytes(256))) + 1))[:size]
    total = 16 + 32 * len(areas)
    descriptor = struct.pack("<4sIII", b"TDVF", total if length is None else length, version, count or len(areas))
    descriptor += b"".join(area.pack() for area in areas)
    start = size - 0x400
    image[start - 16 : start] = DESCRIPTOR_GUID.bytes_le
    image[start : start + len(descriptor)] = descriptor
    image[size - 0x80 : size - 32] = table_bytes(((METADATA_GUID, struct.pack("<I", size - start)),), 0x60)
    return bytes(image)


def table_bytes(entries: Sequence[tuple[uuid.UUID, bytes]], room: int) -> bytes:
    """The GUIDed table, which is read backwards, right-aligned in ``room`` bytes."""
    body = b"".join(data + struct.pack("<H", len(data) + 18) + guid.bytes_le for guid, data in entries)
    footer = struct.pack("<H", len(body) + 18) + FOOTER_GUID.bytes_le
    return (body + footer).rjust(room, b"\0")


def build_gpt_disk(partitions: Sequence[tuple[uuid.UUID, int, int, bytes]], *, sectors: int = 4096) -> bytes:
    """A disk with a protective MBR and a primary GPT; ``(type, first sector, last sector, content)`` per partition."""
    disk = bytearray(sectors * 512)
    table = bytearray(128 * 128)
    for number, (kind, first, last, content) in enumerate(partitions):
        identifier = uuid.uuid5(kind, str(number))
        name = f"part{number}".encode("utf-16-le")
        row = struct.pack("<16s16sQQQ72s", kind.bytes_le, identifier.bytes_le, first, last, 0, name)
        table[128 * number : 128 * (number + 1)] = row
        disk[first * 512 : first * 512 + len(content)] = content
    identifier = uuid.uuid5(uuid.NAMESPACE_OID, "disk")
    fields = (b"EFI PART", 0x10000, 92, 0, 0, 1, sectors - 1, 34, sectors - 34, identifier.bytes_le, 2, 128, 128)
    header = struct.pack("<8sIIIIQQQQ16sQIII", *fields, zlib.crc32(table))
    header = header[:16] + struct.pack("<I", zlib.crc32(header)) + header[20:]
    disk[512 : 512 + len(header)] = header
    disk[1024 : 1024 + len(table)] = table
    return bytes(disk)
