"""A disk as what is not zero: pieces of bytes or of files at offsets. Every container format is written from it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

import attrs

CHUNK_BYTES = 1 << 20


@attrs.frozen(kw_only=True)
class Extent:
    """``size`` bytes at ``offset``, from memory or from the start of a file."""

    offset: int
    source: bytes | Path
    size: int

    @property
    def end(self) -> int:
        """The offset behind the extent."""
        return self.offset + self.size

    def chunks(self) -> Iterator[bytes]:
        """The content in order, in pieces of at most :data:`CHUNK_BYTES`. Raises OSError when a file has shrunk."""
        if isinstance(self.source, bytes):
            for start in range(0, self.size, CHUNK_BYTES):
                yield self.source[start : start + CHUNK_BYTES]
            return
        with self.source.open("rb") as file:
            left = self.size
            while left:
                chunk = file.read(min(CHUNK_BYTES, left))
                if not chunk:
                    raise OSError(f"{self.source} became shorter while it was read")
                left -= len(chunk)
                yield chunk


@attrs.frozen(kw_only=True)
class SparseImage:
    """``size`` bytes, zero but for ``extents``, which are sorted and do not overlap."""

    size: int
    extents: tuple[Extent, ...] = attrs.field()

    @extents.validator
    def _check(self, _attribute: object, extents: tuple[Extent, ...]) -> None:
        end = 0
        for extent in extents:
            if extent.offset < end:
                raise ValueError(f"extent at {extent.offset} overlaps the one before it, which ends at {end}")
            end = extent.end
        if end > self.size:
            raise ValueError(f"extents end at {end}, behind the image's size {self.size}")

    def aligned(self, block: int) -> Iterator[tuple[int, bytes]]:
        """Every ``block``-sized block that some extent touches, padded with zeros, in order of its number."""
        number, pending = -1, b""
        for offset, piece in self._pieces(block):
            here, within = divmod(offset, block)
            if here != number:
                if number >= 0:
                    yield number, pending.ljust(block, b"\0")
                number, pending = here, b""
            pending = b"".join((pending.ljust(within, b"\0"), piece))
        if number >= 0:
            yield number, pending.ljust(block, b"\0")

    def _pieces(self, block: int) -> Iterator[tuple[int, memoryview]]:
        """The content cut at every multiple of ``block``, with offsets."""
        for extent in self.extents:
            offset = extent.offset
            for chunk in extent.chunks():
                view = memoryview(chunk)
                start = 0
                while start < len(view):
                    size = min(block - offset % block, len(view) - start)
                    yield offset, view[start : start + size]
                    start, offset = start + size, offset + size


def write_raw(image: SparseImage, file: BinaryIO) -> None:
    """Write the image from the file's current position, leaving holes where it is zero."""
    base = file.tell()
    for extent in image.extents:
        file.seek(base + extent.offset)
        file.writelines(extent.chunks())
    file.seek(0, os.SEEK_END)
    if file.tell() < base + image.size:
        file.seek(base + image.size - 1)
        file.write(b"\0")
    file.seek(base + image.size)
