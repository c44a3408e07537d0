"""Which line of the recipe a call comes from: the innermost frame outside of this package.

Columns count characters from 1. CPython's positions count UTF-8 bytes from 0 (code objects' ``co_positions``), so
lines with other than ASCII text are looked up and counted again.
"""

from __future__ import annotations

import linecache
import os
import sys
from pathlib import Path
from types import CodeType, FrameType

from tdxc.diagnostics import UNKNOWN_SPAN, SourceSpan

_PACKAGE = str(Path(__file__).parent) + os.sep
_CACHE_SIZE = 64

_Position = tuple[int, int]
_positions: dict[int, tuple[CodeType, list[_Position]]] = {}
_relative: dict[tuple[str, str], str] = {}


def caller_span(root: Path | None) -> SourceSpan:
    """The place of the innermost call from outside of ``tdx``; ``root`` is the recipe's folder where it is known."""
    frame = caller_frame()
    return UNKNOWN_SPAN if frame is None else frame_span(frame, root)


def caller_frame() -> FrameType | None:
    """The innermost frame outside of ``tdx`` and of code that attrs generated for it."""
    return outer_frame(sys._getframe(1))  # noqa: SLF001 - the only way to a caller's position


def outer_frame(frame: FrameType | None) -> FrameType | None:
    """``frame`` or the nearest of its callers outside of ``tdx``."""
    while frame is not None and is_internal(frame.f_code.co_filename):
        frame = frame.f_back
    return frame


def is_internal(filename: str) -> bool:
    """Whether a code object's file belongs to this package."""
    return filename.startswith((_PACKAGE, "<attrs generated"))


def frame_span(frame: FrameType, root: Path | None, instruction: int | None = None) -> SourceSpan:
    """The place in ``frame`` that runs now, or the instruction at byte ``instruction`` of its code."""
    filename = frame.f_code.co_filename
    offset = frame.f_lasti if instruction is None else instruction
    line, byte_column = _position(frame.f_code, offset)
    line = line or frame.f_lineno or 0
    return SourceSpan(file=span_file(filename, root), line=line, column=_column(filename, line, byte_column, frame))


def frame_folder(frame: FrameType | None) -> Path:
    """The folder of the file that ``frame`` runs, or the working directory for code that has no file."""
    if frame is None or frame.f_code.co_filename.startswith("<"):
        return Path.cwd()
    return Path(frame.f_code.co_filename).resolve().parent


def span_file(filename: str, root: Path | None) -> str:
    """A file's name as spans hold it: relative to the recipe's folder, with forward slashes."""
    if filename.startswith("<"):
        return filename
    key = (filename, str(root or ""))
    known = _relative.get(key)
    if known is None:
        path = Path(filename).resolve()
        known = _relative[key] = Path(os.path.relpath(path, root or path.parent)).as_posix()
    return known


def _position(code: CodeType, offset: int) -> _Position:
    """Line and byte column of an instruction; kept per code object, since the iterator walks all instructions."""
    known = _positions.get(id(code))
    if known is None or known[0] is not code:
        if len(_positions) >= _CACHE_SIZE:
            _positions.clear()
        known = _positions[id(code)] = (code, [(line or 0, column or 0) for line, _, column, _ in code.co_positions()])
    index = offset // 2
    return known[1][index] if 0 <= index < len(known[1]) else (0, 0)


def _column(filename: str, line: int, byte_column: int, frame: FrameType) -> int:
    text = linecache.getline(filename, line, frame.f_globals)
    if text.isascii():
        return byte_column + 1
    return len(text.encode()[:byte_column].decode(errors="replace")) + 1
