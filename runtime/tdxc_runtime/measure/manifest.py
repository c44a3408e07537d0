"""The measurement manifest: a prediction with what it covers, and the values that follow from it.

Its JSON form is in :mod:`tdxc_runtime.measure.manifest_json`.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping

import attrs

from tdxc_runtime.measure.events import (
    MRTD,
    RTMR0,
    RTMR1,
    RTMR2,
    RTMR3,
    Algorithm,
    Alternatives,
    PredictedEvent,
    Prediction,
    Register,
    replay,
    variants,
)

TD_REGISTERS = (MRTD, RTMR0, RTMR1, RTMR2, RTMR3)


class Platform(enum.StrEnum):
    """Where the image runs, which decides what its registers mean."""

    QEMU = "qemu"
    GCP = "gcp"
    AZURE = "azure"


class State(enum.StrEnum):
    """What the manifest can say of a register."""

    PREDICTED = "predicted"
    ENDORSED = "endorsed"
    PENDING = "pending"
    UNPREDICTABLE = "unpredictable"


@attrs.frozen(kw_only=True)
class Endorsement:
    """Values of a register that somebody else vouches for (``by``), such as the firmware's maker."""

    register: Register
    values: tuple[bytes, ...]
    by: str


@attrs.frozen(kw_only=True)
class ExpectedValue:
    """One value that a register may have, and the decisions (name, reason) that lead to it."""

    value: bytes
    reasons: tuple[tuple[str, str], ...] = ()


UNDETERMINED = "nothing that was given determines this register"
"""Why a register is pending that ``Manifest.missing`` says nothing of."""


@attrs.frozen(kw_only=True)
class Manifest:
    """What an image will show on a platform.

    ``covers`` are the registers whose event list in ``prediction`` is complete: an empty list then means the start
    value. ``missing`` says what other registers wait for, ``pending`` all of that in one list. ``unpredictable`` gives
    the reason for registers that no prediction can cover. ``inputs`` is JSON data that says what was measured
    (artifacts with digests, firmware, machine). ``hints`` are digests that a log might show instead of the predicted
    ones, with what they would mean ("8 GiB of memory").
    """

    platform: Platform = Platform.QEMU
    prediction: tuple[PredictedEvent | Alternatives, ...] = ()
    covers: tuple[Register, ...] = ()
    missing: tuple[tuple[Register, str], ...] = ()
    endorsements: tuple[Endorsement, ...] = ()
    unpredictable: tuple[tuple[Register, str], ...] = ()
    inputs: Mapping[str, object] = attrs.field(factory=dict)
    pending: tuple[str, ...] = ()
    hints: tuple[tuple[bytes, str], ...] = ()

    def expected(self, register: Register, algorithm: Algorithm = Algorithm.SHA384) -> tuple[ExpectedValue, ...]:
        """The accepted values of a register, likeliest first; empty when it is not covered or something is pending."""
        endorsed = [e for e in self.endorsements if e.register == register]
        if endorsed and algorithm is Algorithm.SHA384:
            return tuple(
                ExpectedValue(value=value, reasons=(("endorsement", f"endorsed by {e.by}"),))
                for e in endorsed
                for value in e.values
            )
        if register not in self.covers:
            return ()
        found: dict[bytes, ExpectedValue] = {}
        for variant in variants(self.prediction, register):
            value = replay(variant.events, register, algorithm)
            if value is None:
                return ()
            found.setdefault(value, ExpectedValue(value=value, reasons=variant.reasons))
        return tuple(found.values())

    def state(self, register: Register) -> tuple[State, str]:
        """What can be said of a register, with the reason in words where there is one."""
        for endorsement in self.endorsements:
            if endorsement.register == register:
                return State.ENDORSED, f"endorsed by {endorsement.by}"
        for other, reason in self.unpredictable:
            if other == register:
                return State.UNPREDICTABLE, reason
        if register not in self.covers:
            return State.PENDING, dict(self.missing).get(register, UNDETERMINED)
        missing = _pending_reasons(self.prediction, register)
        return (State.PENDING, "; ".join(missing)) if missing else (State.PREDICTED, "")


def _pending_reasons(prediction: Prediction, register: Register) -> tuple[str, ...]:
    """What the pending events of a register wait for, each reason once."""
    events = (event for variant in variants(prediction, register) for event in variant.events)
    return tuple(dict.fromkeys(event.pending for event in events if event.pending))
