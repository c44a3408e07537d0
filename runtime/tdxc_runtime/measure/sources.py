"""Bytes that are measured, wherever they lie: a file that is never read whole, a window of it, or memory.

All reads are exact: bytes that are not there raise :class:`TruncatedInputError`, so that parsers of untrusted
input are bounds-checked by construction.
"""

from __future__ import annotations

import os
from pathlib import Path
from types import TracebackType
from typing import Protocol, Self

import attrs
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan


class TruncatedInputError(ValueError):
    """A structure reaches beyond the end of the bytes that hold it."""


class ByteSource(Protocol):
    """Random access to a run of bytes with a name for diagnostics."""

    @property
    def name(self) -> str:
        """What diagnostics call this input."""

    @property
    def size(self) -> int:
        """Number of bytes."""

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes from ``offset``; :class:`TruncatedInputError` when they are not all there."""


def _check_range(source: ByteSource, offset: int, size: int) -> None:
    if offset < 0 or size < 0 or offset + size > source.size:
        raise TruncatedInputError(f"bytes {offset:#x} to {offset + size:#x} lie outside the {source.size:#x} there are")


@attrs.frozen(kw_only=True)
class MemorySource:
    """Bytes in memory."""

    name: str
    data: bytes

    @property
    def size(self) -> int:
        """Number of bytes."""
        return len(self.data)

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes from ``offset``."""
        _check_range(self, offset, size)
        return self.data[offset : offset + size]


@attrs.frozen(kw_only=True)
class Window:
    """A part of another source, continued by zeros when ``size`` exceeds ``stored``.

    That is how a loader sees a PE section whose VirtualSize is larger than its raw data.
    """

    source: ByteSource
    offset: int
    stored: int
    size: int
    name: str

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes from ``offset``, zeros included."""
        _check_range(self, offset, size)
        stored = max(0, min(offset + size, self.stored) - offset)
        return self.source.read(self.offset + offset, stored).ljust(size, b"\0") if stored else bytes(size)


class FileSource:
    """A regular file, read by position; a context manager.

    Opening raises E_ARTIFACT for a file that cannot be read. A file that shrinks while it is read gives
    :class:`TruncatedInputError`.
    """

    def __init__(self, path: Path, code: Code = Code.E_ARTIFACT) -> None:
        self.path = path
        try:
            self._descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            self._size = os.fstat(self._descriptor).st_size
        except OSError as error:
            raise DiagnosticError.of(
                code, f"cannot read '{path}': {error.strerror}", SourceSpan(file=str(path)), fix="check the path"
            ) from None

    @property
    def name(self) -> str:
        """The file's name without its folder."""
        return self.path.name

    @property
    def size(self) -> int:
        """The size when the file was opened."""
        return self._size

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes from ``offset``."""
        _check_range(self, offset, size)
        data = os.pread(self._descriptor, size, offset)
        while len(data) < size:
            more = os.pread(self._descriptor, size - len(data), offset + len(data))
            if not more:
                raise TruncatedInputError(f"'{self.path}' became shorter while it was read")
            data += more
        return data

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
