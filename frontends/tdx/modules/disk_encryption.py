"""DiskEncryption: a disk of the guest as a LUKS2 volume, opened with a key of KeyGeneration and mounted."""

from __future__ import annotations

import re
from typing import Annotated, Literal

from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import EncryptedDisk

from tdx import _values as v
from tdx._declare import describes, here
from tdx._kinds import Constraint, Problem, kind_of
from tdx.image import Image
from tdx.modules._guest import DISK_PRIORITY, PROGRAM, VolumeName, between, install_program


def _device(value: str) -> Problem | None:
    if value and not value.startswith("/dev/"):
        fix = "" if value.startswith("/") else f"write '/dev/{value.removeprefix('dev/')}'"
        return Problem(Code.E_PATH, f"'{value}' is no path below /dev", fix)
    return next(kind_of(v.OptionalProgramPath).problems(value), None) or _device_pattern(value)


_GLOB_TOKEN = re.compile(r"[^\\\[]|\\.|\[\^?+(?:{0}(?:-{0})?)++\]".format(r"(?:[^\\\]-]|\\.)"), re.DOTALL)
"""Go's ``path.Match``, by which the guest reads patterns (package documentation): classes escape '-' and ']'."""


def _device_pattern(value: str) -> Problem | None:
    """A path without a special character is a pattern too."""
    at = 0
    while at < len(value):
        token = _GLOB_TOKEN.match(value, at)
        if token is None:
            text = f"'{value}' is no pattern: what begins with '{value[at]}' at character {at + 1} does not end"
            return Problem(Code.E_VALUE, text, f"write \\{value[at]} for the character itself, [a-z] for a class")
        if token[0].startswith("[!"):
            return Problem(Code.E_VALUE, f"'{value}' has a class that begins with '!'", "write [^…] for all others")
        at = token.end()
    return None


def _mount_point(value: str) -> Problem | None:
    for folder in ("/usr", "/etc", "/dev", "/proc", "/sys", "/run", "/boot", "/bin", "/sbin", "/lib", "/lib64"):
        if value == folder or value.startswith(f"{folder}/"):
            text = f"'{value}' would hide what the measured image has in {folder} behind a disk that nothing measures"
            return Problem(Code.E_VALUE, text, "write '/persistent', or a path below /var, /srv or /home")
    for link in ("/var/run", "/var/lock"):
        if value == link or value.startswith(f"{link}/"):
            return Problem(Code.E_VALUE, f"'{value}' goes through '{link}', a symbolic link to a folder in memory")
    return None


Device = Annotated[str, Constraint(check=_device, noun="a path below /dev", pattern="^(?:/dev/.+)?$")]
MountPoint = Annotated[v.ProgramPath, Constraint(check=_mount_point, noun="a mount point", pattern="^/.")]
DeviceWait = Annotated[int, between(0, 600, "a time in seconds")]
Format = Literal["on_initialize", "always", "never", "on_fail"]
Option = Literal["noexec", "noatime", "relatime", "ro", "sync"]


_WAIT_S = {"path": 30, "pathglob": 30, "largest": 0}
"""How long a disk may take to appear, in seconds. For the largest one the guest looks for two seconds in any case."""


class DiskEncryption:
    """Open a disk with LUKS2 and mount it, behind the key's step (priority 20).

    The disk is the one at ``device``, the largest one (``strategy="largest"``), or the only one that ``pathglob``
    matches. ``format``: ``on_initialize`` formats an empty disk, ``on_fail`` also one that was formatted so before and
    is damaged beyond repair, ``always`` at each boot, ``never``. None of them formats because a key is wrong, and the
    header of a disk is checked before it is believed. ``integrity`` detects changed sectors; the first format then
    writes the whole disk.
    """

    @describes
    def __init__(
        self,
        device: Device = "",
        *,
        strategy: Literal["largest", "pathglob"] | None = None,
        pathglob: Device = "",
        name: VolumeName = "data",
        key: VolumeName = "disk",
        format: Format = "on_initialize",  # noqa: A002 - the name that recipes use
        mount_at: MountPoint = "/persistent",
        mount_options: list[Option] | tuple[Option, ...] = (),
        fs: Literal["ext4"] = "ext4",
        integrity: bool = False,
        grow: bool = True,
        wait: DeviceWait | None = None,
    ) -> None:
        span = here()
        if (bool(device), strategy, bool(pathglob)) not in {
            (True, None, False),
            (False, "largest", False),
            (False, "pathglob", True),
        }:
            message = "DiskEncryption() needs exactly one of device='/dev/…', strategy='largest' and a pathglob"
            fix = "write device='/dev/vda3', strategy='largest', or strategy='pathglob' with pathglob='/dev/…*'"
            raise DiagnosticError.of(Code.E_VALUE, message, span, fix=fix)
        self.node = EncryptedDisk(
            name=name,
            key=key,
            strategy=strategy or "path",
            device=device or pathglob,
            format=format,
            mount_at=mount_at,
            mount_options=tuple(mount_options),
            fs=fs,
            integrity=integrity,
            grow=grow,
            wait_seconds=wait if wait is not None else _WAIT_S[strategy or "path"],
            span=span,
        )

    def apply(self, image: Image) -> None:
        """Declare the disk, the programs that open, check and grow it, and its boot step."""
        with image.module("DiskEncryption"):
            install_program(image)
            image.install("cryptsetup-bin", "e2fsprogs")
            image.declare("encrypted_disks", self.node)
            image.directory(self.node.mount_at)
            image.on_boot(f"exec {PROGRAM} disk", name="disk-encryption", priority=DISK_PRIORITY)
