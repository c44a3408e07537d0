"""Machines with an encrypted disk: boots of one image on it, spoiled disks, and images with one file more."""

from __future__ import annotations

import contextlib
import hashlib
import json
import re
import shutil
import struct
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import attrs
from support.consoles import BOOT_TIMEOUT_S, wait_for_all
from support.relink import sections, ukify
from tdxc_runtime.measure.stub.cpio import CpioTarget, pack
from tdxc_runtime.toolsroot import ToolsRoot
from tdxc_runtime.vm import ConsoleLine, DirectKernel, Disk, Forward, Machine, UkiOnDisk, boot

DISK_BYTES = 192 << 20
SETTLED = r"witness: boot \d+ of this disk|runtime-init: step .* FAILED"
_HEADER_SIZE, _CHECKSUM_AT, _CHECKSUM_SIZE = 4096, 448, 64
_HEADERS = (0, 0x4000)

RECIPE = '''\
from tdx import Image
from tdx.modules import DiskEncryption, KeyGeneration

img = Image("guest-disk", base="debian/trixie")
KeyGeneration(strategy="tpm").apply(img)
DiskEncryption(device="/dev/vdb", mount_at="/persistent").apply(img)
img.file(
    "/usr/bin/witness",
    content="""#!/bin/sh
set -eu
count=0
if [ -f /persistent/count ]; then count=$(cat /persistent/count); fi
count=$((count + 1))
echo "$count" >/persistent/count.new
sync /persistent/count.new
mv /persistent/count.new /persistent/count
sync /persistent
echo "witness: boot $count of this disk"
""",
    mode=0o755,
)
img.service(
    "witness",
    exec="/usr/bin/witness",
    type="oneshot",
    writes=["/persistent"],
    extra_unit={"Service": {"StandardOutput": "journal+console"}},
)
'''


@attrs.frozen(kw_only=True)
class Place:
    """What outlives a boot: the disk, and a folder with the state of the TPM and the firmware's variables."""

    disk: Path
    state: Path

    @classmethod
    def new(cls, folder: Path) -> Place:
        """An empty disk and a new TPM."""
        folder.mkdir(parents=True)
        (folder / "disk.raw").touch()
        with (folder / "disk.raw").open("r+b") as file:
            file.truncate(DISK_BYTES)
        return cls(disk=folder / "disk.raw", state=folder / "state")

    def copy(self, folder: Path) -> Place:
        """The same disk and TPM, to be spoiled."""
        folder.mkdir(parents=True)
        shutil.copyfile(self.disk, folder / "disk.raw")
        shutil.copytree(self.state, folder / "state")
        return Place(disk=folder / "disk.raw", state=folder / "state")

    def digest(self) -> str:
        """SHA-256 of the whole disk."""
        with self.disk.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()

    def machine(self, started: UkiOnDisk | DirectKernel, *forwards: Forward) -> Machine:
        """The machine with this disk as its second one; without firmware for a kernel that QEMU starts itself.

        It has a network only where ports are forwarded, and one processor, as nothing here needs more.
        """
        disk = Disk(path=self.disk, persistent=True)
        filler = () if isinstance(started, UkiOnDisk) else (Disk(path=self.disk.with_name("first.raw")),)
        for other in filler:
            other.path.write_bytes(bytes(1 << 20))
        uefi = isinstance(started, UkiOnDisk)
        return Machine(
            boot=started,
            disks=(*filler, disk),
            state=self.state,
            uefi=uefi,
            vcpus=1,
            network=bool(forwards),
            forwards=forwards,
        )


def settle(place: Place, started: UkiOnDisk | DirectKernel) -> list[ConsoleLine]:
    """The console of a boot until the service has run or a step has failed."""
    lines: list[ConsoleLine] = []
    with boot(place.machine(started), on_line=lines.append) as machine:
        if "FAILED" in machine.console.wait_for(SETTLED, BOOT_TIMEOUT_S)[0]:
            wait_for_all(machine, lines, r"Dependency failed for witness")
    show(lines)
    return lines


def kill_behind(place: Place, started: UkiOnDisk | DirectKernel, pattern: str, seconds: float) -> list[ConsoleLine]:
    """The console of a boot that ends as with a power cut, ``seconds`` after a line that matches."""
    lines: list[ConsoleLine] = []
    with boot(place.machine(started), on_line=lines.append) as machine:
        machine.console.wait_for(pattern, BOOT_TIMEOUT_S)
        with contextlib.suppress(subprocess.TimeoutExpired):
            machine.running.popen.wait(seconds)
        machine.running.popen.kill()
        machine.console.join(BOOT_TIMEOUT_S)  # QEMU, which ends behind its supervisor, has let go of the disk
    show(lines)
    return lines


def show(lines: list[ConsoleLine]) -> None:
    """Print what the guest's program and the service said, with times."""
    for line in lines:
        if re.search(r"runtime-init|witness|REFUSED|what to do", line.text):
            print(f"{line.seconds:7.2f} s  {line.text}")


def said(lines: list[ConsoleLine]) -> str:
    """The console as one text."""
    return "\n".join(line.text for line in lines)


def direct(uki: Path, folder: Path) -> DirectKernel:
    """The kernel of a UKI, started by QEMU itself: boots without firmware are faster."""
    found = sections(uki)
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vmlinuz").write_bytes(found["linux"])
    (folder / "initrd").write_bytes(found["initrd"])
    words = found["cmdline"].rstrip(b"\0\n").decode()
    return DirectKernel(kernel=folder / "vmlinuz", initrd=folder / "initrd", command_line=words)


def with_one_more_file(root: ToolsRoot, uki: Path, target: Path) -> Path:
    """The image with /opt/one-more, as another bake of another recipe would have it."""
    found = sections(uki)
    folder = CpioTarget(folder="opt", folder_mode=0o755, file_mode=0o644)
    tail = pack(folder, [("one-more", b"another image\n")])
    found["initrd"] += bytes(-len(found["initrd"]) % 4) + tail
    ukify(root, found, target, root.root / "usr/lib/systemd/boot/efi/linuxx64.efi.stub")
    return target


def rewrite_headers(disk: Path, change: Callable[[bytearray, dict[str, Any]], None]) -> None:
    """Change both LUKS2 headers as a host can: ``change`` gets the binary part and the JSON; checksums are made good.

    LUKS2 On-Disk Format Specification, sections 2.1 (binary header) and 3 (JSON area).
    """
    with disk.open("r+b") as file:
        for offset in _HEADERS:
            file.seek(offset)
            binary = bytearray(file.read(_HEADER_SIZE))
            (size,) = struct.unpack_from(">Q", binary, 8)
            area = file.read(size - _HEADER_SIZE)
            data = json.loads(area.rstrip(b"\0"))
            change(binary, data)
            text = json.dumps(data).encode()
            area = text + bytes(len(area) - len(text))
            binary[_CHECKSUM_AT : _CHECKSUM_AT + _CHECKSUM_SIZE] = bytes(_CHECKSUM_SIZE)
            digest = hashlib.sha256(bytes(binary) + area).digest()
            binary[_CHECKSUM_AT : _CHECKSUM_AT + len(digest)] = digest
            file.seek(offset)
            file.write(binary + area)


def null_cipher(_binary: bytearray, data: dict[str, Any]) -> None:
    """No encryption at all, under which a host reads and writes everything (CVE-2025-59054 and its kin)."""
    for segment in data["segments"].values():
        segment["encryption"] = "cipher_null-ecb"


def oversized(binary: bytearray, _data: dict[str, Any]) -> None:
    """A header that says it is 4 GiB long."""
    struct.pack_into(">Q", binary, 8, 4 << 30)


def cut_off(disk: Path) -> None:
    """Headers whose JSON is gone."""
    with disk.open("r+b") as file:
        for offset in _HEADERS:
            file.seek(offset + _HEADER_SIZE)
            file.write(bytes(0x3000))
