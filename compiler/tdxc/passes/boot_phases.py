"""Boot phases: systemd marks in PCR 11 how far a boot has come, and a key shall be sealed and unsealed at one mark.

::

    systemd-pcrphase-sysinit.service   "sysinit"   between sysinit.target and basic.target, so before all boot steps
    systemd-pcrphase.service           "ready"     behind remote-fs.target only, so at any time beside the boot steps

Both are wanted by sysinit.target, where an image keeps them (unit files of systemd 257 and 261). The phases of an
initrd never come: no image has the file /etc/initrd-release, which their unit asks for.
"""

from __future__ import annotations

from tdxc.ir import ResolvedImage
from tdxc.passes.debloat import keeps_unit

READY_PHASE = "systemd-pcrphase.service"
_PHASES_PCR = 11


def phases_behind_steps(image: ResolvedImage) -> tuple[str, ...]:
    """The units that mark phases at no certain time, where a boot step seals to the register that they extend."""
    seals = any(_PHASES_PCR in key.pcrs for key in image.guest_keys)
    return (READY_PHASE,) if seals and keeps_unit(image, READY_PHASE) else ()
