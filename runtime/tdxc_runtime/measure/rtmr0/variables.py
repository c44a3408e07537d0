"""The events over UEFI variables: Secure Boot configuration and boot options.

Sources: TCG PC Client Platform Firmware Profile 1.06, section 10.2.8 (``UEFI_VARIABLE_DATA``); edk2
``OvmfPkg/Tcg/TdTcg2Dxe/TdTcg2Dxe.c`` (``MeasureAllSecureVariables``, ``MeasureVariable``). A boot variable's digest is
over its data alone, a Secure Boot variable's over the whole structure.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable

from tdxc_runtime.measure.events import EventType, Origin, PredictedEvent, Register
from tdxc_runtime.measure.firmware.traits import FirmwareTraits
from tdxc_runtime.measure.firmware.varstore import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE, Variable

PCR_CONFIGURATION = Register.pcr(1)
PCR_SECURE_BOOT = Register.pcr(7)
_ALWAYS = (
    ("SecureBoot", GLOBAL_VARIABLE),
    ("PK", GLOBAL_VARIABLE),
    ("KEK", GLOBAL_VARIABLE),
    ("db", IMAGE_SECURITY_DATABASE),
    ("dbx", IMAGE_SECURITY_DATABASE),
)
_IF_PRESENT = (("dbt", IMAGE_SECURITY_DATABASE), ("dbr", IMAGE_SECURITY_DATABASE))


def variable_data(vendor: uuid.UUID, name: str, data: bytes) -> bytes:
    """``UEFI_VARIABLE_DATA``: vendor GUID, length of the name in characters, length of the data, name, data."""
    return vendor.bytes_le + struct.pack("<QQ", len(name), len(data)) + name.encode("utf-16-le") + data


def is_enforcing(variables: Iterable[Variable]) -> bool:
    """Whether a firmware with Secure Boot built in will enforce it with this store: a platform key is enrolled."""
    return any(v.name == "PK" and v.vendor == GLOBAL_VARIABLE and v.data for v in variables)


def secure_boot_events(variables: Iterable[Variable], *, built_in: bool, artifact: str) -> tuple[PredictedEvent, ...]:
    """One event for each Secure Boot variable, present or not; ``dbt`` and ``dbr`` only where they exist."""
    store = {(v.vendor, v.name): v.data for v in variables}
    if built_in:
        store[GLOBAL_VARIABLE, "SecureBoot"] = b"\1" if store.get((GLOBAL_VARIABLE, "PK")) else b"\0"
    names = (*_ALWAYS, *(pair for pair in _IF_PRESENT if (pair[1], pair[0]) in store))
    return tuple(
        PredictedEvent.of_bytes(
            register=PCR_SECURE_BOOT,
            event_type=EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
            data=variable_data(vendor, name, store.get((vendor, name), b"")),
            description=f"the firmware measures the variable {name}"
            + ("" if store.get((vendor, name)) else ", which is not set"),
            origin=Origin(artifact=artifact, section="CFV", rule="edk2 MeasureAllSecureVariables"),
        )
        for name, vendor in names
    )


def boot_variable_event(name: str, data: bytes, *, description: str, origin: Origin) -> PredictedEvent:
    """The event over BootOrder or one boot option."""
    return PredictedEvent.of_bytes(
        register=PCR_CONFIGURATION,
        event_type=EventType.EV_EFI_VARIABLE_BOOT,
        data=data,
        description=f"the firmware measures {name}: {description}",
        origin=origin,
    )


def describe_secure_boot(traits: FirmwareTraits, variables: Iterable[Variable]) -> str:
    """A sentence for tables."""
    if not traits.secure_boot_built_in:
        return "not built in"
    return "enforced: a platform key is enrolled" if is_enforcing(variables) else "built in, no platform key enrolled"
