"""The firmware volumes inside a firmware file, unpacked: which modules are in which volume.

Which modules a firmware contains decides what it measures, and can be read off the file, unlike its version.
Sources: UEFI Platform Initialization Specification 1.8, volume 3 (firmware volumes, firmware file system, sections);
LZMA sections carry the classic LZMA header (edk2 ``MdeModulePkg/Library/LzmaCustomDecompressLib``). All integers
little-endian.
"""

from __future__ import annotations

import lzma
import struct
import uuid
from collections.abc import Iterator

import attrs

_FFS2 = uuid.UUID("8c8ce578-8a3d-4f1c-9935-896185c32dd3").bytes_le
_FFS3 = uuid.UUID("5473c07a-3dcb-4dca-bd6f-1e9689e7349a").bytes_le
_LZMA = uuid.UUID("ee4e5898-3914-4259-9d6e-dc7bd79403cf").bytes_le
_GUIDED, _PE_IMAGE, _VOLUME_IMAGE = 0x02, 0x10, 0x17
_PADDING_FILE = 0xF0
_MAX_DEPTH = 6
_MAX_UNPACKED = 64 << 20
_MAX_FILES = 4096


@attrs.frozen(kw_only=True)
class Volume:
    """A firmware volume: its name, the GUIDs of its files in order, and its bytes (of an unpacked one, unpacked)."""

    name: uuid.UUID | None
    files: tuple[uuid.UUID, ...]
    data: bytes


def find_volumes(image: bytes) -> tuple[Volume, ...]:
    """Every volume in a firmware image, outer ones before those packed inside them.

    Damaged volumes and files end the walk at that place without an error: what is found is evidence, not a promise.
    At most 64 MiB are unpacked.
    """
    return tuple(_walk(image, 0, [_MAX_UNPACKED]))


def module_image(volume: Volume, file: uuid.UUID) -> bytes | None:
    """The PE image of a module in a volume; ``None`` when there is no such file or it holds none."""
    for guid, _kind, body in _files(volume.data, _first_file(volume.data)[1]):
        if guid == file:
            return next((section[header:] for kind, header, section in _sections(body) if kind == _PE_IMAGE), None)
    return None


def _walk(data: bytes, depth: int, budget: list[int]) -> Iterator[Volume]:
    """All volumes in ``data``: each on an 8-byte boundary, one after the other or behind padding."""
    position = data.find(b"_FVH")
    while position >= 0:
        start = position - 40
        length = _volume_length(data, start)
        if length:
            yield from _read_volume(data[start : start + length], depth, budget)
        position = data.find(b"_FVH", start + length + 40 if length else position + 4)


def _volume_length(data: bytes, start: int) -> int:
    if start < 0 or data[start + 16 : start + 32] not in {_FFS2, _FFS3}:
        return 0
    length, header = struct.unpack("<Q8xH", data[start + 32 : start + 50])
    return length if 72 <= header <= length <= len(data) - start else 0


def _read_volume(volume: bytes, depth: int, budget: list[int]) -> Iterator[Volume]:
    name, position = _first_file(volume)
    files: list[uuid.UUID] = []
    inner: list[bytes] = []
    for guid, kind, body in _files(volume, position):
        if kind != _PADDING_FILE:
            files.append(guid)
            if depth < _MAX_DEPTH:
                inner.extend(_unpack_sections(body, depth, budget))
    yield Volume(name=name, files=tuple(files), data=volume)
    for data in inner:
        yield from _walk(data, depth + 1, budget)


def _first_file(volume: bytes) -> tuple[uuid.UUID | None, int]:
    """The volume's name, which an extended header gives, and where its files begin."""
    header, extended = struct.unpack("<H2xH", volume[48:54])
    if not extended or extended + 20 > len(volume):
        return None, header
    (size,) = struct.unpack("<I", volume[extended + 16 : extended + 20])
    return uuid.UUID(bytes_le=volume[extended : extended + 16]), extended + size


def _files(volume: bytes, position: int) -> Iterator[tuple[uuid.UUID, int, bytes]]:
    """GUID, type and body of each file; files lie on 8-byte boundaries."""
    for _ in range(_MAX_FILES):
        position = (position + 7) & ~7
        head = volume[position : position + 32]
        if len(head) < 24 or head[:16] == b"\xff" * 16:
            return
        size, header = int.from_bytes(head[20:23], "little"), 24
        if head[19] & 1:
            size, header = int.from_bytes(head[24:32], "little"), 32
        if not header <= size <= len(volume) - position:
            return
        yield uuid.UUID(bytes_le=head[:16]), head[18], volume[position + header : position + size]
        position += size


def _unpack_sections(body: bytes, depth: int, budget: list[int]) -> Iterator[bytes]:
    """What the encapsulating sections of a file hold: volume images and unpacked LZMA data."""
    for kind, header, section in _sections(body):
        if kind == _VOLUME_IMAGE:
            yield section[header:]
        elif kind == _GUIDED and section[header : header + 16] == _LZMA and len(section) >= header + 20:
            (offset,) = struct.unpack("<H", section[header + 16 : header + 18])
            unpacked = _decompress(section[offset:], budget)
            if depth + 1 < _MAX_DEPTH:
                yield from _unpack_sections(unpacked, depth + 1, budget)


def _sections(body: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Type, size of the header, and bytes (with the header) of each section of a file."""
    position = 0
    while position + 4 <= len(body):
        size, header = int.from_bytes(body[position : position + 3], "little"), 4
        if size == 0xFFFFFF and position + 8 <= len(body):
            size, header = int.from_bytes(body[position + 4 : position + 8], "little"), 8
        if not header < size <= len(body) - position:
            return
        yield body[position + 3], header, body[position : position + size]
        position = (position + size + 3) & ~3


def _decompress(data: bytes, budget: list[int]) -> bytes:
    """Unpack classic LZMA data within the budget; nothing for damaged data."""
    try:
        unpacked = lzma.LZMADecompressor(format=lzma.FORMAT_ALONE, memlimit=128 << 20).decompress(data, budget[0])
    except (lzma.LZMAError, EOFError, MemoryError):
        return b""
    budget[0] = max(0, budget[0] - len(unpacked))
    return unpacked
