"""The cache of source builds: one folder an entry, found by its key, shared by all images and processes of a user.

An entry is ``KEY/{rootfs.tar,inputs.json,entry.json}``. It is made in a temporary sibling and renamed into place, so it
is there whole or not at all. Whoever builds holds the key's lock, so that of two bakes that need the same thing one
builds it and the other waits. What is read is hashed while it is copied; an entry that is not what was stored is
removed, said so, and built again.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import attrs

from tdxc_runtime.builds.key import PACKAGE_PREFIX, cache_key, changed_inputs
from tdxc_runtime.toolsroot.make import scratch_folder

STORE_FOLDER = "builds"
"""The cache of source builds, below the cache of this user."""

_FORMAT = 1
_ROOTFS, _INPUTS, _ENTRY = "rootfs.tar", "inputs.json", "entry.json"
_CHUNK_BYTES = 1 << 20
_KEY_DIGITS = 64


@attrs.frozen(kw_only=True)
class CacheEntry:
    """A finished build in the cache.

    ``made`` and ``used`` are Unix times in seconds, ``seconds`` what it took to build, ``sha256`` (hex) and
    ``size_bytes`` those of its archive, ``build`` the name that it was built under. ``reason``: why it was built, where
    that is not a change of inputs. ``previous``: key of what that build had last been before, empty for the first.
    """

    key: str
    build: str
    language: str
    network: bool
    made: float
    used: float
    seconds: float
    size_bytes: int
    sha256: str
    reason: str = ""
    previous: str = ""
    inputs: Mapping[str, str] = attrs.field(repr=False)


class CorruptEntryError(Exception):
    """An entry is not what was stored; the message says in which way."""


@attrs.frozen
class BuildStore:
    """The cache in a folder, which is made on the first write."""

    folder: Path

    @contextlib.contextmanager
    def locked(self, key: str, waiting: Callable[[], None] | None = None) -> Iterator[None]:
        """Hold the lock of a key for the block; ``waiting`` is called once when somebody else holds it."""
        descriptor = self._lock(key, waiting)
        try:
            yield
        finally:
            os.close(descriptor)

    def find(self, key: str) -> CacheEntry | None:
        """The entry of a key if there is one; raises :class:`CorruptEntryError` when it cannot be understood.

        Others may remove or replace entries meanwhile, unless the key's lock is held.
        """
        place = self.folder / key
        before = _identity(place)
        if before is None:
            return None
        try:
            entry = _read_entry(place)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as fault:
            if _identity(place) != before:
                return self.find(key)
            raise CorruptEntryError(f"its description cannot be read ({fault})") from fault
        if entry.key != key or cache_key(entry.inputs) != key:
            raise CorruptEntryError("its inputs are not those of its key")
        return entry

    def copy_out(self, entry: CacheEntry, target: Path) -> None:
        """Copy an entry's archive to ``target``, hashing what is copied; marks the entry as used now.

        Raises :class:`CorruptEntryError` (and leaves no ``target``) when it is not what was stored.
        """
        try:
            digest = _copy(self.folder / entry.key / _ROOTFS, target)
        except OSError as fault:
            target.unlink(missing_ok=True)
            if not (self.folder / entry.key / _ROOTFS).is_file():
                raise CorruptEntryError("its archive is missing") from fault
            raise
        if digest != entry.sha256:
            target.unlink()
            raise CorruptEntryError("its archive has changed")
        os.utime(self.folder / entry.key / _ENTRY)

    def add(
        self,
        archive: Path,
        inputs: Mapping[str, str],
        *,
        build: str,
        language: str,
        network: bool,
        seconds: float,
        reason: str = "",
        previous: str = "",
    ) -> CacheEntry:
        """Store what a build with these inputs left in ``archive``, in place of whatever the key had before."""
        key = cache_key(inputs)
        with scratch_folder(self.folder, key) as scratch:
            made = scratch / "made"
            made.mkdir()
            digest = _copy(archive, made / _ROOTFS)
            words = {
                "format": _FORMAT,
                "build": build,
                "key": key,
                "language": language,
                "made": time.time(),
                "network": network,
                "previous": previous,
                "reason": reason,
                "seconds": round(seconds, 1),
                "sha256": digest,
                "size": (made / _ROOTFS).stat().st_size,
            }
            _write_synced(made / _INPUTS, dict(inputs))
            _write_synced(made / _ENTRY, words)
            with contextlib.suppress(FileNotFoundError):
                (self.folder / key).rename(scratch / "old")
            made.rename(self.folder / key)
        return _read_entry(self.folder / key)

    def remove(self, key: str) -> None:
        """Remove an entry, whole at once; it may be gone already."""
        if not (self.folder / key).is_dir():
            return
        with scratch_folder(self.folder, key) as scratch, contextlib.suppress(FileNotFoundError):
            (self.folder / key).rename(scratch / "removed")

    def entries(self) -> tuple[CacheEntry, ...]:
        """All entries that can be read, the one made last first."""
        found = []
        for key in self._keys():
            with contextlib.suppress(CorruptEntryError):
                entry = self.find(key)
                found += [entry] if entry else []
        return tuple(sorted(found, key=lambda entry: (-entry.made, entry.key)))

    def newest(self, build: str) -> CacheEntry | None:
        """What a build of that name was made into last."""
        return next((entry for entry in self.entries() if entry.build == build), None)

    def closest(self, build: str, inputs: Mapping[str, str]) -> CacheEntry | None:
        """Of what builds of that name were made into, what these inputs differ from least; of equals the newest.

        Builds of several images can have one name, and are not compared with each other while there is a closer one.
        """

        def distance(entry: CacheEntry) -> tuple[int, int]:
            names = [change.name for change in changed_inputs(entry.inputs, inputs)]
            packages = sum(name.startswith(PACKAGE_PREFIX) for name in names)
            return len(names) - packages, packages

        return min((entry for entry in self.entries() if entry.build == build), key=distance, default=None)

    def damaged(self, *, archives: bool = False) -> tuple[str, ...]:
        """The keys of entries whose description cannot be read; with ``archives``, of those not as stored, too."""
        found = []
        for key in self._keys():
            before = _identity(self.folder / key)
            try:
                entry = self.find(key)
                if archives and entry is not None:
                    self._verify(entry)
            except CorruptEntryError:
                if _identity(self.folder / key) == before:  # not removed or replaced by somebody else meanwhile
                    found.append(key)
        return tuple(found)

    def collect(
        self, *, unused_s: float | None = None, total_bytes: int | None = None, now: float | None = None
    ) -> tuple[CacheEntry, ...]:
        """Remove entries not used for ``unused_s``, and then the longest unused above ``total_bytes``.

        An entry that a bake holds at this moment stays. Returns what was removed.
        """
        now = time.time() if now is None else now
        kept = sorted(self.entries(), key=lambda entry: entry.used)
        size = sum(entry.size_bytes for entry in kept)
        removed = []
        for entry in kept:
            old = unused_s is not None and now - entry.used > unused_s
            above = total_bytes is not None and size > total_bytes
            if (old or above) and self._remove_unless_held(entry.key):
                removed.append(entry)
            if _identity(self.folder / entry.key) is None:  # whoever has removed it
                size -= entry.size_bytes
        return tuple(removed)

    def remove_damaged(self) -> tuple[str, ...]:
        """Read all entries whole, and remove those that are not what was stored; the keys of those removed."""
        return tuple(key for key in self.damaged(archives=True) if self._remove_unless_held(key, self._is_damaged))

    def _is_damaged(self, key: str) -> bool:
        try:
            entry = self.find(key)
            if entry is not None:
                self._verify(entry)
        except CorruptEntryError:
            return True
        return False

    def _verify(self, entry: CacheEntry) -> None:
        """Raise :class:`CorruptEntryError` where an archive is missing or has changed."""
        try:
            with (self.folder / entry.key / _ROOTFS).open("rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as fault:
            raise CorruptEntryError("its archive is missing") from fault
        if digest != entry.sha256:
            raise CorruptEntryError("its archive has changed")

    def _keys(self) -> list[str]:
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if path.is_dir() and len(path.name) == _KEY_DIGITS)

    def _remove_unless_held(self, key: str, wanted: Callable[[str], bool] | None = None) -> bool:
        """Remove an entry that nobody holds, and that is still there and ``wanted`` now that we hold it."""
        descriptor = self._try_lock(key)
        if descriptor is None:
            return False
        try:
            is_removed = _identity(self.folder / key) is not None and (wanted is None or wanted(key))
            if is_removed:
                self.remove(key)
            if _identity(self.folder / key) is None:
                self._lock_path(key).unlink(missing_ok=True)
        finally:
            os.close(descriptor)
        return is_removed

    def _lock_path(self, key: str) -> Path:
        return self.folder / "locks" / f"{key}.lock"

    def _lock(self, key: str, waiting: Callable[[], None] | None) -> int:
        descriptor = self._try_lock(key)
        if descriptor is None and waiting:
            waiting()
        while descriptor is None:
            descriptor = self._try_lock(key, wait=True)
        return descriptor

    def _try_lock(self, key: str, *, wait: bool = False) -> int | None:
        """A descriptor that holds the lock; None when another has it, or removed the file that we waited for."""
        path = self._lock_path(key)
        path.parent.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        held = False
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            held = path.exists() and os.path.samestat(path.stat(), os.fstat(descriptor))
        except (BlockingIOError, FileNotFoundError):
            pass
        finally:
            if not held:
                os.close(descriptor)
        return descriptor if held else None


def _identity(place: Path) -> tuple[int, int] | None:
    """Inode and change time of a folder: another one at the same path has others; None where there is none."""
    try:
        status = place.stat()
    except FileNotFoundError:
        return None
    return status.st_ino, status.st_ctime_ns


def _read_entry(place: Path) -> CacheEntry:
    words = json.loads((place / _ENTRY).read_text(encoding="utf-8"))
    inputs = json.loads((place / _INPUTS).read_text(encoding="utf-8"))
    if words["format"] != _FORMAT:
        raise ValueError(f"format {words['format']!r}")
    return CacheEntry(
        key=str(words["key"]),
        build=str(words["build"]),
        language=str(words["language"]),
        network=bool(words["network"]),
        made=float(words["made"]),
        used=(place / _ENTRY).stat().st_mtime,
        seconds=float(words["seconds"]),
        size_bytes=int(words["size"]),
        sha256=str(words["sha256"]),
        reason=str(words["reason"]),
        previous=str(words["previous"]),
        inputs={str(name): str(value) for name, value in inputs.items()},
    )


def _copy(source: Path, target: Path) -> str:
    """Copy a file durably; the SHA-256 (hex) of the bytes that were copied."""
    digest = hashlib.sha256()
    with source.open("rb") as reader, target.open("wb") as writer:
        while chunk := reader.read(_CHUNK_BYTES):
            digest.update(chunk)
            writer.write(chunk)
        writer.flush()
        os.fsync(writer.fileno())
    return digest.hexdigest()


def _write_synced(path: Path, words: Mapping[str, object]) -> None:
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(words, indent=1, sort_keys=True) + "\n")
        file.flush()
        os.fsync(file.fileno())
