"""The small cpio archives that systemd-stub makes at boot, byte for byte.

Format: "newc" (Linux ``Documentation/driver-api/early-userspace/buffer-format.rst``); field values as in systemd
``src/boot/cpio.c``: inodes count from 1, owner root, no times, one link.
"""

from __future__ import annotations

from collections.abc import Iterable

import attrs

_DIRECTORY, _FILE = 0o040000, 0o100000
_TRAILER = b"070701" + b"0" * 32 + b"00000001" + b"0" * 48 + b"0000000B" + b"0" * 8 + b"TRAILER!!!\0\0\0\0"


@attrs.frozen(kw_only=True)
class CpioTarget:
    """Where an archive unpacks: the folder, its mode and the mode of the files in it."""

    folder: str
    folder_mode: int
    file_mode: int


META = CpioTarget(folder=".extra", folder_mode=0o555, file_mode=0o444)
CREDENTIALS = CpioTarget(folder=".extra/credentials", folder_mode=0o500, file_mode=0o400)
GLOBAL_CREDENTIALS = CpioTarget(folder=".extra/global_credentials", folder_mode=0o500, file_mode=0o400)
SYSEXTS = CpioTarget(folder=".extra/sysext", folder_mode=0o555, file_mode=0o444)
CONFEXTS = CpioTarget(folder=".extra/confext", folder_mode=0o555, file_mode=0o444)


def pad4(data: bytes) -> bytes:
    """``data`` continued by zeros to a multiple of four bytes."""
    return data + bytes(-len(data) % 4)


def _record(inode: int, mode: int, name: str, data: bytes) -> bytes:
    encoded = name.encode("ascii") + b"\0"
    fields = (inode, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
    header = b"070701" + b"".join(b"%08x" % field for field in fields)
    return pad4(header + encoded) + pad4(data)


def pack(target: CpioTarget, files: Iterable[tuple[str, bytes]]) -> bytes:
    """The archive of ``(name, content)`` in the given order, after the folders that lead to them."""
    parts = target.folder.split("/")
    folders = ["/".join(parts[: depth + 1]) for depth in range(len(parts))]
    modes = [0o555] * (len(folders) - 1) + [target.folder_mode]
    named = zip(folders, modes, strict=True)
    records = [_record(inode, _DIRECTORY | mode, name, b"") for inode, (name, mode) in enumerate(named, 1)]
    for inode, (name, data) in enumerate(files, len(folders) + 1):
        records.append(_record(inode, _FILE | target.file_mode, f"{target.folder}/{name}", data))
    return b"".join(records) + _TRAILER
