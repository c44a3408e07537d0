"""Compare one register with the manifest: its value with the accepted ones, its events with the predicted ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import attrs

from tdxc_runtime.measure.checks import Check
from tdxc_runtime.measure.differences import Difference, differences
from tdxc_runtime.measure.events import Algorithm, PredictedEvent, Register, Variant, replay, variants
from tdxc_runtime.measure.logs import LogEvent, describe
from tdxc_runtime.measure.manifest import Manifest
from tdxc_runtime.measure.manifest_json import origin_to_json
from tdxc_runtime.measure.replay import replay_events, start_value

LoggedEvents: TypeAlias = Mapping[Register, Sequence[LogEvent]]


@attrs.frozen(kw_only=True)
class RegisterMismatch:
    """A register that is not as predicted: the variant that comes closest to the log, and where the two differ."""

    register: Register
    algorithm: Algorithm
    expected_events: tuple[PredictedEvent, ...]
    differences: tuple[Difference, ...]


@attrs.frozen(kw_only=True)
class Outcome:
    """The check of one register, and its mismatch when it failed."""

    check: Check
    mismatch: RegisterMismatch | None = None


def is_userspace(event: PredictedEvent) -> bool:
    """Whether an event is made after the firmware's log was closed: systemd's boot phases and their like."""
    return event.origin.rule.startswith("systemd-pcr")


def compare_register(
    manifest: Manifest, register: Register, algorithm: Algorithm, measured: bytes, source: str, log: LoggedEvents | None
) -> Outcome:
    """Compare ``measured``, which ``source`` shows, with every accepted value of a register.

    A firmware's log ends before user space; a value replayed from it (``source`` is ``log``) is also accepted when it
    lacks just user space's events.
    """
    name = _check_name(register, algorithm)
    for expected in manifest.expected(register, algorithm):
        if expected.value == measured:
            chosen = "; ".join(reason for _, reason in expected.reasons)
            return Outcome(check=Check(name=name, ok=True, detail=measured.hex() + (f" ({chosen})" if chosen else "")))
    candidates = variants(manifest.prediction, register) if register in manifest.covers else ()
    if source == "log":
        trimmed = [_without_userspace(variant) for variant in candidates]
        if any(replay(events, register, algorithm) == measured for events in trimmed):
            detail = f"{measured.hex()} up to where the firmware's log ends; user space's events come later"
            return Outcome(check=Check(name=name, ok=True, detail=detail))
        lists = trimmed
    else:
        lists = [variant.events for variant in candidates]
    logged = [] if log is None else log.get(register, [])
    is_shown = bool(logged) or measured == start_value(register, algorithm)
    mismatch = _closest(lists, logged, register, algorithm) if log is not None and lists and is_shown else None
    accepted = " or ".join(v.value.hex() for v in manifest.expected(register, algorithm))
    detail = f"the {source} has {measured.hex()}, the manifest expects {accepted}"
    if mismatch is None:
        return Outcome(check=Check(name=name, ok=False, detail=f"{detail}; {_without_log(log, register)}"))
    if not mismatch.differences:
        detail += "; the logged events are as predicted, so something was extended that is not in the log"
        return Outcome(check=Check(name=name, ok=False, detail=detail), mismatch=mismatch)
    first = mismatch.differences[0]
    event = difference_to_json(first, algorithm)
    doubt = (
        "" if _is_log_true(logged, register, algorithm, measured) else f" (by a log that the {source} does not confirm)"
    )
    return Outcome(
        check=Check(name=name, ok=False, detail=f"{detail}; first difference{doubt}: {_in_words(first)}", event=event),
        mismatch=mismatch,
    )


def _is_log_true(logged: Sequence[LogEvent], register: Register, algorithm: Algorithm, measured: bytes) -> bool:
    """Whether the logged events amount to the measured value; PCR 0 is given the benefit of an unknown start."""
    return register == Register.pcr(0) or replay_events(logged, register, algorithm)[-1] == measured


def _check_name(register: Register, algorithm: Algorithm) -> str:
    bank = f" ({algorithm.value})" if len(register.algorithms) > 1 else ""
    return f"{register.name}{bank} matches the manifest"


def _without_log(log: LoggedEvents | None, register: Register) -> str:
    if log is None:
        return "give the event log to see which event differs"
    return f"the log has no event of {register}, so it cannot show why"


def _without_userspace(variant: Variant) -> tuple[PredictedEvent, ...]:
    return tuple(event for event in variant.events if not is_userspace(event))


def _closest(
    lists: Sequence[Sequence[PredictedEvent]], logged: Sequence[LogEvent], register: Register, algorithm: Algorithm
) -> RegisterMismatch:
    """The predicted list with the fewest differences from the log; the likeliest one among equals."""
    compared = [(events, differences(events, logged, register, algorithm)) for events in lists]
    events, found = min(compared, key=lambda pair: len(pair[1]))
    return RegisterMismatch(
        register=register, algorithm=algorithm, expected_events=tuple(events), differences=tuple(found)
    )


def _in_words(difference: Difference) -> str:
    """Both sides in one sentence."""
    place = f"event {difference.position} of {difference.register}"
    expected, found = difference.expected, difference.found
    if expected is None:
        return f"{place} is not predicted: {describe(found) if found is not None else 'unknown'}"
    name = expected.description or expected.event_type.name
    if found is None:
        return f"{place} is missing: {name}"
    return (
        f"{place} (number {found.number} of the log) should be '{name}' and is '{describe(found)}' with another digest"
    )


def difference_to_json(difference: Difference, algorithm: Algorithm) -> Mapping[str, object]:
    """The two sides of a difference as plain data: ``register``, ``position``, ``number``, ``expected``, ``found``."""
    expected, found = difference.expected, difference.found
    return {
        "register": difference.register.name,
        "position": difference.position,
        "number": None if found is None else found.number,
        "expected": None if expected is None else _predicted_to_json(expected, algorithm),
        "found": None if found is None else logged_to_json(found, algorithm),
    }


def _predicted_to_json(event: PredictedEvent, algorithm: Algorithm) -> Mapping[str, object]:
    digest = event.digest(algorithm)
    return {
        "digest": None if digest is None else digest.hex(),
        "type": event.event_type.name,
        "description": event.description,
        "origin": origin_to_json(event.origin),
    }


def logged_to_json(event: LogEvent, algorithm: Algorithm) -> Mapping[str, object]:
    """A logged event as plain data."""
    digest = event.digest(algorithm)
    return {
        "digest": None if digest is None else digest.hex(),
        "type": event.type_name,
        "description": describe(event),
    }
