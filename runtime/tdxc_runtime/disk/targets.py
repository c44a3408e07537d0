"""What each output target is made of: one row per platform."""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import BinaryIO

from tdxc.diagnostics import Code, DiagnosticError

from tdxc_runtime.disk.esp import make_esp_disk
from tdxc_runtime.disk.extents import SparseImage
from tdxc_runtime.disk.gcp import write_gcp_tar
from tdxc_runtime.disk.qcow2 import write_qcow2
from tdxc_runtime.disk.vhd import write_vhd

TARGET_FILES = {"qemu": ".qcow2", "azure": ".vhd", "gcp": ".tar.gz"}
"""Output target to the end of its file's name."""


def write_target(target: str, uki: Path, seed: uuid.UUID, folder: Path) -> Path:
    """Write the disk of ``uki`` for a target into ``folder``, named after the UKI; returns the file.

    Raises E_DEPLOYMENT for an unknown target, OSError for what the file system refuses.
    """
    if target not in TARGET_FILES:
        known = ", ".join(sorted(TARGET_FILES))
        raise DiagnosticError.of(Code.E_DEPLOYMENT, f"there is no output target '{target}'", fix=f"use one of: {known}")
    path = folder / f"{uki.stem}{TARGET_FILES[target]}"
    disk = make_esp_disk(uki, seed)
    with path.open("wb") as file:
        _write(target, disk.image, seed, file)
    return path


def _write(target: str, image: SparseImage, seed: uuid.UUID, file: BinaryIO) -> None:
    if target == "azure":
        write_vhd(image, seed, file)
    elif target == "gcp":
        write_gcp_tar(image, file)
    else:
        write_qcow2(image, file)
