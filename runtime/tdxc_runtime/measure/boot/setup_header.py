"""The setup header of a kernel as QEMU patches it for ``-kernel``, and whether the firmware measures that copy.

QEMU's Linux loader fills in the fields that a boot loader is to fill in, in the copy that it hands to the firmware
through the legacy fw_cfg items. Sources: QEMU ``hw/i386/x86-common.c`` (``x86_load_linux``) at 10.0.13; Linux
``Documentation/arch/x86/boot.rst``, "The Real-Mode Kernel Header". All integers little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from tdxc_runtime.measure.pe.diagnose import artifact_error
from tdxc_runtime.measure.pe.digests import Literal, Segment, Span
from tdxc_runtime.measure.sources import ByteSource, TruncatedInputError

HEADER_END = 0x268
_ACPI_RESERVED = 0x28000
_PAGE_MASK = ~0xFFF
_LOADER_ID_QEMU = 0xB0
_CAN_USE_HEAP = 0x80
_CAN_LOAD_ABOVE_4G = 0x02
_LOADED_HIGH = 0x01
_REAL_MODE, _CMDLINE = 0x10000, 0x20000


def is_bzimage(kernel: ByteSource) -> bool:
    """Whether the file has a Linux setup header."""
    return kernel.size >= HEADER_END and kernel.read(0x202, 4) == b"HdrS"


def patched_bzimage_header(kernel: ByteSource, *, initrd_size: int, low_ram: int, cmdline: str, artifact: str) -> bytes:
    """The first ``HEADER_END`` bytes of a bzImage as QEMU rewrites them.

    ``low_ram`` is the RAM below 4 GiB in bytes; ``initrd_size`` is 0 when there is no initrd. E_ARTIFACT for a file
    that is no bzImage of protocol 2.02 or newer, or a command line with ``vga=``, which goes into the header too.
    """
    try:
        header = bytearray(kernel.read(0, HEADER_END))
    except TruncatedInputError:
        raise artifact_error(artifact, "this is too short to be a kernel", "name a bzImage or a UKI") from None
    (protocol,) = struct.unpack_from("<H", header, 0x206)
    if header[0x202:0x206] != b"HdrS" or protocol < 0x202 or not header[0x211] & _LOADED_HIGH:
        raise artifact_error(artifact, "this is no bzImage that can boot under UEFI", "name a bzImage or a UKI")
    if "vga=" in cmdline:
        raise artifact_error(artifact, "QEMU writes 'vga=' into the kernel's header", "leave 'vga=' out")
    header[0x210] = _LOADER_ID_QEMU
    header[0x211] |= _CAN_USE_HEAP
    struct.pack_into("<H", header, 0x224, _CMDLINE - _REAL_MODE - 0x200)
    struct.pack_into("<I", header, 0x228, _CMDLINE)
    if initrd_size:
        address = _initrd_address(header, protocol, initrd_size, low_ram)
        if address <= 0:
            raise artifact_error(artifact, f"an initrd of {initrd_size} bytes does not fit below {low_ram:#x}")
        struct.pack_into("<II", header, 0x218, address, initrd_size)
    return bytes(header)


def _initrd_address(header: bytearray, protocol: int, size: int, low_ram: int) -> int:
    """Where QEMU puts the initrd: as high as the kernel allows and the RAM below 4 GiB reaches."""
    limit = int.from_bytes(header[0x22C:0x230], "little") if protocol >= 0x203 else 0x37FFFFFF
    if protocol >= 0x20C and int.from_bytes(header[0x236:0x238], "little") & _CAN_LOAD_ABOVE_4G:
        limit = 0xFFFFFFFF
    limit = min(limit, low_ram - _ACPI_RESERVED - 1)
    return (limit - size) & _PAGE_MASK


def patched_efi_header(image: ByteSource, *, cmdline: str) -> bytes:
    """The first ``HEADER_END`` bytes of an EFI image without a setup header, as a QEMU before 10.0 damages them.

    It takes the file for a kernel of protocol 0 and writes the magic 0xA33F and the command line's offset into what is
    reserved space of the DOS header (0x20 to 0x23).
    """
    header = bytearray(image.read(0, HEADER_END))
    reserved = (len(cmdline.encode()) + 16) & ~15
    struct.pack_into("<HH", header, 0x20, 0xA33F, 0xA000 - reserved)
    return bytes(header)


def overlay(segments: Sequence[Segment], start: bytes) -> tuple[Segment, ...]:
    """The same segments of a file whose beginning is replaced by ``start``."""
    result: list[Segment] = []
    for segment in segments:
        if not isinstance(segment, Span) or segment.offset >= len(start):
            result.append(segment)
            continue
        covered = start[segment.offset : segment.offset + segment.size]
        result.append(Literal(covered))
        if len(covered) < segment.size:
            result.append(Span(segment.offset + len(covered), segment.size - len(covered)))
    return tuple(result)
