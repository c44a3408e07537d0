"""Which boot options the firmware creates by itself, in which order, and their bytes.

The set follows from the modules that a TD finds in the firmware, from the machine's boot device, and from whether QEMU
boots a kernel directly, in which case the firmware never gets to enumerate devices. Sources: edk2
``OvmfPkg/Library/PlatformBootManagerLib/BdsPlatform.c`` and ``PlatformBootManagerCommonLib``; UEFI 2.10 section 3.1.3
(``EFI_LOAD_OPTION``) and 10.3 (device paths); ``MdeModulePkg/Library/UefiBootManagerLib/BmBoot.c`` for the GUID that
marks options of devices.
"""

from __future__ import annotations

import struct
import uuid

import attrs

from tdxc_runtime.measure.events import Origin, PredictedEvent
from tdxc_runtime.measure.firmware.traits import BOOT_MANAGER_MENU, SHELL, UI_APP, FirmwareTraits

from .variables import boot_variable_event

_ACTIVE, _HIDDEN, _APPLICATION = 0x1, 0x8, 0x100
_END = b"\x7f\xff\x04\x00"
_DEVICE_OPTION_MARK = uuid.UUID("8108ac4e-9f11-4d59-850e-e21a522c59b2")
_PCI_ROOT = bytes.fromhex("02010c00d041030a00000000")
"""``PciRoot(0x0)``: an ACPI node for PNP0A03."""


@attrs.frozen(kw_only=True)
class BootOption:
    """A boot option: its description and the bytes of the variable."""

    description: str
    data: bytes


def load_option(attributes: int, description: str, device_path: bytes, optional: bytes = b"") -> BootOption:
    """Assemble ``EFI_LOAD_OPTION``; ``device_path`` is without its end node."""
    path = device_path + _END
    head = struct.pack("<IH", attributes, len(path))
    return BootOption(description=description, data=head + description.encode("utf-16-le") + b"\0\0" + path + optional)


def firmware_file_option(attributes: int, description: str, volume: uuid.UUID, file: uuid.UUID) -> BootOption:
    """An application inside the firmware: path ``Fv(volume)/FvFile(file)``."""
    volume_node = b"\x04\x07\x14\x00" + volume.bytes_le
    file_node = b"\x04\x06\x14\x00" + file.bytes_le
    return load_option(attributes, description, volume_node + file_node)


def virtio_disk_option(device: int, function: int = 0) -> BootOption:
    """A virtio block device on the root bus: the firmware knows no better name for it than "UEFI Misc Device"."""
    pci = b"\x01\x01\x06\x00" + bytes((function, device))
    return load_option(_ACTIVE, "UEFI Misc Device", _PCI_ROOT + pci, _DEVICE_OPTION_MARK.bytes_le)


def boot_options(traits: FirmwareTraits, disk: BootOption | None, *, direct: bool) -> tuple[BootOption, ...]:
    """All options in the order of BootOrder; ``disk`` is the boot device's, ``direct`` a boot with ``-kernel``.

    With ``-kernel`` the firmware starts the kernel before it looks at devices or registers its shell.
    """
    options: list[BootOption] = []
    if traits.has_menu_app:
        if traits.menu_volume:
            attributes = _ACTIVE | _HIDDEN | _APPLICATION
            options.append(
                firmware_file_option(attributes, "BootManagerMenuApp", traits.menu_volume, BOOT_MANAGER_MENU)
            )
        if traits.setup_volume:
            attributes = _ACTIVE | _APPLICATION
            options.append(firmware_file_option(attributes, "EFI Firmware Setup", traits.setup_volume, UI_APP))
    elif traits.setup_volume:
        attributes = _ACTIVE | _HIDDEN | _APPLICATION
        options.append(firmware_file_option(attributes, "UiApp", traits.setup_volume, UI_APP))
    if direct:
        return tuple(options)
    if disk is not None:
        options.append(disk)
    if traits.shell_volume:
        attributes = _ACTIVE | _APPLICATION if traits.has_menu_app else _ACTIVE
        options.append(firmware_file_option(attributes, "EFI Internal Shell", traits.shell_volume, SHELL))
    return tuple(options)


def boot_option_events(options: tuple[BootOption, ...], *, artifact: str) -> tuple[PredictedEvent, ...]:
    """BootOrder, then each option in its order."""
    origin = Origin(artifact=artifact, rule="edk2 PlatformBootManagerLib")
    order = b"".join(struct.pack("<H", number) for number in range(len(options)))
    names = ", ".join(option.description for option in options)
    events = [boot_variable_event("BootOrder", order, description=names, origin=origin)]
    for number, option in enumerate(options):
        name = f"Boot{number:04X}"
        events.append(boot_variable_event(name, option.data, description=option.description, origin=origin))
    return tuple(events)
