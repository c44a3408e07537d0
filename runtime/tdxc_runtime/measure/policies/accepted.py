"""The sets of register values that a manifest accepts, as policies need them: values that belong together.

A policy that lists the values of each register on its own also accepts mixtures of alternatives. Formats that can say
"these together" get sets; for the others the mixture is noted where the format is written.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator, Sequence

import attrs
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError

from tdxc_runtime.measure.events import (
    MRTD,
    RTMR0,
    RTMR1,
    RTMR2,
    Algorithm,
    Alternatives,
    PredictedEvent,
    Register,
    replay,
    variants,
)
from tdxc_runtime.measure.manifest import Manifest, Platform, State
from tdxc_runtime.measure.platforms import require_rtmr_policy

# RTMR3 belongs to the running system: no firmware, stub or kernel extends it, so a policy leaves it to the service.
TD_REGISTERS = (MRTD, RTMR0, RTMR1, RTMR2)
# Without these a policy says nothing: MRTD stands for the firmware, which measures RTMR1 and RTMR2, the image.
_REQUIRED = (MRTD, RTMR1, RTMR2)


@attrs.frozen(kw_only=True)
class AcceptedSet:
    """Register values that occur together, and when they do (the reasons of the alternatives)."""

    values: tuple[tuple[Register, bytes], ...]
    reasons: tuple[str, ...] = ()

    def __getitem__(self, register: Register) -> bytes:
        return dict(self.values)[register]

    def __contains__(self, register: object) -> bool:
        return any(known == register for known, _ in self.values)


def td_sets(manifest: Manifest) -> tuple[AcceptedSet, ...]:
    """The accepted sets of a TD's registers, the likeliest first.

    E_MEASUREMENT on a platform whose RTMRs do not describe the image, and when MRTD, RTMR1 or RTMR2 is not determined.
    """
    require_rtmr_policy(manifest.platform)
    missing = [
        Diagnostic(
            code=Code.E_MEASUREMENT,
            message=f"a policy without {register} would accept any image, and {_why(manifest, register)}",
            fix="measure with the firmware (or its endorsement) and the baked image",
        )
        for register in _REQUIRED
        if not manifest.expected(register)
    ]
    if missing:
        raise DiagnosticError(missing)
    return accepted_sets(manifest, TD_REGISTERS, Algorithm.SHA384)


def pcr_sets(manifest: Manifest, algorithm: Algorithm) -> tuple[AcceptedSet, ...]:
    """The accepted sets of the PCRs that are determined in one bank; E_MEASUREMENT when none is."""
    pcrs = [Register.pcr(index) for index in range(24) if manifest.expected(Register.pcr(index), algorithm)]
    if not pcrs:
        message = f"the manifest determines no PCR in bank {algorithm.value}"
        raise DiagnosticError.of(Code.E_MEASUREMENT, message, fix="measure the baked image for this platform")
    return accepted_sets(manifest, pcrs, algorithm)


def is_about_pcrs(manifest: Manifest) -> bool:
    """Whether a policy for the manifest's platform has to be about the vTPM's PCRs."""
    return manifest.platform is Platform.AZURE


def accepted_sets(manifest: Manifest, registers: Sequence[Register], algorithm: Algorithm) -> tuple[AcceptedSet, ...]:
    """Every set that the alternatives and endorsements lead to, without the registers that are not determined."""
    known = [register for register in registers if manifest.expected(register, algorithm)]
    endorsed = [r for r in known if any(e.register == r for e in manifest.endorsements)]
    predicted = [r for r in known if r not in endorsed]
    items = [item for item in manifest.prediction if _registers(item).intersection(predicted)]
    sets: dict[tuple[tuple[Register, bytes], ...], AcceptedSet] = {}
    for variant in variants(items):
        values = [(r, replay(variant.events, r, algorithm)) for r in predicted]
        determined = tuple((register, value) for register, value in values if value is not None)
        reasons = tuple(reason for _, reason in variant.reasons)
        for choice in itertools.product(*(manifest.expected(r, algorithm) for r in endorsed)):
            pairs = zip(endorsed, (expected.value for expected in choice), strict=True)
            together = tuple(sorted((*determined, *pairs)))
            sets.setdefault(together, AcceptedSet(values=together, reasons=reasons))
    return tuple(sets.values())


def _registers(item: PredictedEvent | Alternatives) -> set[Register]:
    """The registers that a point of the prediction extends."""
    if isinstance(item, PredictedEvent):
        return {item.register}
    return {event.register for option in item.options for event in option.events}


def omitted(manifest: Manifest, registers: Iterable[Register] = TD_REGISTERS) -> Iterator[tuple[Register, str]]:
    """The registers that a policy leaves out, each with the reason."""
    for register in registers:
        if not manifest.expected(register):
            yield register, _why(manifest, register)


def values_of(sets: Iterable[AcceptedSet], register: Register) -> tuple[bytes, ...]:
    """The accepted values of one register over all sets, each once."""
    return tuple(dict.fromkeys(accepted[register] for accepted in sets if register in accepted))


def _why(manifest: Manifest, register: Register) -> str:
    state, reason = manifest.state(register)
    return f"it is {'not predictable' if state is State.UNPREDICTABLE else 'not known'}: {reason}"
