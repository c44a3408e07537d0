"""What is to be measured: one boot of one image on one platform, as data."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from pathlib import Path

import attrs

from .boot.gpt import PartitionTable
from .events import Origin
from .firmware.mrtd import PageOrder
from .machine import GuestMachine, QemuVersion
from .manifest import Platform
from .stub.sidecars import NO_SIDECARS, Sidecars


class BootMode(enum.StrEnum):
    """How the image starts: handed over with ``-kernel``, or found on a disk."""

    DIRECT = "direct"
    DISK = "disk"


@attrs.frozen(kw_only=True)
class KernelFiles:
    """What accompanies ``-kernel``: the initrd of a plain kernel, and the command line (``-append``)."""

    initrd: Path | None = None
    command_line: str = ""


@attrs.frozen(kw_only=True)
class MeasurementRequest:
    """One boot to predict.

    ``artifact`` is a UKI, a plain kernel, a disk image or an output folder. ``disk`` names the disk image where the
    artifact is a UKI that boots from one; ``partition_table`` is that of a disk which is not at hand.
    ``firmware_release`` states the edk2 release where the firmware file leaves it open. Tables come from
    ``acpi_folder`` if given, else out of the QEMU at ``qemu`` (or that of ``tdxc run``) when ``dump_tables`` is set.
    ``qemu_version`` is enough where only QEMU's way of starting a kernel matters. ``page_order`` is a property of the
    host. ``boot_slot`` is the slot of the virtio boot disk on the root bus. ``secure_boot`` states whether Secure Boot
    is on where no firmware file tells. ``units`` are the names of all systemd units in the image, ``None`` when
    unknown. ``smbios_sha384`` is the digest of the machine's SMBIOS event.
    """

    artifact: Path
    platform: Platform = Platform.QEMU
    boot: BootMode = BootMode.DIRECT
    disk: Path | None = None
    partition_table: PartitionTable | None = None
    kernel_files: KernelFiles = KernelFiles()
    profile: int = 0
    firmware: Path | None = None
    firmware_release: str = ""
    endorsement: Path | None = None
    page_order: PageOrder = PageOrder.INTERLEAVED
    machine: GuestMachine | None = None
    dump_tables: bool = True
    qemu: Path | None = None
    qemu_version: QemuVersion | None = None
    acpi_folder: Path | None = None
    smbios_sha384: bytes | None = None
    boot_slot: int | None = None
    secure_boot: bool | None = None
    sidecars: Sidecars = NO_SIDECARS
    units: frozenset[str] | None = None
    origins: Mapping[str, Origin] = attrs.field(factory=dict)
