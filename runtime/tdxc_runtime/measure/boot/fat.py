"""Read files out of a FAT file system, as far as finding the boot loader on an EFI system partition takes.

Source: Microsoft "FAT: General Overview of On-Disk Format" 1.03. All integers little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence

import attrs

from tdxc_runtime.measure.sources import ByteSource, TruncatedInputError

_DIRECTORY, _VOLUME_LABEL, _LONG_NAME = 0x10, 0x08, 0x0F
_MAX_DIRECTORY = 4 << 20
_MAX_FAT = 64 << 20


class MalformedFatError(ValueError):
    """The bytes are no FAT file system, or a damaged one."""


@attrs.frozen(kw_only=True)
class Entry:
    """A file or folder: its long name, or the short one where there is no long one."""

    name: str
    is_folder: bool
    cluster: int
    size: int


@attrs.frozen(kw_only=True)
class Extents:
    """A file in pieces: ``(offset, size)`` of each within ``source``."""

    source: ByteSource
    name: str
    size: int
    pieces: tuple[tuple[int, int], ...]

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes from ``offset``."""
        if offset < 0 or size < 0 or offset + size > self.size:
            raise TruncatedInputError(f"bytes {offset:#x} to {offset + size:#x} lie outside '{self.name}'")
        parts: list[bytes] = []
        position = 0
        for start, length in self.pieces:
            if position + length > offset and size:
                skip = offset - position
                part = self.source.read(start + skip, min(size, length - skip))
                parts.append(part)
                offset, size = offset + len(part), size - len(part)
            position += length
        return b"".join(parts)


class FatFileSystem:
    """A FAT12, FAT16 or FAT32 file system at ``offset`` of a disk; :class:`MalformedFatError` when it is none."""

    def __init__(self, disk: ByteSource, offset: int) -> None:
        self._disk, self._offset = disk, offset
        boot = self._read(0, 512)
        sector, per_cluster, reserved, fats, roots, total16, _media, fat16 = struct.unpack("<11xHBHBHHBH", boot[:24])
        total32, fat32, root_cluster = struct.unpack("<32xII4xI", boot[:48])
        if boot[510:] != b"\x55\xaa" or sector not in {512, 1024, 2048, 4096} or not per_cluster or not fats:
            raise MalformedFatError("there is no FAT file system")
        fat_size = (fat16 or fat32) * sector
        root_start = reserved * sector + fats * fat_size
        self._cluster_size = per_cluster * sector
        self._data_start = root_start + (roots * 32 + sector - 1) // sector * sector
        clusters = ((total16 or total32) * sector - self._data_start) // self._cluster_size
        self._bits = 12 if clusters < 4085 else 16 if clusters < 65525 else 32
        self._end = clusters + 2
        if not 0 < fat_size <= _MAX_FAT or clusters <= 0:
            raise MalformedFatError("its tables have an impossible size")
        self._fat = self._read(reserved * sector, fat_size)
        self._fixed_root = (root_start, roots * 32) if self._bits != 32 else None
        self._root_cluster = root_cluster

    def _read(self, offset: int, size: int) -> bytes:
        try:
            return self._disk.read(self._offset + offset, size)
        except TruncatedInputError:
            raise MalformedFatError("it reaches beyond the end of the disk") from None

    def find(self, path: Sequence[str]) -> Extents | None:
        """The file at a path of names, whatever their letter case; ``None`` when there is none."""
        entries = self._root()
        for depth, wanted in enumerate(path):
            entry = next((e for e in entries if e.name.lower() == wanted.lower()), None)
            if entry is None or entry.is_folder is (depth == len(path) - 1):
                return None
            if not entry.is_folder:
                return self._file(entry)
            entries = self._folder(entry.cluster)
        return None

    def _root(self) -> list[Entry]:
        if self._fixed_root is not None:
            return list(_entries(self._read(*self._fixed_root)))
        return self._folder(self._root_cluster)

    def _folder(self, cluster: int) -> list[Entry]:
        pieces = self._chain(cluster, _MAX_DIRECTORY)
        return list(_entries(b"".join(self._disk.read(start, size) for start, size in pieces)))

    def _file(self, entry: Entry) -> Extents:
        pieces = self._chain(entry.cluster, entry.size) if entry.size else []
        if sum(size for _, size in pieces) != entry.size:
            raise MalformedFatError(f"'{entry.name}' is shorter than its folder says")
        return Extents(source=self._disk, name=entry.name, size=entry.size, pieces=tuple(pieces))

    def _chain(self, cluster: int, limit: int) -> list[tuple[int, int]]:
        """The places of a chain of clusters on the disk, neighbours joined, cut at ``limit`` bytes."""
        pieces: list[tuple[int, int]] = []
        remaining = limit
        while 2 <= cluster < self._end and remaining > 0:
            start = self._offset + self._data_start + (cluster - 2) * self._cluster_size
            size = min(self._cluster_size, remaining)
            if pieces and sum(pieces[-1]) == start:
                pieces[-1] = (pieces[-1][0], pieces[-1][1] + size)
            else:
                pieces.append((start, size))
            remaining -= size
            cluster = self._next(cluster)
        if pieces and sum(pieces[-1]) > self._disk.size:
            raise MalformedFatError("a file reaches beyond the end of the disk")
        return pieces

    def _next(self, cluster: int) -> int:
        start = cluster * self._bits // 8
        width = 4 if self._bits == 32 else 2
        if start + width > len(self._fat):
            raise MalformedFatError("a chain leaves the table")
        value = int.from_bytes(self._fat[start : start + width], "little")
        if self._bits == 12:
            value >>= 4 if cluster % 2 else 0
        return value & ((1 << min(self._bits, 28)) - 1)


def _entries(data: bytes) -> Iterator[Entry]:
    """The entries of a folder; long names stand before their entry, last part first."""
    long_name = ""
    for start in range(0, len(data) - 31, 32):
        row = data[start : start + 32]
        if row[0] == 0:
            return
        if row[0] == 0xE5:
            long_name = ""
        elif row[11] & 0x3F == _LONG_NAME:
            part = (row[1:11] + row[14:26] + row[28:32]).decode("utf-16-le", "replace")
            long_name = part.split("\0", 1)[0].rstrip("\uffff") + ("" if row[0] & 0x40 else long_name)
        elif row[11] & _VOLUME_LABEL:
            long_name = ""
        else:
            high, low, size = struct.unpack("<20xH4xHI", row)
            name = long_name or _short_name(row)
            yield Entry(name=name, is_folder=bool(row[11] & _DIRECTORY), cluster=high << 16 | low, size=size)
            long_name = ""


def _short_name(row: bytes) -> str:
    stem = row[:8].decode("cp437").rstrip()
    suffix = row[8:11].decode("cp437").rstrip()
    return f"{stem}.{suffix}" if suffix else stem
