"""The Linux system calls that the supervisor needs and that Python 3.11's ``os`` lacks, as thin ctypes wrappers.

Each raises :class:`OSError` with the kernel's errno. Constants: ``linux/sched.h``, ``linux/mount.h`` and
``linux/prctl.h``; system call numbers: ``asm/unistd_64.h`` (x86-64) and ``asm-generic/unistd.h`` (arm64).
"""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

CLONE_NEWNS = 0x00020000
CLONE_NEWUSER = 0x10000000
CLONE_NEWPID = 0x20000000

MS_RDONLY = 0x1
MS_NOSUID = 0x2
MS_NODEV = 0x4
MS_NOEXEC = 0x8
MS_REMOUNT = 0x20
MS_NOATIME = 0x400
MS_BIND = 0x1000
MS_REC = 0x4000
MS_PRIVATE = 0x40000
MS_RELATIME = 0x200000
MNT_DETACH = 0x2

_AT_FDCWD = -100
_RENAME_EXCHANGE = 2
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_PIVOT_ROOT = {"x86_64": 155, "aarch64": 41}

_libc = ctypes.CDLL(None, use_errno=True)


def _check(status: int, what: str) -> None:
    if status < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def unshare(flags: int) -> None:
    """Move the calling process into new namespaces (``CLONE_NEW*``); a new PID namespace begins with the next fork."""
    _check(_libc.unshare(ctypes.c_int(flags)), "unshare")


def mount(source: str | None, target: Path, kind: str | None = None, flags: int = 0, data: str | None = None) -> None:
    """``mount(2)``."""
    arguments = (_bytes(source), os.fsencode(target), _bytes(kind), ctypes.c_ulong(flags), _bytes(data))
    _check(_libc.mount(*arguments), f"mount {source or kind or ''} on {target}")


def unmount(target: Path, flags: int = MNT_DETACH) -> None:
    """``umount2(2)``; lazy unless told otherwise."""
    _check(_libc.umount2(os.fsencode(target), ctypes.c_int(flags)), f"unmount {target}")


def pivot_root(new_root: Path, put_old: Path) -> None:
    """Make ``new_root``, a mount point, the root of the mount namespace; the old one appears at ``put_old``."""
    number = _PIVOT_ROOT[os.uname().machine]
    _check(_libc.syscall(ctypes.c_long(number), os.fsencode(new_root), os.fsencode(put_old)), f"pivot_root {new_root}")


def exchange(one: Path, other: Path) -> None:
    """Swap two paths of one file system in a single step (``renameat2(2)``, RENAME_EXCHANGE)."""
    status = _libc.renameat2(_AT_FDCWD, os.fsencode(one), _AT_FDCWD, os.fsencode(other), _RENAME_EXCHANGE)
    _check(status, f"exchange {one} and {other}")


def die_with_parent(signal_number: int) -> None:
    """Ask the kernel to send us this signal when the thread that forked us ends."""
    _check(_libc.prctl(_PR_SET_PDEATHSIG, signal_number, 0, 0, 0), "prctl(PR_SET_PDEATHSIG)")


def become_subreaper() -> None:
    """Adopt the orphans among our descendants, so that none can escape to process 1."""
    _check(_libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0), "prctl(PR_SET_CHILD_SUBREAPER)")


def _bytes(text: str | None) -> bytes | None:
    return None if text is None else os.fsencode(text)
