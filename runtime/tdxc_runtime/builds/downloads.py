"""What the fetch steps of builds have downloaded, kept for later ones: one flat folder, shared by all images of a user.

Each file is named by the hash that pins it: ``sha256-HEX`` (an archive of a recipe, a crate of ``Cargo.lock``),
``h1-HASH`` (a module or ``go.mod`` of ``go.sum``), ``git-COMMIT`` (the objects of a commit as a pack). ``fetch.sh``
takes nothing from here whose content does not fit that hash, so that a damaged file costs a download and no more, and
nobody who can write here can change what a build makes. Nothing of it is among the inputs of a build.

mkosi shows scripts its package cache at ``/var/cache/apt`` beside the environment, and not inside; ``fetch.sh`` alone
takes it inside, to read, together with an empty folder for what is new.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import attrs

from tdxc_runtime.builds.packages import ARCHIVES, link_file

DOWNLOADS_FOLDER = "downloads"
"""The cache of downloads, below the cache of this user."""

OFFER = f"{ARCHIVES}/tdxc"
"""Where ``fetch.sh`` looks for ``downloads/`` and ``fetched/``, in mkosi's package cache."""

_USED = "used"
_HALF_S = 3600.0
"""A file that is being put into the cache is there whole long before that."""

_NAME = re.compile(r"(?:sha256|h1|git)-[A-Za-z0-9_=-]{1,128}")


@attrs.frozen(kw_only=True)
class Download:
    """A file of the cache; ``used`` is the Unix time in seconds at which a build last took it."""

    name: str
    size_bytes: int
    used: float


@attrs.frozen
class DownloadStore:
    """The cache in a folder, which is made on the first write."""

    folder: Path

    @contextlib.contextmanager
    def offered(self, packages: Path) -> Iterator[None]:
        """Show what there is to the build that runs in the block, in its package cache; keep what it has fetched.

        That is kept also when the build fails. Files are links, so that many cost little.
        """
        place = packages / OFFER
        shutil.rmtree(place, ignore_errors=True)
        (place / "fetched").mkdir(parents=True)
        (place / "downloads").mkdir()
        for download in self.files():
            with contextlib.suppress(FileNotFoundError):  # removed by somebody else meanwhile
                link_file(self.folder / download.name, place / "downloads" / download.name)
        try:
            yield
        finally:
            self._take(place / "fetched")
            shutil.rmtree(place, ignore_errors=True)

    def files(self) -> tuple[Download, ...]:
        """All files, the longest unused first."""
        found = []
        for path in self.folder.iterdir() if self.folder.is_dir() else ():
            if _NAME.fullmatch(path.name):
                with contextlib.suppress(FileNotFoundError):
                    status = path.lstat()
                    found.append(Download(name=path.name, size_bytes=status.st_size, used=status.st_mtime))
        return tuple(sorted(found, key=lambda download: (download.used, download.name)))

    def collect(
        self, *, unused_s: float | None = None, total_bytes: int | None = None, now: float | None = None
    ) -> tuple[Download, ...]:
        """Remove what was not used for ``unused_s``, and then the longest unused above ``total_bytes``; what it was."""
        now = time.time() if now is None else now
        for path in self.folder.glob(".*"):  # of a bake that was killed just then
            with contextlib.suppress(FileNotFoundError):  # it is whole now
                if now - path.lstat().st_mtime > _HALF_S:
                    path.unlink()
        files = self.files()
        size = sum(download.size_bytes for download in files)
        removed = []
        for download in files:
            old = unused_s is not None and now - download.used > unused_s
            if old or (total_bytes is not None and size > total_bytes):
                (self.folder / download.name).unlink(missing_ok=True)
                size -= download.size_bytes
                removed.append(download)
        return tuple(removed)

    def _take(self, fetched: Path) -> None:
        """Keep the new files, each there whole or not at all, and note which old ones were used."""
        for path in fetched.iterdir():
            if _NAME.fullmatch(path.name) and path.is_file() and not path.is_symlink():
                beside = self.folder / f".{path.name}.{os.getpid()}"
                # a full disk, say: the build has what it needs, and the next one downloads it again
                with contextlib.suppress(OSError):
                    self.folder.mkdir(parents=True, exist_ok=True)
                    beside.unlink(missing_ok=True)
                    link_file(path, beside)
                    beside.replace(self.folder / path.name)
        for name in _read_names(fetched / _USED):
            with contextlib.suppress(OSError):
                os.utime(self.folder / name, follow_symlinks=False)


def _read_names(path: Path) -> set[str]:
    try:
        text = path.read_text(encoding="utf-8", errors="replace") if not path.is_symlink() else ""
    except OSError:
        return set()
    return {name for name in text.splitlines() if _NAME.fullmatch(name)}
