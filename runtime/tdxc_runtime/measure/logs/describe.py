"""One sentence about a logged event, for people."""

from __future__ import annotations

from tdxc_runtime.measure.events import EventType
from tdxc_runtime.measure.logs.data import (
    EventData,
    GptData,
    ImageLoadData,
    SeparatorData,
    TaggedData,
    parse_event_data,
)
from tdxc_runtime.measure.logs.model import LogEvent

# Linux drivers/firmware/efi/libstub/efistub.h (INITRD_EVENT_TAG_ID, LOAD_OPTIONS_EVENT_TAG_ID) and systemd
# src/fundamental/tpm-pcr.h / src/boot/measure.h (the stub's and loader's own tags).
TAG_INITRD = 0x8F3B22EC
TAG_LOAD_OPTIONS = 0x8F3B22ED
_TAGS = {
    TAG_INITRD: "the initrd as the kernel received it",
    TAG_LOAD_OPTIONS: "the command line as the kernel received it (load options)",
    0xD5CB7CBC: "an SMBIOS table, as systemd-stub 261 and later measure it",
}
_TYPES: dict[int, str] = {
    EventType.EV_EFI_HANDOFF_TABLES2: "hand-off tables (in a TD: the memory layout, TD HOB)",
    EventType.EV_EFI_HANDOFF_TABLES: "hand-off tables (SMBIOS)",
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2: "firmware volume",
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB: "firmware volume",
    EventType.EV_S_CRTM_VERSION: "firmware version",
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG: "UEFI variable",
    EventType.EV_EFI_VARIABLE_BOOT: "boot variable",
    EventType.EV_EFI_VARIABLE_BOOT2: "boot variable",
    EventType.EV_EFI_VARIABLE_AUTHORITY: "Secure Boot key that was used",
    EventType.EV_PLATFORM_CONFIG_FLAGS: "configuration given by the hypervisor",
    EventType.EV_EFI_ACTION: "boot step",
    EventType.EV_ACTION: "boot step",
    EventType.EV_IPL: "boot loader's own measurement",
}


def describe(event: LogEvent) -> str:
    """What the event is and what its data says; for example ``image loaded: PciRoot(0x0)/... (99328 bytes)``."""
    return describe_data(event.event_type, parse_event_data(event.event_type, event.data))


def describe_data(event_type: int, data: EventData) -> str:
    """The same from a type and parsed data."""
    match data:
        case SeparatorData():
            return f"separator between firmware and boot loader, {data}"
        case ImageLoadData():
            return f"image loaded: {data}"
        case GptData():
            return f"partition table: {data}"
        case TaggedData() if data.tag in _TAGS:
            return _TAGS[data.tag]
        case _:
            kind = _TYPES.get(event_type)
            return f"{kind or 'event'}: {data}"
