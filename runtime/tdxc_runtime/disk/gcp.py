"""GCP's import format: a gzip-compressed tar in old GNU format with one sparse member, ``disk.raw``.

Source: GNU tar manual, "Storing Sparse Files" and the structures of tar.h (``struct oldgnu_header``). Owner, mode and
time are fixed, and the sparse map follows from the disk's own layout rather than from the file system beneath it.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Iterator
from typing import BinaryIO

from tdxc_runtime.disk.extents import SparseImage

BLOCK = 512
_IN_HEADER, _IN_EXTENSION = 4, 21
_RECORD_BYTES = 20 * BLOCK
_GZIP_HEADER = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
"""Deflate, no name, no time, best compression, unknown system (RFC 1952, section 2.3)."""

_LEVEL = 9


def write_gcp_tar(image: SparseImage, file: BinaryIO) -> None:
    """Write the archive of ``disk.raw``. Raises ValueError unless the disk is a whole number of GiB."""
    if image.size % (1 << 30):
        raise ValueError(f"{image.size} bytes are not a whole number of GiB")
    packer = zlib.compressobj(_LEVEL, zlib.DEFLATED, -15)
    file.write(_GZIP_HEADER)
    crc = length = 0
    for block in tar_blocks(image):
        crc = zlib.crc32(block, crc)
        length += len(block)
        file.write(packer.compress(block))
    file.write(packer.flush())
    file.write(struct.pack("<II", crc, length & 0xFFFFFFFF))


def tar_blocks(image: SparseImage) -> Iterator[bytes]:
    """The uncompressed archive, padded to a full record of 20 blocks as tar(1) does."""
    spans = _data_map(image)
    written = 0
    for block in _member(image, spans):
        written += len(block)
        yield block
    end = 2 * BLOCK
    yield b"\0" * (end + -(written + end) % _RECORD_BYTES)


def _member(image: SparseImage, spans: list[tuple[int, int]]) -> Iterator[bytes]:
    stored = sum(size for _offset, size in spans)
    yield _header(image.size, stored, spans)
    rest = spans[_IN_HEADER:]
    while rest:
        part, rest = rest[:_IN_EXTENSION], rest[_IN_EXTENSION:]
        yield b"".join(_span(*span) for span in part).ljust(504, b"\0") + bytes([bool(rest)]) + b"\0" * 7
    for _number, block in image.aligned(BLOCK):
        yield block


def _data_map(image: SparseImage) -> list[tuple[int, int]]:
    """Runs of blocks that hold data, as (offset, size); behind the last, an empty run at the disk's end."""
    runs: list[tuple[int, int]] = []
    for extent in image.extents:
        start, end = extent.offset // BLOCK * BLOCK, -(-extent.end // BLOCK) * BLOCK
        if runs and start <= runs[-1][0] + runs[-1][1]:
            runs[-1] = (runs[-1][0], end - runs[-1][0])
        else:
            runs.append((start, end - start))
    if not runs or sum(runs[-1]) < image.size:
        runs.append((image.size, 0))
    return runs


def _header(real_size: int, stored: int, spans: list[tuple[int, int]]) -> bytes:
    def pack(checksum: bytes) -> bytes:
        plain = struct.pack(
            "<100s8s8s8s12s12s8sc100s8s32s32s8s8s",
            b"disk.raw", b"0000644\0", b"0000000\0", b"0000000\0", _number(stored), b"00000000000\0", checksum, b"S",
            b"", b"ustar  \0", b"root", b"root", b"", b"",
        )  # fmt: skip
        gnu = b"\0" * 41 + b"".join(_span(*span) for span in spans[:_IN_HEADER]).ljust(96, b"\0")
        return (plain + gnu + bytes([len(spans) > _IN_HEADER]) + _number(real_size)).ljust(BLOCK, b"\0")

    total = sum(pack(b" " * 8))
    return pack(f"{total:06o}\0 ".encode())


def _span(offset: int, size: int) -> bytes:
    return _number(offset) + _number(size)


def _number(value: int) -> bytes:
    """Eleven octal digits and a NUL, or GNU's base-256 form for what they cannot hold."""
    if value < 8**11:
        return f"{value:011o}\0".encode()
    return b"\x80" + value.to_bytes(11, "big")
