"""The one writer of compiled output: all or nothing, without touching what has not changed.

The new tree is made beside the old one from hard links (for what stays) and new files, synced, and then exchanged
with the old one in a single rename. ``.tdxc/files.json`` in the tree records what was written, so that a file which
somebody changed by hand is noticed (E_TREE_MODIFIED) and a file that is no longer produced goes. Files that the writer
has never written (mkosi's outputs and caches, a user's ``mkosi.local.conf``) stay.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError
from tdxc.tree import Entry, FileTree, TreeDirectory, TreeFile, TreeLink

if TYPE_CHECKING:
    import ctypes

RECORD = ".tdxc/files.json"
_RECORD_VERSION = 1
_AT_FDCWD = -100
_RENAME_EXCHANGE = 2


@records.frozen
class WriteReport:
    """What a write did: paths relative to the tree."""

    written: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    unchanged: int = 0


def write_tree(tree: FileTree, dest: Path, *, force: bool = False) -> WriteReport:
    """Make ``dest`` hold exactly ``tree`` beside what others put there.

    Raises E_OUTPUT when ``dest`` is not a compiled tree or cannot be written, E_TREE_MODIFIED when files of the last
    compile were changed by hand and ``force`` is not given. Whatever is raised, ``dest`` is as it was.
    """
    fingerprints = {path: _fingerprint(entry) for path, entry in tree.entries.items()}
    tree = tree.merge(FileTree({RECORD: _record(fingerprints)}))
    try:
        return _write(tree, fingerprints, dest, force=force)
    except OSError as error:
        raise DiagnosticError.of(
            Code.E_OUTPUT,
            f"cannot write '{dest}': {error.strerror or error}",
            fix="give another output folder, or make this one writable",
        ) from error


def write_whole(path: Path, text: str) -> None:
    """Write a single file of text: complete afterwards, or as it was. Raises OSError.

    A device or pipe is written as it is.
    """
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    temporary = path.with_name(f".{path.name}.new")
    try:
        temporary.write_text(text, encoding="utf-8")
        temporary.replace(path)
    except OSError as error:
        error.filename = str(path)
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)
        raise


def _write(tree: FileTree, fingerprints: Mapping[str, str], dest: Path, *, force: bool) -> WriteReport:
    old = _read_record(dest)
    paths = {*old, *fingerprints} if dest.exists() else set()
    blocked = _blocked_folders(dest, paths)
    on_disk = _fingerprints_on_disk(dest, paths | blocked, blocked, old)
    if not force:
        _refuse_modified(dest, old, on_disk, fingerprints)
    changed = tuple(path for path in sorted(fingerprints) if on_disk.get(path) != fingerprints[path])
    removed = tuple(path for path in sorted(old) if path not in fingerprints and on_disk.get(path))
    if not changed and not removed and (dest / RECORD).exists() and old == dict(fingerprints):
        return WriteReport(unchanged=len(fingerprints))
    place = _place(dest)
    place.parent.mkdir(parents=True, exist_ok=True)
    staging = place.parent / f".{place.name[:50]}.tdxc-{os.urandom(6).hex()}"
    try:
        staging.mkdir(mode=0o700)
        staging.chmod(0o755)
        if place.exists():
            _link_survivors(place, staging, {*changed, *removed, *blocked, RECORD})
        known: set[str] = set()
        for path in (*changed, RECORD):
            _write_entry(staging, path, tree[path], known)
        _sync_tree(staging)
        _exchange(staging, place)
    finally:
        try:
            _remove(staging)
        except BaseException:  # a signal that comes while we clean up must not leave the rest of it
            _remove(staging)
            raise
    return WriteReport(written=changed, removed=removed, unchanged=len(fingerprints) - len(changed))


def _place(dest: Path) -> Path:
    """Where the folder itself is, behind any link; raises E_OUTPUT for one that this process stands in."""
    place = dest.resolve()
    if Path.cwd().is_relative_to(place):
        raise DiagnosticError.of(
            Code.E_OUTPUT,
            f"'{dest}' is the current folder or above it, which cannot be replaced as a whole",
            fix="name a folder below it, such as out, or run tdxc from elsewhere",
        )
    return place


def _record(fingerprints: Mapping[str, str]) -> TreeFile:
    """One line for each file, by separators: with ``indent`` the standard library encodes in Python."""
    data = {"version": _RECORD_VERSION, "files": fingerprints}
    return TreeFile.text(json.dumps(data, sort_keys=True, separators=(",\n ", ": ")) + "\n")


def _read_record(dest: Path) -> dict[str, str]:
    """What the last compile wrote; empty for a new folder. Raises E_OUTPUT for a folder that is not ours."""
    if not dest.exists():
        return {}
    if not dest.is_dir():
        raise DiagnosticError.of(Code.E_OUTPUT, f"'{dest}' is not a folder", fix="give another output folder")
    record = dest / RECORD
    if not record.exists():
        if any(dest.iterdir()):
            raise DiagnosticError.of(
                Code.E_OUTPUT,
                f"'{dest}' is not empty and was not written by tdxc",
                fix="give an empty or new output folder; tdxc never overwrites files that it did not write",
            )
        return {}
    try:
        data = json.loads(record.read_text(encoding="utf-8"))
        return {str(path): str(fingerprint) for path, fingerprint in data["files"].items()}
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DiagnosticError.of(
            Code.E_OUTPUT, f"'{record}' is damaged: {error}", fix="delete the output folder and compile again"
        ) from error


def _fingerprint(entry: Entry) -> str:
    if isinstance(entry, TreeLink):
        return f"link {entry.target}"
    if isinstance(entry, TreeDirectory):
        return "directory"
    return f"{'0755' if entry.executable else '0644'} {hashlib.sha256(entry.data).hexdigest()}"


def _blocked_folders(dest: Path, paths: Iterable[str]) -> frozenset[str]:
    """Folders of ``paths`` where something else is on disk, such as a link that leads out of the tree."""
    folders = {above for folder in {path.rpartition("/")[0] for path in paths} for above in _folders_of(f"{folder}/")}
    return frozenset(folder for folder in folders if _is_link_or_file(f"{dest}/{folder}"))


def _is_link_or_file(path: str) -> bool:
    try:
        mode = os.lstat(path).st_mode
    except (OSError, ValueError):
        return False
    return stat.S_ISLNK(mode) or stat.S_ISREG(mode)


def _folders_of(path: str) -> Iterator[str]:
    while path := path.rpartition("/")[0]:
        yield path


def _fingerprints_on_disk(
    dest: Path, paths: Iterable[str], blocked: frozenset[str], old: Mapping[str, str]
) -> dict[str, str]:
    """What is at each path; nothing is ever looked up through a blocked folder."""
    return {
        path: "" if blocked and not blocked.isdisjoint(_folders_of(path)) else _fingerprint_on_disk(dest, path, old)
        for path in paths
    }


def _fingerprint_on_disk(dest: Path, relative: str, old: Mapping[str, str]) -> str:
    """Empty when nothing is at the path but perhaps a folder that holds only what the last compile wrote."""
    place = f"{dest}/{relative}"
    try:
        status = os.lstat(place)
    except OSError as error:
        if error.errno in {errno.ENOENT, errno.ENOTDIR, errno.ELOOP}:
            return ""
        raise
    if stat.S_ISLNK(status.st_mode):
        return f"link {Path(place).readlink()}"
    if stat.S_ISDIR(status.st_mode):
        path = dest / relative
        only_ours = any(path.iterdir()) and all(
            below.relative_to(dest).as_posix() in old for below in path.rglob("*") if not below.is_dir()
        )
        return "" if only_ours else "directory"
    if not stat.S_ISREG(status.st_mode):
        return ""
    mode = "0755" if status.st_mode & 0o100 else "0644"
    with open(place, "rb", buffering=0) as file:  # noqa: PTH123 - pathlib takes longer than the reading
        return f"{mode} {hashlib.sha256(file.read()).hexdigest()}"


def _refuse_modified(dest: Path, old: Mapping[str, str], on_disk: Mapping[str, str], new: Mapping[str, str]) -> None:
    """A file is in the way when it is neither what we wrote nor what we are about to write."""
    modified = [
        path for path, found in sorted(on_disk.items()) if found and found != old.get(path) and found != new.get(path)
    ]
    if modified:
        raise DiagnosticError(
            Diagnostic(
                code=Code.E_TREE_MODIFIED,
                message=f"'{dest / path}' was changed by hand since the last compile",
                fix="move the change into the recipe (or an override folder), or compile with --force to discard it",
            )
            for path in modified
        )


def _link_survivors(dest: Path, staging: Path, replaced: set[str]) -> None:
    for folder, folders, files in os.walk(dest):
        relative = Path(folder).relative_to(dest)
        for name in list(folders):
            if (Path(folder) / name).is_symlink():
                folders.remove(name)
                files.append(name)
        for name in files:
            path = relative / name
            if path.as_posix() not in replaced:
                _copy_folders(dest, staging, relative)
                os.link(dest / path, staging / path, follow_symlinks=False)
        for name in folders:
            if (relative / name).as_posix() not in replaced and not any((dest / relative / name).iterdir()):
                _copy_folders(dest, staging, relative / name)


def _copy_folders(dest: Path, staging: Path, relative: Path) -> None:
    """Make ``relative`` in the staging tree with the modes that its folders have in the old one."""
    for folder in (*reversed(relative.parents), relative):
        if not (staging / folder).exists():
            (staging / folder).mkdir()
            (staging / folder).chmod(stat.S_IMODE((dest / folder).stat().st_mode))


def _write_entry(staging: Path, relative: str, entry: Entry, known: set[str]) -> None:
    """Write into a tree that nobody else knows of yet; ``known`` are the folders that are there.

    The paths of files are joined as text, since pathlib takes longer than the writing.
    """
    folder = relative.rpartition("/")[0]
    if folder not in known:
        _make_folders(staging, folder, known)
    if isinstance(entry, TreeLink):
        (staging / relative).symlink_to(entry.target)
    elif isinstance(entry, TreeDirectory):
        _make_folders(staging, relative, known)
    else:
        _write_file(f"{staging}/{relative}", entry.data, 0o755 if entry.executable else 0o644)


def _make_folders(staging: Path, relative: str, known: set[str]) -> None:
    path = Path(relative)
    for folder in (*reversed(path.parents), path):
        if str(folder) not in known and not (staging / folder).exists():
            (staging / folder).mkdir()
            (staging / folder).chmod(0o755)
        known.add(str(folder))


def _write_file(path: str, data: bytes, mode: int) -> None:
    """A new file with exactly this mode, whatever the umask."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
    try:
        left = memoryview(data)
        while left:
            left = left[os.write(descriptor, left) :]
        os.fchmod(descriptor, mode)
    finally:
        os.close(descriptor)


def _remove(staging: Path) -> None:
    if staging.exists():
        import shutil

        shutil.rmtree(staging, ignore_errors=True)


def _sync_tree(root: Path) -> None:
    """One sync of the file system that holds the tree: cheaper than one fsync for each of thousands of files."""
    descriptor = os.open(root, os.O_RDONLY | os.O_DIRECTORY)
    try:
        if _libc().syncfs(descriptor) != 0:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _exchange(staging: Path, dest: Path) -> None:
    """Put ``staging`` at ``dest``; what was there is then at ``staging`` (renameat2(2), RENAME_EXCHANGE)."""
    if not dest.exists():
        staging.rename(dest)
        return
    import ctypes

    paths = (_AT_FDCWD, os.fsencode(staging), _AT_FDCWD, os.fsencode(dest))
    if _libc().renameat2(*paths, ctypes.c_uint(_RENAME_EXCHANGE)) != 0:
        number = ctypes.get_errno()
        raise OSError(
            number, os.strerror(number) if number != errno.EINVAL else "the file system cannot exchange folders"
        )


def _libc() -> ctypes.CDLL:
    import ctypes

    return ctypes.CDLL(None, use_errno=True)
