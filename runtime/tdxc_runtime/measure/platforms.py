"""Which registers mean something on which platform, and which of them follow from the image.

Sources: Intel TDX Virtual Firmware Design Guide, section 8; Google "Confidential VM attestation" and gce-tcb-verifier
(MRTD is endorsed); Microsoft "Confidential VM guest attestation" and OpenHCL: on Azure a paravisor runs in the TD, the
guest's firmware and kernel are measured into its virtual TPM, and RTMR 0 to 3 stay zero.
"""

from __future__ import annotations

import attrs
from tdxc.diagnostics import Code, DiagnosticError

from .events import MRTD, RTMR0, RTMR1, RTMR2, RTMR3, Register
from .manifest import Platform


def pcrs(*indexes: int) -> tuple[Register, ...]:
    """PCRs by number."""
    return tuple(Register.pcr(index) for index in indexes)


@attrs.frozen(kw_only=True)
class PlatformRules:
    """``predictable`` registers can follow from the image; ``why_not`` gives the reason for the others."""

    platform: Platform
    predictable: tuple[Register, ...]
    why_not: tuple[tuple[Register, str], ...] = ()


_PARAVISOR = (
    "on Azure a paravisor of Microsoft's runs in the TD: this register describes it and not your image; use the PCRs "
    "of the virtual TPM"
)
_AZURE_FIRMWARE = "this register holds the configuration of Azure's own firmware"
_GOOGLE_FIRMWARE = "it depends on Google's firmware and on the shape of the machine, and Google does not publish it"
_GOOGLE_MRTD = "the firmware is Google's; give the endorsement that Google publishes for it"
_GOOGLE_PCR = "Google's firmware records images and partition tables of a TD in PCR 2 instead"
_OWN_FIRMWARE = "MRTD and RTMR0 cover the firmware of a TD; a TPM's record of it depends on the build"

_RULES = {
    Platform.QEMU: PlatformRules(
        platform=Platform.QEMU,
        predictable=(MRTD, RTMR0, RTMR1, RTMR2, RTMR3, *pcrs(4, 5, 7, 8, 9, 11, 12, 13, 15)),
        why_not=tuple((register, _OWN_FIRMWARE) for register in pcrs(0, 1, 2, 3, 6)),
    ),
    Platform.GCP: PlatformRules(
        platform=Platform.GCP,
        predictable=(RTMR1, RTMR2, RTMR3, *pcrs(8, 9, 11, 12, 13, 15)),
        why_not=(
            (MRTD, _GOOGLE_MRTD),
            (RTMR0, _GOOGLE_FIRMWARE),
            *((register, _GOOGLE_FIRMWARE) for register in pcrs(0, 1, 3, 6, 7)),
            *((register, _GOOGLE_PCR) for register in pcrs(2, 4, 5)),
        ),
    ),
    Platform.AZURE: PlatformRules(
        platform=Platform.AZURE,
        predictable=pcrs(4, 8, 9, 11, 12, 13, 15),
        why_not=(
            *((register, _PARAVISOR) for register in (MRTD, RTMR0, RTMR1, RTMR2, RTMR3)),
            *((register, _AZURE_FIRMWARE) for register in pcrs(0, 1, 2, 3, 5, 6, 7, 14)),
        ),
    ),
}


def platform_rules(platform: Platform) -> PlatformRules:
    """The truth table of a platform."""
    return _RULES[platform]


def require_rtmr_policy(platform: Platform) -> None:
    """E_MEASUREMENT where a policy over RTMRs would say nothing about the image."""
    rules = platform_rules(platform)
    if not any(register in rules.predictable for register in (RTMR1, RTMR2)):
        reason = dict(rules.why_not)[RTMR1]
        raise DiagnosticError.of(
            Code.E_MEASUREMENT,
            f"a policy over RTMRs is refused for {platform.value}: {reason}",
            fix="write a policy over PCR 4, 9, 11, 12 and 13",
        )
