"""Builds the root file system that a confined command sees: a tmpfs with parts of the tools root and binds inside.

mkosi wants ``/`` to be a mount point and the host's paths to exist under their own names, so that its messages make
sense to the user. The new root is therefore a tmpfs into which the tools root's folders are bound read-only; a bind
whose target lies inside such a folder splits it open (:func:`_open_up`) instead of writing into the tools root.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from tdxc_runtime.supervisor import syscalls as sys_

_OWN_FOLDERS = frozenset(
    ["dev", "proc", "sys", "run", "tmp", "home", "root", "mnt", "media", "srv", "boot", "lost+found"]
)
_DEVICE_NODES = ("null", "zero", "full", "random", "urandom", "tty")


def build_root(tools: Path, staging: Path, binds: list[tuple[str, str, bool]], devices: list[str]) -> None:
    """Mount a new root at ``staging`` (an existing empty folder): tools, ``/dev``, ``/sys``, then ``binds`` in order.

    ``binds`` are (source, target, writable). To be called by the first process of the PID namespace.
    """
    sys_.mount("tmpfs", staging, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=0755")
    for entry in sorted(tools.iterdir()):
        if entry.is_symlink():
            (staging / entry.name).symlink_to(entry.readlink())
        elif entry.is_dir() and entry.name not in _OWN_FOLDERS:
            (staging / entry.name).mkdir()
            bind(entry, staging / entry.name, writable=False)
    for name in ("proc", "sys", "dev", "run", "tmp", "root", "home", "mnt", "boot"):
        (staging / name).mkdir(mode=0o755)
    (staging / "tmp").chmod(0o1777)
    if (staging / "var/tmp").is_dir():
        sys_.mount("tmpfs", staging / "var/tmp", "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=1777")
    bind(Path("/sys"), staging / "sys", writable=False)
    _populate_dev(staging / "dev", devices)
    for source, target, writable in binds:
        inside = staging / target.lstrip("/")
        _make_target(Path(source), inside, staging)
        bind(Path(source), inside, writable=writable)


def bind(source: Path, target: Path, *, writable: bool) -> None:
    """Bind ``source`` with everything mounted below it; a read-only bind keeps the flags that the kernel has locked."""
    sys_.mount(str(source), target, flags=sys_.MS_BIND | sys_.MS_REC)
    if not writable:
        sys_.mount(None, target, flags=sys_.MS_REMOUNT | sys_.MS_BIND | sys_.MS_RDONLY | _locked_flags(target))


def enter_root(staging: Path) -> None:
    """Make ``staging`` the root of this mount namespace and drop the old one (``pivot_root(2)``, section NOTES)."""
    os.chdir(staging)
    sys_.pivot_root(Path(), Path())
    sys_.unmount(Path())
    os.chdir("/")


def mount_proc(target: Path) -> None:
    """Mount a ``/proc`` that shows only our PID namespace."""
    sys_.mount("proc", target, "proc", sys_.MS_NOSUID | sys_.MS_NODEV | sys_.MS_NOEXEC)


def _locked_flags(target: Path) -> int:
    """The mount flags in force, which a remount inside a user namespace must repeat (``user_namespaces(7)``)."""
    in_force = os.statvfs(target).f_flag
    pairs = (
        (os.ST_NOSUID, sys_.MS_NOSUID),
        (os.ST_NODEV, sys_.MS_NODEV),
        (os.ST_NOEXEC, sys_.MS_NOEXEC),
        (os.ST_NOATIME, sys_.MS_NOATIME),
        (os.ST_RELATIME, sys_.MS_RELATIME),
    )
    return sum(mount_flag for statvfs_flag, mount_flag in pairs if in_force & statvfs_flag)


def _populate_dev(dev: Path, devices: list[str]) -> None:
    sys_.mount("tmpfs", dev, "tmpfs", sys_.MS_NOSUID, "mode=0755")
    for name in (*_DEVICE_NODES, *devices):
        source = Path("/dev") / name
        if source.exists():
            (dev / name).parent.mkdir(parents=True, exist_ok=True)
            (dev / name).touch()
            sys_.mount(str(source), dev / name, flags=sys_.MS_BIND)
    for name, target in (("fd", "fd"), ("stdin", "fd/0"), ("stdout", "fd/1"), ("stderr", "fd/2")):
        (dev / name).symlink_to(f"/proc/self/{target}")
    (dev / "shm").mkdir()
    sys_.mount("tmpfs", dev / "shm", "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=1777")
    (dev / "pts").mkdir()
    sys_.mount("devpts", dev / "pts", "devpts", sys_.MS_NOSUID | sys_.MS_NOEXEC, "newinstance,ptmxmode=0666,mode=0620")
    (dev / "ptmx").symlink_to("pts/ptmx")


def _make_target(source: Path, target: Path, staging: Path) -> None:
    """Create a mount point of the source's kind, opening up read-only folders on the way."""
    _make_parents(target.parent, staging)
    if target.is_symlink() or not target.exists():
        _open_up(target.parent, staging)
        target.unlink(missing_ok=True)
        if stat.S_ISDIR(source.stat().st_mode):
            target.mkdir()
        else:
            target.touch()


def _make_parents(folder: Path, staging: Path) -> None:
    """Create ``folder`` below ``staging`` without leaving it, as :meth:`Path.mkdir` would through a symbolic link."""
    current = staging
    for part in folder.relative_to(staging).parts:
        following = current / part
        if following.is_symlink():
            following = staging / os.path.normpath(Path("/") / current.relative_to(staging) / following.readlink())[1:]
            _make_parents(following, staging)
        elif not following.exists():
            _open_up(current, staging)
            following.mkdir()
        current = following


def _open_up(folder: Path, staging: Path) -> None:
    """Make one read-only folder of the new root writable: a tmpfs in its place, its entries bound into that."""
    if not os.statvfs(folder).f_flag & os.ST_RDONLY:
        return
    hidden = staging / "run" / f".opened-{folder.name}-{folder.stat().st_ino}"
    hidden.mkdir()
    sys_.mount(str(folder), hidden, flags=sys_.MS_BIND | sys_.MS_REC)
    sys_.mount("tmpfs", folder, "tmpfs", sys_.MS_NOSUID | sys_.MS_NODEV, "mode=0755")
    for entry in sorted(hidden.iterdir()):
        place = folder / entry.name
        if entry.is_symlink():
            place.symlink_to(entry.readlink())
            continue
        if entry.is_dir():
            place.mkdir()
        else:
            place.touch()
        bind(entry, place, writable=False)
    sys_.unmount(hidden)
    hidden.rmdir()
