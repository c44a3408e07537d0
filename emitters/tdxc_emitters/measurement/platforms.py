"""What a platform's registers commit to, and which of them an image decides.

Sources: Intel TDX Virtual Firmware Design Guide section 8 (which register is extended by whom); Azure's confidential
VM documentation (a paravisor owns the TD; the guest has a vTPM); Google's endorsements of its firmware.
"""

from __future__ import annotations

from tdxc import records

_FIRMWARE = "a firmware file: tdxc measure --firmware FILE"
_MACHINE = "a firmware file and the machine's shape: tdxc measure --firmware FILE --memory SIZE --vcpus N"
_PARAVISOR = (
    "a paravisor runs in the TD and the guest above it: RTMRs describe the paravisor, not the image;"
    " use the vTPM's PCRs"
)


@records.frozen
class PlatformRules:
    """``covered``: registers whose events the recipe and the UKI decide. ``reasons``: why others wait or never come."""

    name: str
    covered: tuple[str, ...]
    waits: tuple[tuple[str, str], ...] = ()
    never: tuple[tuple[str, str], ...] = ()


PLATFORMS = {
    rules.name: rules
    for rules in (
        PlatformRules(
            name="qemu",
            covered=("rtmr2", "rtmr3", "pcr9", "pcr11"),
            waits=(
                ("mrtd", _FIRMWARE),
                ("rtmr0", _MACHINE),
                ("rtmr1", "the UKI, which a bake makes, and how it is started: tdxc measure --boot direct or disk"),
            ),
        ),
        PlatformRules(
            name="gcp",
            covered=("rtmr3", "pcr9", "pcr11"),
            waits=(
                ("rtmr1", "the disk image, which a bake makes"),
                ("rtmr2", "the UKI, which a bake makes; the kernel's events go to the vTPM there"),
            ),
            never=(
                ("mrtd", "the firmware is Google's: accept the values that Google endorses"),
                ("rtmr0", "it depends on Google's firmware and on the machine's shape"),
            ),
        ),
        PlatformRules(
            name="azure",
            covered=("pcr9", "pcr11"),
            never=(
                ("mrtd", "the paravisor is Microsoft's: accept the values that Microsoft publishes"),
                *((f"rtmr{index}", _PARAVISOR) for index in range(4)),
            ),
        ),
    )
}
