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


def firmware_options(traits: FirmwareTraits, *, after_devices: bool) -> tuple[BootOption, ...]:
    """The applications in the firmware that become options: its menus, and after all devices its shell."""
    if after_devices:
        attributes = _ACTIVE | _APPLICATION if traits.has_menu_app else _ACTIVE
        volume = traits.shell_volume
        return (firmware_file_option(attributes, "EFI Internal Shell", volume, SHELL),) if volume else ()
    hidden = _ACTIVE | _HIDDEN | _APPLICATION
    if not traits.has_menu_app:
        volume = traits.setup_volume
        return (firmware_file_option(hidden, "UiApp", volume, UI_APP),) if volume else ()
    options = []
    if traits.menu_volume:
        options.append(firmware_file_option(hidden, "BootManagerMenuApp", traits.menu_volume, BOOT_MANAGER_MENU))
    if traits.setup_volume:
        attributes = _ACTIVE | _APPLICATION
        options.append(firmware_file_option(attributes, "EFI Firmware Setup", traits.setup_volume, UI_APP))
    return tuple(options)


def boot_options(
    traits: FirmwareTraits, disk: BootOption | None, *, direct: bool, preferred: bool = False
) -> tuple[tuple[int, BootOption], ...]:
    """All options with their numbers, in the order of BootOrder.

    ``disk`` is the boot device's option. With ``-kernel`` (``direct``) the firmware starts the kernel before it looks
    at devices or registers its shell. Numbers follow the order in which options are made; a disk that QEMU's boot order
    names (``preferred``, a ``bootindex``) then moves to the front.
    """
    menus = firmware_options(traits, after_devices=False)
    if direct:
        return tuple(enumerate(menus))
    made = (*menus, *((disk,) if disk is not None else ()), *firmware_options(traits, after_devices=True))
    numbered = tuple(enumerate(made))
    return tuple(sorted(numbered, key=lambda pair: not (preferred and pair[1] is disk)))


def boot_option_events(options: tuple[tuple[int, BootOption], ...], *, artifact: str) -> tuple[PredictedEvent, ...]:
    """BootOrder, then each option in its order."""
    origin = Origin(artifact=artifact, rule="edk2 PlatformBootManagerLib")
    order = b"".join(struct.pack("<H", number) for number, _ in options)
    names = ", ".join(option.description for _, option in options)
    events = [boot_variable_event("BootOrder", order, description=names, origin=origin)]
    for number, option in options:
        name = f"Boot{number:04X}"
        events.append(boot_variable_event(name, option.data, description=option.description, origin=origin))
    return tuple(events)
