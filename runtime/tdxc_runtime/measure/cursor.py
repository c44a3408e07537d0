"""A bounds-checked reader over untrusted bytes: little-endian integers and slices that share the input's memory.

A read beyond the end is a diagnostic that names the file, the byte offset and what was being read. Nothing is copied;
slices are ``memoryview`` objects. Offsets are absolute positions in the file.
"""

from __future__ import annotations

from tdxc.diagnostics import Code, DiagnosticError, SourceSpan


class Cursor:
    """A position in ``data``; every ``take`` moves it forward and never past ``end``."""

    __slots__ = ("_code", "_name", "data", "end", "offset")

    def __init__(
        self, data: bytes | memoryview, *, name: str, code: Code, offset: int = 0, end: int | None = None
    ) -> None:
        self.data = memoryview(data)
        self.offset = offset
        self.end = len(self.data) if end is None else end
        self._name = name
        self._code = code

    @property
    def remaining(self) -> int:
        """Bytes left before the end."""
        return self.end - self.offset

    def error(self, message: str, *, at: int | None = None, fix: str = "") -> DiagnosticError:
        """A diagnostic about this file; ``at`` is the offset that it names (by default where the cursor stands)."""
        offset = self.offset if at is None else at
        return DiagnosticError.of(
            self._code, f"{message} (at byte {offset} of {len(self.data)})", SourceSpan(file=self._name), fix=fix
        )

    def take(self, size: int, what: str) -> memoryview:
        """The next ``size`` bytes."""
        if size < 0 or size > self.remaining:
            raise self.error(f"{what} needs {size} bytes where {self.remaining} are left")
        start = self.offset
        self.offset = start + size
        return self.data[start : self.offset]

    def integer(self, size: int, what: str) -> int:
        """An unsigned little-endian integer of ``size`` bytes."""
        return int.from_bytes(self.take(size, what), "little")

    def u8(self, what: str) -> int:
        """One byte."""
        return self.integer(1, what)

    def u16(self, what: str) -> int:
        """Two bytes."""
        return self.integer(2, what)

    def u32(self, what: str) -> int:
        """Four bytes."""
        return self.integer(4, what)

    def u64(self, what: str) -> int:
        """Eight bytes."""
        return self.integer(8, what)

    def sub(self, size: int, what: str) -> Cursor:
        """A cursor over the next ``size`` bytes alone, which this one skips; offsets stay those of the file."""
        start = self.offset
        self.take(size, what)
        return Cursor(self.data, name=self._name, code=self._code, offset=start, end=start + size)
