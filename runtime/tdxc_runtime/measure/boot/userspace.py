"""What systemd in user space adds to a TPM's registers when the image keeps the units for it. RTMRs never see these.

Sources: systemd-pcrphase.service(8), systemd-pcrmachine.service(8); systemd ``src/pcrextend/pcrextend.c``: the digest
is over the bare word, without a NUL.
"""

from __future__ import annotations

from tdxc_runtime.measure.events import EventType, Origin, PredictedEvent, Register

INITRD_PHASES = ("enter-initrd", "leave-initrd")
SYSTEM_PHASES = ("sysinit", "ready")
INITRD_PHASE_UNIT = "systemd-pcrphase-initrd.service"
"""Marks its phases where ``/etc/initrd-release`` says that another system follows; images of ours have no such file."""
PHASE_UNITS = {
    INITRD_PHASE_UNIT: INITRD_PHASES,
    "systemd-pcrphase-sysinit.service": ("sysinit",),
    "systemd-pcrphase.service": ("ready",),
}
"""The words that each unit measures while the system comes up, in boot order."""


def phase_events(units: frozenset[str]) -> tuple[PredictedEvent, ...]:
    """The events in PCR 11 up to a system that is fully up, for the units that the image contains."""
    return tuple(
        PredictedEvent.of_bytes(
            register=Register.pcr(11),
            event_type=EventType.EV_IPL,
            data=word.encode("ascii"),
            description=f"systemd marks the boot phase '{word}'",
            origin=Origin(node=unit, rule="systemd-pcrphase"),
        )
        for unit, words in PHASE_UNITS.items()
        if unit in units
        for word in words
    )
