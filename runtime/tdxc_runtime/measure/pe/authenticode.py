"""The byte ranges of an image's Authenticode digest, exactly as the firmware takes them.

Firmware hashes the image without its checksum, its certificate directory entry and its certificate table, and, unlike
signing tools, without padding the end to 8 bytes. Sources: Microsoft "Windows Authenticode Portable Executable
Signature Format", section "Calculating the PE Image Hash"; edk2 ``OvmfPkg/Tcg/TdTcg2Dxe/MeasureBootPeCoff.c`` (RTMRs)
and ``SecurityPkg/Tcg/Tcg2Dxe/MeasureBootPeCoff.c`` (PCRs), which agree.
"""

from __future__ import annotations

from .image import MalformedImageError, PeImage


def authenticode_ranges(image: PeImage) -> tuple[tuple[int, int], ...]:
    """``(offset, size)`` of each hashed range, in hashing order, none empty.

    :class:`MalformedImageError` for an image whose certificate table is larger than what follows its sections: firmware
    refuses to measure it.
    """
    after_checksum = image.checksum_offset + 4
    ranges = [(0, image.checksum_offset)]
    if image.certificate_entry is None:
        ranges.append((after_checksum, image.headers_size - after_checksum))
    else:
        after_entry = image.certificate_entry + 8
        ranges.append((after_checksum, image.certificate_entry - after_checksum))
        ranges.append((after_entry, image.headers_size - after_entry))
    hashed = image.headers_size
    for section in sorted(image.sections, key=lambda s: s.raw_offset):
        if section.raw_size:
            ranges.append((section.raw_offset, section.raw_size))
            hashed += section.raw_size
    if image.size > hashed:
        trailing = image.size - hashed - image.certificate_size
        if trailing < 0:
            raise MalformedImageError("its certificate table is larger than what follows the sections")
        ranges.append((hashed, trailing))
    return tuple((offset, size) for offset, size in ranges if size > 0)
