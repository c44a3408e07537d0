"""The fw_cfg items that firmware measures: ACPI blobs and settings, from a stopped QEMU or from files."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

from tdxc_runtime.measure.machine import GuestMachine, inert_argv

from .chipset import MMCONFIG, place_windows, program_chipset, virtio_disks
from .qemu import Qemu
from .qtest import QtestSession, qtest_session
from .tpm import NO_TPM, software_tpm

LOADER, RSDP, TPM_LOG, TABLES = "etc/table-loader", "etc/acpi/rsdp", "etc/tpm/log", "etc/acpi/tables"
ACPI_ORDER = (LOADER, RSDP, TPM_LOG, TABLES)
"""The order in which OVMF measures the blobs: the loader script, then what it allocates, in its order."""
BOOT_MENU = "BootMenu"
_BOOT_MENU_KEY = 0x0E
_USUAL_PHYSICAL_BITS = 46
_ANY_PROCESSOR = "qemu64"
_RAM = "guest-ram"
FW_CFG_ORDER = (
    "etc/extra-pci-roots",
    BOOT_MENU,
    "etc/boot-menu-wait",
    "etc/reserved-memory-end",
    "opt/ovmf/X-PciMmio64Mb",
    "bootorder",
)
"""The settings that newer TD firmware measures, in its order (edk2 ``QemuFwCfgCacheInit.c``)."""
SMBIOS_TABLES = "etc/smbios/smbios-tables"
SMBIOS_ANCHOR = "etc/smbios/smbios-anchor"
_FILE_ITEMS = (*ACPI_ORDER, *FW_CFG_ORDER, SMBIOS_TABLES, SMBIOS_ANCHOR)


@attrs.frozen(kw_only=True)
class FwCfgItems:
    """Items by name, and where they come from in words (``QEMU emulator version …`` or a folder).

    ``virtio_disks`` are the slots of the virtio block devices on the root bus, as far as QEMU told.
    """

    items: Mapping[str, bytes]
    origin: str
    virtio_disks: tuple[int, ...] = ()


def read_from_qemu(qemu: Qemu, machine: GuestMachine, mmconfig: int = MMCONFIG) -> FwCfgItems:
    """Read the items of a machine out of the very QEMU that will run it.

    The processor's model shows in the SMBIOS tables alone. The settings are read before the chipset is programmed and
    the tables after, as the firmware does. E_MEASUREMENT for machines whose tables cannot be foretold,
    E_BACKEND_EXECUTION when QEMU rejects the machine.
    """
    processor = f"{machine.processor or _ANY_PROCESSOR},phys-bits={machine.physical_bits or _USUAL_PHYSICAL_BITS}"
    hardware = [*unreserved(inert_argv(machine.argv()), machine.memory), "-cpu", processor]
    with contextlib.ExitStack() as stack:
        tpm = stack.enter_context(software_tpm(qemu.tools)) if machine.tpm else NO_TPM
        session = stack.enter_context(qtest_session(qemu, [*tpm.words, *hardware], tpm.binds))
        items = {name: data for name in FW_CFG_ORDER if (data := _read(session, name))}
        program_chipset(session, mmconfig=mmconfig)
        place_windows(session, machine.physical_bits, amd=machine.amd)
        disks = virtio_disks(session)
        for name in (*ACPI_ORDER, SMBIOS_TABLES, SMBIOS_ANCHOR):
            if data := _read(session, name):
                items[name] = data
    return FwCfgItems(items=items, virtio_disks=disks, origin=f"{qemu.version_text} (sha256 {qemu.sha256[:16]})")


def unreserved(hardware: Sequence[str], memory: int) -> list[str]:
    """The same hardware whose RAM takes no memory of ours until it is touched, so that it may exceed what we have."""
    backend = ["-object", f"memory-backend-ram,id={_RAM},size={memory},reserve=off"]
    words = list(hardware)
    place = words.index("-machine") + 1
    words[place] += f",memory-backend={_RAM}"
    return [*backend, *words]


def _read(session: QtestSession, name: str) -> bytes | None:
    return session.fw_cfg_read(_BOOT_MENU_KEY, 2) if name == BOOT_MENU else session.fw_cfg_file(name)


def read_from_folder(folder: Path) -> FwCfgItems:
    """Items as files: the item's name with ``/`` as folders or as ``_`` (``etc/acpi/tables``, ``etc_acpi_tables``).

    E_MEASUREMENT when none of the three ACPI blobs is there.
    """
    items: dict[str, bytes] = {}
    for name in _FILE_ITEMS:
        for candidate in (folder / name, folder / name.replace("/", "_")):
            if candidate.is_file():
                items[name] = candidate.read_bytes()
                break
    missing = [name for name in (LOADER, RSDP, TABLES) if name not in items]
    if missing:
        raise DiagnosticError.of(
            Code.E_MEASUREMENT,
            f"'{folder}' does not hold the ACPI items {', '.join(missing)}",
            SourceSpan(file=str(folder)),
            fix="name a folder with files such as etc_acpi_tables, etc_acpi_rsdp and etc_table-loader",
        )
    return FwCfgItems(items=items, origin=str(folder))
