"""Reading what a recipe refers to on the build host: files of its folder, each once, every refusal explained."""

from __future__ import annotations

import os
import stat
from codecs import BOM_UTF8
from collections.abc import Callable, Iterator
from pathlib import Path

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan, nearest

FILE_LIMIT_BYTES = 256 * 1024 * 1024
"""The largest single file that a recipe may put into an image; it is held in memory while compiling."""

FOLDER_LIMIT_BYTES = 512 * 1024 * 1024
FOLDER_LIMIT_FILES = 50_000

_LEFT_OUT = frozenset({".git", "tdx.lock"})
"""Names of files that are no part of a source; a lockfile names the digest of the recipe, and so of its sources."""

_BAKED = frozenset({"bake.json", "image.json"})
"""What every bake leaves beside its artifacts."""


@records.frozen(kw_only=True)
class Source:
    """A file's bytes and its name for the IR: relative to the recipe's folder, or the bare name outside of it."""

    name: str
    data: bytes
    executable: bool = False

    def text(self, span: SourceSpan) -> str:
        """The bytes as UTF-8 text; raises E_ENCODING with the offset of the first bad byte."""
        return decode_utf8(self.data, self.name, span)


def read_file(root: Path, given: str | os.PathLike[str], *, outside: bool, span: SourceSpan) -> Source:
    """Read a regular file that ``given`` names relative to the recipe's folder.

    Raises E_PATH for one that is missing, no regular file, unreadable, or (unless ``outside``) not in the folder once
    symbolic links are resolved; E_LIMIT for one above 256 MiB.
    """
    path = locate(root, given, outside=outside, span=span)
    return _read(str(path), _ir_name(root, path), span, str(given))


def read_folder(
    root: Path,
    given: str | os.PathLike[str],
    *,
    outside: bool,
    span: SourceSpan,
    wanted: Callable[[str], bool] = bool,
) -> list[Source]:
    """All ``wanted`` files below a folder (by default all), sorted by name, names relative to it.

    Without ``.git`` (a file in worktrees and submodules, gitrepository-layout(5)), what compiling and baking leave in a
    recipe's folder, and folders that are marked as caches. Links are followed. Paths are handled as text, since pathlib
    takes longer than the reading. Raises as :func:`read_file` does; E_PATH for a link to a folder that it lies in,
    E_ENCODING for a name that is not UTF-8, and E_LIMIT above 512 MiB or 50,000 files in all.
    """
    folder = locate(root, given, outside=outside, span=span)
    if not folder.is_dir():
        raise DiagnosticError.of(Code.E_PATH, f"'{given}' is not a folder", span)
    sources: list[Source] = []
    size = 0
    prefix = os.path.join(folder, "")  # noqa: PTH118 - see above
    for path in _files_below(str(folder), span):
        name = path.removeprefix(prefix)
        _check_name(name, span)
        if not wanted(name):
            continue
        if not outside:
            _check_inside(root, Path(path).resolve(), f"{given} ({name.rpartition('/')[2]})", span)
        sources.append(_read(path, name, span, name))
        size += len(sources[-1].data)
        if size > FOLDER_LIMIT_BYTES or len(sources) > FOLDER_LIMIT_FILES:
            limit = f"{FOLDER_LIMIT_BYTES >> 20} MiB or {FOLDER_LIMIT_FILES} files"
            fix = "leave out what is built from the rest (node_modules/); sources can be git(…) or tarball(…)"
            raise DiagnosticError.of(Code.E_LIMIT, f"the folder '{given}' holds more than {limit}", span, fix=fix)
    return sources


def locate(root: Path, given: str | os.PathLike[str], *, outside: bool, span: SourceSpan) -> Path:
    """The resolved path of something that exists; raises E_PATH otherwise, or when it lies outside unasked."""
    text = os.fspath(given)
    if not text or "\0" in text:
        raise DiagnosticError.of(Code.E_PATH, f"{text!r} is not a path", span)
    try:
        path = (root / text).resolve()
        exists = path.exists()
    except (OSError, RuntimeError) as error:
        raise DiagnosticError.of(Code.E_PATH, f"cannot look up '{text}': {error}", span) from error
    if not outside:
        _check_inside(root, path, text, span)
    if not exists and "://" in text:
        message = f"the source '{text}' is an address, and no path of the recipe's folder"
        fix = "a build takes git(url, rev=…) or tarball(url, sha256=…); other files come from the recipe's folder"
        raise DiagnosticError.of(Code.E_PATH, message, span, fix=fix)
    if not exists:
        close = nearest(path.name, _siblings(path))
        hint = (
            f"did you mean '{(Path(text).parent / close).as_posix()}'?"
            if close
            else "paths start at the recipe's folder"
        )
        raise DiagnosticError.of(Code.E_PATH, f"the source '{text}' does not exist", span, fix=hint)
    return path


def decode_utf8(data: bytes, name: str, span: SourceSpan) -> str:
    """Decode text, without a byte order mark; raises E_ENCODING with the byte's offset and line."""
    data = data.removeprefix(BOM_UTF8)
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        message = f"'{name}' is not UTF-8: byte 0x{data[error.start]:02x} at offset {error.start} (line {line})"
        raise DiagnosticError.of(Code.E_ENCODING, message, span, fix="save the file as UTF-8") from error


def _check_inside(root: Path, path: Path, given: str, span: SourceSpan) -> None:
    if not path.is_relative_to(root):
        message = f"the source '{given}' lies outside of the recipe's folder"
        raise DiagnosticError.of(Code.E_PATH, message, span, fix="move it into the folder, or say outside=True")


def _ir_name(root: Path, path: Path) -> str:
    return path.relative_to(root).as_posix() if path.is_relative_to(root) else path.name


def _siblings(path: Path) -> list[str]:
    try:
        return sorted(entry.name for entry in path.parent.iterdir())
    except OSError:
        return []


def _files_below(folder: str, span: SourceSpan) -> Iterator[str]:
    for current, folders, files in os.walk(folder, followlinks=True):
        if current != folder and _is_made(folders, files):
            folders.clear()
            continue
        folders[:] = sorted(name for name in folders if name != ".git")
        for name in folders:
            _check_loop(os.path.join(current, name), span)  # noqa: PTH118 - see read_folder
        for name in sorted(files):
            if name not in _LEFT_OUT:
                yield os.path.join(current, name)  # noqa: PTH118 - see read_folder


def _is_made(folders: list[str], files: list[str]) -> bool:
    """Whether a folder with these entries is a compiled tree, the artifacts of a bake, or the cache of a program.

    Cargo and others mark theirs (Cache Directory Tagging Specification).
    """
    return ".tdxc" in folders or _BAKED.issubset(files) or "CACHEDIR.TAG" in files


def _check_loop(path: str, span: SourceSpan) -> None:
    """Refuse a link to a folder above it, below which there would be no end."""
    link = Path(path)
    if link.is_symlink() and link.parent.resolve().is_relative_to(link.resolve()):
        message = f"'{path}' is a link to a folder that it lies in"
        raise DiagnosticError.of(Code.E_PATH, message, span, fix="remove the link")


def _check_name(name: str, span: SourceSpan) -> None:
    try:
        name.encode()
    except UnicodeEncodeError as error:
        message = f"the file name {name!a} is not UTF-8"
        raise DiagnosticError.of(Code.E_ENCODING, message, span, fix="rename the file") from error


def _read(path: str, name: str, span: SourceSpan, given: str) -> Source:
    try:
        status = os.stat(path)  # noqa: PTH116 - see read_folder
        if not stat.S_ISREG(status.st_mode):
            raise DiagnosticError.of(Code.E_PATH, f"the source '{given}' is not a regular file", span)
        if status.st_size > FILE_LIMIT_BYTES:
            message = f"the source '{given}' is {status.st_size} bytes; the limit is {FILE_LIMIT_BYTES >> 20} MiB"
            fix = "leave it out where it is built from the rest; what is large comes by a package or a build"
            raise DiagnosticError.of(Code.E_LIMIT, message, span, fix=fix)
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123 - see read_folder
            return Source(name=name, data=file.read(), executable=bool(status.st_mode & stat.S_IXUSR))
    except OSError as error:
        raise DiagnosticError.of(Code.E_PATH, f"cannot read '{given}': {error.strerror}", span) from error
