"""The one disk layout of all platforms: GPT with an EFI system partition that holds the UKI as EFI/BOOT/BOOTX64.EFI.

The same UKI and seed give the same disk everywhere, and so the same GPT event in PCR 5 and RTMR1 on every platform:
the size is a whole number of GiB since GCP asks for that, and all identifiers are derived from the seed by UUIDv5.
"""

from __future__ import annotations

import uuid
from pathlib import Path

import attrs

from tdxc_runtime.disk import fat32, gpt
from tdxc_runtime.disk.extents import Extent, SparseImage

GIB = 1 << 30
_FIRST_LBA = 2048
_SLACK_BYTES = 16 << 20


@attrs.frozen(kw_only=True)
class EspDisk:
    """The disk, and its identifiers for whoever predicts the GPT event."""

    image: SparseImage
    disk_guid: uuid.UUID
    partition_guid: uuid.UUID


def make_esp_disk(uki: Path, seed: uuid.UUID) -> EspDisk:
    """Lay out a disk for ``uki``; identifiers come from ``seed``. Raises OSError when the file cannot be read."""
    size = uki.stat().st_size
    total = -(-(size + _SLACK_BYTES + _FIRST_LBA * gpt.SECTOR) // GIB) * GIB
    sectors = total // gpt.SECTOR
    last = (gpt.last_usable_lba(sectors) + 1) // 2048 * 2048 - 1
    disk_guid, partition_guid = uuid.uuid5(seed, "disk"), uuid.uuid5(seed, "esp")
    partition = gpt.GptPartition(
        type=gpt.EFI_SYSTEM_PARTITION, unique=partition_guid, first_lba=_FIRST_LBA, last_lba=last, name="esp"
    )
    primary = gpt.primary_table(disk_guid, sectors, (partition,))
    backup = gpt.backup_table(disk_guid, sectors, (partition,))
    volume = fat32.fat32_extents(
        (fat32.FatFile(path="EFI/BOOT/BOOTX64.EFI", source=uki, size=size),),
        sectors=last - _FIRST_LBA + 1,
        hidden_sectors=_FIRST_LBA,
        volume_id=uuid.uuid5(seed, "esp-volume").fields[0],
        label="ESP",
    )
    shift = _FIRST_LBA * gpt.SECTOR
    extents = (
        Extent(offset=0, source=primary, size=len(primary)),
        *(attrs.evolve(extent, offset=extent.offset + shift) for extent in volume),
        Extent(offset=total - len(backup), source=backup, size=len(backup)),
    )
    return EspDisk(image=SparseImage(size=total, extents=extents), disk_guid=disk_guid, partition_guid=partition_guid)
