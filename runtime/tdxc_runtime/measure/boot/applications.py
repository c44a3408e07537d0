"""What firmware measures around the applications that it starts: actions, separators, images, the end of boot services.

Sources: edk2 ``SecurityPkg/Tcg/Tcg2Dxe/Tcg2Dxe.c`` and ``OvmfPkg/Tcg/TdTcg2Dxe/TdTcg2Dxe.c`` (``OnReadyToBoot``,
``OnExitBootServices``), ``SecurityPkg/Library/DxeTpm2MeasureBootLib``; TCG PC Client Platform Firmware Profile 1.06,
section 10.4.4 (texts of EV_EFI_ACTION events).
"""

from __future__ import annotations

from tdxc_runtime.measure.events import Alternative, Alternatives, EventType, Origin, PredictedEvent, Register
from tdxc_runtime.measure.pe.digests import Digests

PCR_APPLICATIONS = Register.pcr(4)
PCR_BOOT = Register.pcr(5)
EXIT_BOOT_SERVICES = "exit-boot-services"
INNER_KERNEL = "inner-kernel"

_RULE = "edk2 Tcg2Dxe"


def action_event(register: Register, text: str, description: str) -> PredictedEvent:
    """An EV_EFI_ACTION event; the digest is over the ASCII text without a NUL."""
    return PredictedEvent.of_bytes(
        register=register,
        event_type=EventType.EV_EFI_ACTION,
        data=text.encode("ascii"),
        description=description,
        origin=Origin(rule=_RULE),
    )


def calling_event() -> PredictedEvent:
    """The firmware is about to start a boot option."""
    return action_event(
        PCR_APPLICATIONS, "Calling EFI Application from Boot Option", "the firmware starts the boot option"
    )


def separator_event(register: Register, description: str = "") -> PredictedEvent:
    """Four zero bytes: the line between the firmware and what it starts."""
    return PredictedEvent.of_bytes(
        register=register,
        event_type=EventType.EV_SEPARATOR,
        data=bytes(4),
        description=description or "the firmware ends its own measurements",
        origin=Origin(rule=_RULE),
    )


def image_event(digests: Digests, *, description: str, origin: Origin) -> PredictedEvent:
    """An image that firmware loads: its Authenticode digest."""
    return PredictedEvent(
        register=PCR_APPLICATIONS,
        event_type=EventType.EV_EFI_BOOT_SERVICES_APPLICATION,
        digests=digests,
        description=description,
        origin=origin,
    )


def exit_events() -> Alternatives:
    """The kernel leaves boot services: at once, or after a first attempt with a memory map that was out of date.

    Both are seen on one and the same machine type, so a verifier has to accept both. Most boots show the first, and the
    order is the same for PCR 5 and RTMR1, whose outcomes belong together.
    """
    invocation = action_event(PCR_BOOT, "Exit Boot Services Invocation", "the kernel asks to leave boot services")
    failure = action_event(PCR_BOOT, "Exit Boot Services Returned with Failure", "its memory map was out of date")
    success = action_event(PCR_BOOT, "Exit Boot Services Returned with Success", "boot services have ended")
    once = Alternative(reason="the kernel leaves boot services at the first attempt", events=(invocation, success))
    twice = Alternative(
        reason="the kernel's first attempt fails on a stale memory map, as some disk boots show",
        events=(invocation, failure, invocation, success),
    )
    return Alternatives(name=EXIT_BOOT_SERVICES, options=(once, twice))


def inner_kernel_events(
    event: PredictedEvent, *, loaded_by_firmware: bool, secure_boot: bool | None
) -> tuple[PredictedEvent | Alternatives, ...]:
    """The UKI's inner kernel, which firmware measures when the stub loads it through the firmware.

    With Secure Boot on, such a stub installs its own authentication hook for that one image, and the firmware's hook,
    which also measures, is not called (seen in boots with and without). ``secure_boot`` is ``None`` when unknown.
    """
    if not loaded_by_firmware or secure_boot:
        return ()
    if secure_boot is False:
        return (event,)
    measured = Alternative(reason="Secure Boot is off, so firmware measures the UKI's inner kernel", events=(event,))
    skipped = Alternative(reason="Secure Boot is on, so the stub bypasses the firmware's measurement of it")
    return (Alternatives(name=INNER_KERNEL, options=(measured, skipped)),)
