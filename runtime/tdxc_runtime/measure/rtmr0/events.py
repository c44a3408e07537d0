"""The list of RTMR0: everything that firmware measures of the machine and of its own configuration, in order.

Sources, at edk2-stable202202 to 202608: ``OvmfPkg/IntelTdx/TdxHelperLib/SecTdxHelper.c`` (TD HOB, CFV),
``OvmfPkg/Library/QemuFwCfgLib/QemuFwCfgCacheInit.c`` (settings), ``OvmfPkg/Tcg/TdTcg2Dxe/TdTcg2Dxe.c`` (variables,
separators), ``OvmfPkg/Library/AcpiPlatformLib/QemuFwCfgAcpi.c`` (ACPI), ``SmbiosMeasurementDxe``.
"""

from __future__ import annotations

from collections.abc import Mapping

import attrs

from tdxc_runtime.measure.acpi.items import ACPI_ORDER, FW_CFG_ORDER, TPM_LOG
from tdxc_runtime.measure.boot.applications import separator_event
from tdxc_runtime.measure.events import (
    Algorithm,
    Alternative,
    Alternatives,
    EventType,
    Origin,
    PredictedEvent,
    Register,
)
from tdxc_runtime.measure.firmware.load import Firmware
from tdxc_runtime.measure.firmware.tdvf import firmware_error
from tdxc_runtime.measure.firmware.traits import FIRST_WITH_NEW_SEPARATORS, FirmwareTraits
from tdxc_runtime.measure.tdhob import build_td_hob, ram_ranges

from .boot_options import BootOption, boot_option_events, boot_options
from .variables import PCR_CONFIGURATION, PCR_SECURE_BOOT, secure_boot_events

SEPARATOR = "separator"
KERNEL_BOOT_ORDER = b"/rom@genroms/linuxboot_dma.bin"
_NEW_RULE = "the firmware's last separator goes to RTMR1 (edk2-stable202411 and newer)"
_OLD_RULE = "the firmware's last separator goes to RTMR0 (edk2-stable202408 and older)"


@attrs.frozen(kw_only=True)
class MachineInputs:
    """What the machine contributes. ``items`` are fw_cfg items by name, ``None`` when they are not known.

    ``items_missing`` says in that case what is missing. ``smbios`` is what the firmware hashes of the SMBIOS tables
    (or ``smbios_missing`` says what is missing), ``smbios_sha384`` its digest where somebody knows that. ``boot_disk``
    is the disk's boot option, ``None`` when unknown or booting with ``-kernel``. ``authority`` is the event over the
    key that vouches for the image, ``None`` when Secure Boot is off.
    """

    memory: int
    direct: bool
    items: Mapping[str, bytes] | None = None
    items_origin: str = ""
    items_missing: str = "the machine's ACPI tables"
    smbios: bytes | None = None
    smbios_missing: str = "the machine's SMBIOS tables, from its QEMU (--qemu) or from files"
    smbios_sha384: bytes | None = None
    boot_disk: BootOption | None = None
    authority: PredictedEvent | None = None


def rtmr0_events(
    firmware: Firmware, traits: FirmwareTraits, machine: MachineInputs
) -> tuple[PredictedEvent | Alternatives, ...]:
    """All events of RTMR0 in order, in terms of PCR 1 and 7; E_FIRMWARE when RAM does not fit the firmware."""
    events: list[PredictedEvent | Alternatives] = [_hob_event(firmware, machine), _configuration_event(firmware)]
    if traits.measures_fw_cfg:
        events.extend(setting_events(machine))
    events.extend(secure_boot_events(firmware.variables, built_in=traits.secure_boot_built_in, artifact=firmware.name))
    events.append(separator_event(PCR_SECURE_BOOT, "the firmware has measured its Secure Boot configuration"))
    events.extend(acpi_events(machine))
    authority = [] if machine.authority is None else [machine.authority]
    if machine.direct:
        events.extend(authority)
    if traits.measures_smbios:
        events.append(smbios_event(machine))
    events.extend(boot_events(firmware, traits, machine))
    events.extend(closing_separator(traits, PCR_CONFIGURATION, new=False))
    if not machine.direct:
        events.extend(authority)
    return tuple(events)


def _hob_event(firmware: Firmware, machine: MachineInputs) -> PredictedEvent:
    try:
        hob = build_td_hob(firmware.tdvf, ram_ranges(machine.memory))
    except ValueError as error:
        raise firmware_error(firmware.name, f"{machine.memory >> 20} MiB do not suit it: {error}") from None
    return PredictedEvent.of_bytes(
        register=PCR_CONFIGURATION,
        event_type=EventType.EV_EFI_HANDOFF_TABLES2,
        data=hob,
        description=f"the firmware measures the TD HOB: the memory map of {machine.memory >> 20} MiB",
        origin=Origin(artifact=firmware.name, section="TD_HOB", node="memory", rule="edk2 TdxHelperMeasureTdHob"),
    )


def _configuration_event(firmware: Firmware) -> PredictedEvent:
    return PredictedEvent.of_bytes(
        register=PCR_CONFIGURATION,
        event_type=EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2,
        data=firmware.configuration,
        keep_data=False,
        description="the firmware measures its variable store as it was loaded",
        origin=Origin(artifact=firmware.name, section="CFV", rule="edk2 TdxHelperMeasureCfvImage"),
    )


def _item_event(machine: MachineInputs, name: str, data: bytes | None, description: str) -> PredictedEvent:
    origin = Origin(artifact=machine.items_origin, section=name, node="machine", rule="edk2 QemuFwCfg")
    if data is None:
        return PredictedEvent(
            register=PCR_CONFIGURATION,
            event_type=EventType.EV_PLATFORM_CONFIG_FLAGS,
            description=description,
            origin=origin,
            pending=machine.items_missing,
        )
    return PredictedEvent.of_bytes(
        register=PCR_CONFIGURATION,
        event_type=EventType.EV_PLATFORM_CONFIG_FLAGS,
        data=data,
        keep_data=len(data) <= 64,
        description=description,
        origin=origin,
    )


def setting_events(machine: MachineInputs) -> list[PredictedEvent]:
    """The fw_cfg settings that newer TD firmware measures, those that exist."""
    if machine.items is None:
        return [_item_event(machine, "bootorder", None, "the firmware measures its settings in fw_cfg")]
    items = {name: machine.items[name] for name in FW_CFG_ORDER if machine.items.get(name)}
    if machine.direct:
        items["bootorder"] = direct_boot_order(items.get("bootorder", b""))
    return [
        _item_event(machine, name, items[name], f"the firmware measures the setting {name}")
        for name in FW_CFG_ORDER
        if name in items
    ]


def direct_boot_order(order: bytes) -> bytes:
    """QEMU's boot order once ``-kernel`` is given: its boot ROM stands before every device. LF separates, NUL ends."""
    devices = order.rstrip(b"\0")
    return KERNEL_BOOT_ORDER + (b"\n" + devices if devices else b"") + b"\0"


def acpi_events(machine: MachineInputs) -> list[PredictedEvent]:
    """The ACPI blobs in the order in which the firmware loads them; the TPM's log area only where there is a TPM."""
    blobs = machine.items
    names = [name for name in ACPI_ORDER if name != TPM_LOG or (blobs is not None and TPM_LOG in blobs)]
    return [
        _item_event(
            machine, name, None if blobs is None else blobs[name], f"the firmware measures QEMU's ACPI data {name}"
        )
        for name in names
    ]


def smbios_event(machine: MachineInputs) -> PredictedEvent:
    """The SMBIOS tables: QEMU's, of the machine and its processor, and the firmware's own; pending without them."""
    digests: tuple[tuple[Algorithm, bytes], ...] = ()
    if machine.smbios_sha384 is not None:
        digests = ((Algorithm.SHA384, machine.smbios_sha384),)
    elif machine.smbios is not None:
        digests = tuple((a, a.digest(machine.smbios)) for a in PCR_CONFIGURATION.algorithms)
    return PredictedEvent(
        register=PCR_CONFIGURATION,
        event_type=EventType.EV_EFI_HANDOFF_TABLES,
        digests=digests,
        description="the firmware measures the SMBIOS tables",
        origin=Origin(artifact=machine.items_origin, node="machine", rule="edk2 SmbiosMeasurementDxe"),
        pending="" if digests else machine.smbios_missing,
    )


def boot_events(firmware: Firmware, traits: FirmwareTraits, machine: MachineInputs) -> tuple[PredictedEvent, ...]:
    """BootOrder and the boot options; pending for a disk boot from a disk whose option is not known."""
    if not machine.direct and machine.boot_disk is None:
        pending = PredictedEvent(
            register=PCR_CONFIGURATION,
            event_type=EventType.EV_EFI_VARIABLE_BOOT,
            description="the firmware measures the boot order and the boot options",
            origin=Origin(artifact=firmware.name, rule="edk2 PlatformBootManagerLib"),
            pending="which slot of the root bus the virtio boot disk is in",
        )
        return (pending,)
    preferred = bool(machine.items and machine.items.get("bootorder", b"").strip(b"\0"))
    options = boot_options(traits, machine.boot_disk, direct=machine.direct, preferred=preferred)
    return boot_option_events(options, artifact=firmware.name)


def closing_separator(
    traits: FirmwareTraits | None, register: Register, *, new: bool
) -> tuple[PredictedEvent | Alternatives, ...]:
    """The last separator as far as it concerns ``register``, which is where the new (or else the old) rule puts it."""
    event = separator_event(register)
    is_new = None if traits is None else traits.at_least(FIRST_WITH_NEW_SEPARATORS)
    if is_new is not None:
        return (event,) if is_new is new else ()
    options = (
        Alternative(reason=_NEW_RULE, events=(event,) if new else ()),
        Alternative(reason=_OLD_RULE, events=() if new else (event,)),
    )
    return (Alternatives(name=SEPARATOR, options=options),)
