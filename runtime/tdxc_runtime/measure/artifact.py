"""What was baked: a UKI, a plain kernel, a disk image or an output folder, opened for measuring."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

from .boot.fat import FatFileSystem, MalformedFatError
from .boot.gpt import ESP_TYPE, SECTOR, PartitionTable, read_partition_table
from .pe.diagnose import artifact_error
from .qcow2 import MAGIC, Qcow2Disk
from .sources import ByteSource, FileSource

REMOVABLE_PATH = ("EFI", "BOOT", "BOOTX64.EFI")
_SECRET_OFF = ("loader", "boot-secret-mixin")
_DISK_SUFFIXES = frozenset({".raw", ".img"})
_DISK_FILES = _DISK_SUFFIXES | {".vhd", ".qcow2"}
_PACKED = frozenset({".gz", ".xz", ".zst", ".tar"})
_IMAGE_SUFFIXES = frozenset({".efi"})


@attrs.frozen(kw_only=True)
class Artifact:
    """An opened artifact. ``image`` is the EFI image that the firmware starts; ``table`` the disk's, if there is one.

    ``name`` is what diagnostics and origins call it. ``boot_secret_disabled`` says that the ESP holds the empty file
    that keeps systemd-stub from mixing a secret into the initrd.
    """

    name: str
    image: ByteSource
    table: PartitionTable | None = None
    boot_secret_disabled: bool = False


@contextlib.contextmanager
def open_artifact(path: Path, disk: Path | None = None) -> Iterator[Artifact]:
    """Open a UKI, a kernel, a disk image (raw, fixed VHD, qcow2), or an output folder with one UKI or disk image.

    ``disk`` may name the disk image (or its first 34 sectors) of a UKI that boots from one. E_MEASUREMENT when nothing
    has been baked yet, E_ARTIFACT when the files are not what they should be.
    """
    with contextlib.ExitStack() as stack:
        image_path, disk_path = _locate(path, disk)
        table, esp = None, None
        if disk_path is not None:
            source = _disk_of(stack.enter_context(FileSource(disk_path)), str(disk_path))
            table = read_partition_table(source, artifact=str(disk_path))
            esp = _open_esp(source, table)
        if image_path is not None:
            image: ByteSource = stack.enter_context(FileSource(image_path))
            name = str(image_path)
        else:
            image, name = _boot_image(esp, str(disk_path)), str(disk_path)
        disabled = False
        if esp is not None:
            with contextlib.suppress(MalformedFatError):
                mixin = esp.find(_SECRET_OFF)
                disabled = mixin is not None and mixin.size == 0
        yield Artifact(name=name, image=image, table=table, boot_secret_disabled=disabled)


def _locate(path: Path, disk: Path | None) -> tuple[Path | None, Path | None]:
    """The image and the disk among what was named: ``(image, disk)``, one of them maybe ``None``."""
    if path.is_dir():
        image = _only(path, _IMAGE_SUFFIXES)
        raw = disk or _only(path, _DISK_SUFFIXES)
        if image is None and raw is None:
            raise _not_baked(path)
        return image, raw
    if not path.exists():
        raise _not_baked(path)
    if path.suffix in _PACKED:
        raise artifact_error(str(path), "the disk is packed", "unpack it, or measure the UKI or the output folder")
    return (None, path) if path.suffix in _DISK_FILES else (path, disk)


def _disk_of(file: ByteSource, artifact: str) -> ByteSource:
    """The disk that a file is or holds."""
    is_qcow2 = file.size > len(MAGIC) and file.read(0, len(MAGIC)) == MAGIC
    return Qcow2Disk(file, artifact) if is_qcow2 else file


def _not_baked(path: Path) -> DiagnosticError:
    return DiagnosticError.of(
        Code.E_MEASUREMENT,
        f"there is no image to measure at '{path}'",
        SourceSpan(file=str(path)),
        fix="bake first: run `tdxc build RECIPE`, then measure what it wrote",
    )


def _only(folder: Path, suffixes: frozenset[str]) -> Path | None:
    """The one file with such a suffix (``None`` without any); E_ARTIFACT when there are several."""
    found = sorted(p for p in folder.iterdir() if p.suffix in suffixes and not p.is_symlink() and p.is_file())
    if len(found) > 1:
        names = ", ".join(p.name for p in found)
        raise artifact_error(str(folder), f"the folder holds several images: {names}", "name one of them")
    return found[0] if found else None


def _open_esp(disk: ByteSource, table: PartitionTable) -> FatFileSystem | None:
    """The EFI system partition's file system, if the file reaches that far and it is one."""
    for partition in table.partitions:
        if partition.type_guid == ESP_TYPE:
            with contextlib.suppress(MalformedFatError):
                return FatFileSystem(disk, partition.first_lba * SECTOR)
    return None


def _boot_image(esp: FatFileSystem | None, name: str, path: Sequence[str] = REMOVABLE_PATH) -> ByteSource:
    """The application that firmware starts from the disk."""
    if esp is None:
        raise artifact_error(
            name, "the disk has no EFI system partition with a FAT file system", "name a bootable disk"
        )
    try:
        found = esp.find(path)
    except MalformedFatError as error:
        raise artifact_error(name, f"the EFI system partition is damaged: {error}") from None
    if found is None:
        raise artifact_error(name, f"the EFI system partition has no /{'/'.join(path)}", "name a bootable disk")
    return found
