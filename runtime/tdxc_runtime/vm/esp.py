"""Makes a disk with one EFI system partition that holds a UKI where firmware looks for it on any medium.

The identifiers are fixed: the firmware measures the partition table (TCG PC Client PFP, EV_EFI_GPT_EVENT).
"""

from __future__ import annotations

from pathlib import Path

from tdxc_runtime.process import Bind
from tdxc_runtime.vm.tools import VmTools

DISK_GUID = "7d0c1f5a-4e5b-4d3c-9a57-0e8a3a1b6c01"
PARTITION_GUID = "7d0c1f5a-4e5b-4d3c-9a57-0e8a3a1b6c02"
_ESP_TYPE = "c12a7328-f81f-11d2-ba4b-00a0c93ec93b"  # UEFI specification 2.10, table 5.7
_FAT_SERIAL = "7d0c1f5a"
_MIB = 1 << 20
_SECTOR = 512
_START_MIB = 1
_LEAST_ESP_MIB = 64

# $1 disk, $2 partition script, $3 UKI, $4 first sector, $5 partition size in KiB
_SCRIPT = f"""set -eu
sfdisk --quiet "$1" <"$2"
mkfs.vfat -F 32 --invariant -i {_FAT_SERIAL} -n ESP --offset "$4" "$1" "$5" >/dev/null
mmd -i "$1@@{_START_MIB}M" ::EFI ::EFI/BOOT
mcopy -i "$1@@{_START_MIB}M" "$3" ::EFI/BOOT/BOOTX64.EFI
"""


def make_esp_disk(tools: VmTools, uki: Path, scratch: Path, inside: Path) -> Path:
    """Make ``esp.raw`` in ``scratch``, which the tools see as ``inside``; returns its path inside."""
    esp_mib = max(_LEAST_ESP_MIB, uki.stat().st_size // _MIB + 16)
    with (scratch / "esp.raw").open("wb") as disk:
        disk.truncate((esp_mib + 2 * _START_MIB) * _MIB)
    (scratch / "esp.sfdisk").write_text(partition_script(esp_mib), encoding="ascii")
    inside_uki = uki if tools.root is None else inside / "boot.efi"
    argv = ["sh", "-c", _SCRIPT, "make-esp", str(inside / "esp.raw"), str(inside / "esp.sfdisk"), str(inside_uki)]
    argv += [str(_START_MIB * _MIB // _SECTOR), str(esp_mib * 1024)]
    tools.run(argv, (Bind(source=scratch, target=inside, writable=True), Bind(source=uki, target=inside_uki)))
    return inside / "esp.raw"


def partition_script(esp_mib: int) -> str:
    """The partition table as sfdisk(8) reads it; sizes in sectors."""
    start, size = (mib * _MIB // _SECTOR for mib in (_START_MIB, esp_mib))
    return (
        f"label: gpt\nlabel-id: {DISK_GUID}\n"
        f"start={start}, size={size}, type={_ESP_TYPE}, uuid={PARTITION_GUID}, name=esp\n"
    )
