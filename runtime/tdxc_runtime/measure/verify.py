"""Hold what a machine shows (event log, quote, PCRs) against itself and against a manifest, and explain what differs.

Pure: evidence in, verdict out. Checks come in this order: the log by itself, the quote by itself, log against quote,
log against PCRs, every register against the manifest. A register's value is taken from the strongest evidence there is:
a quote, then a list of PCRs, then the replayed log, which anybody can write.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

import attrs

from tdxc_runtime.measure.causes import Cause, likely_causes
from tdxc_runtime.measure.checks import Check, NotChecked, all_ok
from tdxc_runtime.measure.comparison import LoggedEvents, RegisterMismatch, compare_register, logged_to_json
from tdxc_runtime.measure.differences import Difference
from tdxc_runtime.measure.events import Algorithm, PredictedEvent, Register, RegisterKind, extend, variants
from tdxc_runtime.measure.logs import EventLog, LogEvent, LogKind, by_register, describe, inconsistencies, is_checkable
from tdxc_runtime.measure.manifest import TD_REGISTERS, Manifest, State
from tdxc_runtime.measure.quotes import Quote, QuoteVerification, TdBody, TdReport, check_td_report
from tdxc_runtime.measure.replay import RegisterValues, replay_events, replay_log

_SHOWN = 24
# systemd-pcrphase and its siblings extend PCR 11 behind the firmware's log: systemd-pcrphase.service(8).
_PHASES = (("enter-initrd", "leave-initrd", "sysinit", "ready"), ("sysinit", "ready"), ("enter-initrd", "leave-initrd"))


@attrs.frozen(kw_only=True)
class Evidence:
    """What there is to look at; at least one of ``log``, ``quote``, ``report`` and ``pcrs`` must be given.

    ``quote_result`` is the outcome of :func:`~tdxc_runtime.measure.quotes.verify_quote`. ``hints`` maps digests to what
    they would mean, beside those of the manifest; see :func:`~tdxc_runtime.measure.causes.likely_causes`.
    """

    log: EventLog | None = None
    quote: Quote | None = None
    quote_result: QuoteVerification | None = None
    report: TdReport | None = None
    pcrs: RegisterValues | None = None
    manifest: Manifest | None = None
    hints: Mapping[bytes, str] = attrs.field(factory=dict)

    @property
    def body(self) -> TdBody | None:
        """The TD's own fields, from the quote or the report."""
        if self.quote is not None:
            return self.quote.body
        return None if self.report is None else self.report.body


@attrs.frozen(kw_only=True)
class Verification:
    """The verdict. ``differences`` are those of log and manifest, in the order of the log; ``causes`` explain them."""

    checks: tuple[Check, ...]
    not_checked: tuple[NotChecked, ...] = ()
    replayed: RegisterValues = attrs.field(factory=dict)
    body: TdBody | None = None
    differences: tuple[Difference, ...] = ()
    causes: tuple[Cause, ...] = ()
    tcb_status: str | None = None

    @property
    def ok(self) -> bool:
        """Whether something was checked and every check passed."""
        return bool(self.checks) and all_ok(self.checks)

    def to_json(self) -> dict[str, object]:
        """The verdict as plain data, in a fixed order of keys."""
        return {
            "ok": self.ok,
            "replayed": _values_to_json(self.replayed) if self.replayed else None,
            "quote": None if self.body is None else self.body.to_json(),
            "checks": [check.to_json() for check in self.checks],
            "not_checked": [item.to_json() for item in self.not_checked],
            "causes": [{"kind": cause.kind.value, "sentence": cause.sentence} for cause in self.causes],
            "tcb_status": self.tcb_status,
        }


def verify(evidence: Evidence) -> Verification:
    """Do every check that the evidence allows. ``ValueError`` when there is nothing to look at."""
    log, body = evidence.log, evidence.body
    if log is None and body is None and evidence.pcrs is None:
        raise ValueError("there is no event log, quote, report or list of PCRs to verify")
    events = [] if log is None else log[:]
    replayed = {} if log is None else replay_log(log, events)
    logged = None if log is None else by_register(events)
    checks: list[Check] = []
    skipped: list[NotChecked] = []
    if log is not None:
        checks += [_check_whole(log), *_check_consistent(events)]
    if evidence.report is not None:
        checks += check_td_report(evidence.report)
        skipped.append(NotChecked(name="report MAC", reason="only the machine that made a report can check its MAC"))
    if evidence.quote_result is not None:
        checks += evidence.quote_result.checks
        skipped += evidence.quote_result.not_checked
    elif evidence.quote is not None:
        skipped.append(NotChecked(name="quote signature", reason="the quote was only compared, not verified"))
    if logged is not None and body is not None:
        checks += _check_against_body(logged, replayed, body, evidence.manifest)
    if logged is not None and evidence.pcrs is not None:
        checks += _check_against_pcrs(logged, replayed, evidence.pcrs)
    mismatches: list[RegisterMismatch] = []
    if evidence.manifest is not None:
        more, mismatches, left_out = _check_against_manifest(evidence, replayed, logged)
        checks, skipped = [*checks, *more], [*skipped, *left_out]
    found = _in_log_order(logged or {}, mismatches)
    hints = dict(evidence.manifest.hints if evidence.manifest is not None else ()) | dict(evidence.hints)
    causes = likely_causes(found, _shown_events(evidence.manifest, logged or {}), hints)
    return Verification(
        checks=tuple(_with_causes(checks, found, causes)),
        not_checked=tuple(skipped),
        replayed=replayed,
        body=body,
        differences=tuple(found),
        causes=causes,
        tcb_status=_tcb_status(evidence),
    )


def _shown_events(manifest: Manifest | None, logged: LoggedEvents) -> Iterator[PredictedEvent]:
    """The likeliest prediction of those registers that the log shows."""
    for item in () if manifest is None else manifest.prediction:
        events = (item,) if isinstance(item, PredictedEvent) else item.options[0].events
        yield from (event for event in events if event.register in logged)


def _tcb_status(evidence: Evidence) -> str | None:
    result = evidence.quote_result
    return None if result is None or result.tcb is None else result.tcb.status


def _check_whole(log: EventLog) -> Check:
    name = "log is whole"
    if log.fault is not None:
        detail = f"the log is truncated or damaged behind event {len(log) - 1}: {log.fault.message}"
        return Check(name=name, ok=False, detail=detail)
    if not log.registers:
        return Check(name=name, ok=False, detail="the log holds no event that was extended into a register")
    return Check(
        name=name, ok=True, detail=f"{len(log)} events up to byte {log.end}, then {log.padding} bytes of filler"
    )


def _check_consistent(events: Sequence[LogEvent]) -> Iterator[Check]:
    """One check for all events that are fine, and one for each that is not."""
    bad = list(inconsistencies(events))
    for item in bad[:_SHOWN]:
        detail = (
            f"event {item.event.number} says '{describe(item.event)}', but its {item.algorithm.value} digest is of "
        )
        yield Check(
            name="log is consistent",
            ok=False,
            detail=f"{detail}something else: its data hashes to {item.computed.hex()}",
            event=_event(item.event, item.algorithm),
        )
    if not bad:
        count = sum(1 for event in events if is_checkable(event))
        detail = f"all {count} events whose data the digest is taken over agree with their digests"
        yield Check(name="log is consistent", ok=True, detail=detail)


def _event(event: LogEvent, algorithm: Algorithm) -> dict[str, object]:
    """A logged event that stands alone, in the form of a difference."""
    register = None if event.register is None else event.register.name
    return {"register": register, "number": event.number, "expected": None, "found": logged_to_json(event, algorithm)}


def _check_against_body(
    logged: LoggedEvents, replayed: RegisterValues, body: TdBody, manifest: Manifest | None
) -> Iterator[Check]:
    """Every RTMR of the log is the quoted one. A TPM's log has none."""
    for register, value in body.registers.items():
        key = (register, Algorithm.SHA384)
        if key not in replayed:
            continue
        name = f"log and quote agree on {register.name}"
        if replayed[key] == value:
            yield Check(name=name, ok=True, detail=f"both are {value.hex()}")
        else:
            why = _why_log_differs(logged.get(register, []), register, Algorithm.SHA384, value, manifest)
            detail = f"the log replays to {replayed[key].hex()}, the quote has {value.hex()}: {why}"
            yield Check(name=name, ok=False, detail=detail)


def _why_log_differs(
    events: Sequence[LogEvent], register: Register, algorithm: Algorithm, value: bytes, manifest: Manifest | None
) -> str:
    """Why a register does not hold what its logged events amount to."""
    values = replay_events(events, register, algorithm)
    if value in values:
        count = values.index(value)
        return f"the register holds only the first {count} of the {len(events)} logged events"
    for variant in variants(manifest.prediction, register) if manifest is not None else ():
        missing = _missing_tail(variant.events, events, algorithm)
        if missing and value == _extend_all(values[-1], missing, algorithm):
            return (
                f"the log is truncated: {len(missing)} predicted events are missing at its end, the first of them: "
                f"{missing[0].description or missing[0].event_type.name}"
            )
    return "something was extended that is not in the log (IMA or another run-time measurement, or the log was changed)"


def _missing_tail(
    expected: Sequence[PredictedEvent], events: Sequence[LogEvent], algorithm: Algorithm
) -> Sequence[PredictedEvent]:
    """The predicted events behind the logged ones, when the logged ones are as predicted."""
    same = all(e.digest(algorithm) == f.digest(algorithm) for e, f in zip(expected, events, strict=False))
    tail = expected[len(events) :] if same else ()
    return tail if all(event.digest(algorithm) for event in tail) else ()


def _extend_all(value: bytes, events: Iterable[PredictedEvent], algorithm: Algorithm) -> bytes:
    for event in events:
        digest = event.digest(algorithm)
        value = extend(value, digest, algorithm) if digest is not None else value
    return value


def _check_against_pcrs(logged: LoggedEvents, replayed: RegisterValues, pcrs: RegisterValues) -> Iterator[Check]:
    """Every PCR that the log extends holds what the log amounts to, save what user space is known to add."""
    for (register, algorithm), value in replayed.items():
        actual = pcrs.get((register, algorithm))
        if actual is None:
            continue
        name = f"log and {register.name} ({algorithm.value}) agree"
        words = _phase_words(register, algorithm, value, actual)
        if actual == value:
            yield Check(name=name, ok=True, detail=f"both are {value.hex()}")
        elif words:
            detail = f"user space extended {', '.join(words)} behind the firmware's log, as systemd-pcrphase does"
            yield Check(name=name, ok=True, detail=detail)
        else:
            why = _why_log_differs(logged.get(register, []), register, algorithm, actual, None)
            detail = f"the log replays to {value.hex()}, the PCR holds {actual.hex()}: {why}"
            yield Check(name=name, ok=False, detail=detail)


def _phase_words(register: Register, algorithm: Algorithm, value: bytes, actual: bytes) -> tuple[str, ...]:
    """The boot phases that lead from the replayed value to the actual one."""
    if register != Register.pcr(11):
        return ()
    for words in _PHASES:
        current = value
        for count, word in enumerate(words, 1):
            current = extend(current, algorithm.digest(word.encode()), algorithm)
            if current == actual:
                return words[:count]
    return ()


def _check_against_manifest(
    evidence: Evidence, replayed: RegisterValues, logged: LoggedEvents | None
) -> tuple[list[Check], list[RegisterMismatch], list[NotChecked]]:
    """Every register that both the manifest and the evidence speak of."""
    manifest = evidence.manifest or Manifest()
    checks: list[Check] = []
    mismatches: list[RegisterMismatch] = []
    skipped: list[NotChecked] = []
    for register in _known_registers(manifest):
        state, reason = manifest.state(register)
        compared = False
        for algorithm in register.algorithms:
            measured, source = _measured(evidence, replayed, register, algorithm)
            accepted = manifest.expected(register, algorithm)
            if measured is None or not accepted:
                continue
            compared = True
            outcome = compare_register(manifest, register, algorithm, measured, source, logged)
            checks.append(outcome.check)
            if outcome.mismatch is not None:
                mismatches.append(outcome.mismatch)
        if not compared:
            why = (
                reason if state in {State.PENDING, State.UNPREDICTABLE} else "the evidence does not show this register"
            )
            skipped.append(NotChecked(name=f"{register.name} matches the manifest", reason=why))
    if not checks:
        detail = "no register of the manifest is both predicted and shown by the evidence"
        checks.append(Check(name="manifest was compared", ok=False, detail=detail))
    return checks, mismatches, skipped


def _known_registers(manifest: Manifest) -> tuple[Register, ...]:
    named = {*TD_REGISTERS, *manifest.covers, *(r for r, _ in manifest.unpredictable)}
    return tuple(sorted(named, key=lambda r: (r.kind is RegisterKind.PCR, r.kind.value, r.index)))


def _measured(
    evidence: Evidence, replayed: RegisterValues, register: Register, algorithm: Algorithm
) -> tuple[bytes | None, str]:
    """The value of a register and where it comes from, the strongest evidence first."""
    body = evidence.body
    if body is not None and register in body.registers:
        return body.registers[register], "quote" if evidence.quote is not None else "report"
    if evidence.pcrs is not None and (register, algorithm) in evidence.pcrs:
        return evidence.pcrs[register, algorithm], "PCRs"
    log = evidence.log
    if log is not None and (register, algorithm) not in replayed and log.kind is LogKind.TPM:
        is_empty = register.kind is RegisterKind.PCR and algorithm in log.algorithms
        return (bytes(algorithm.size), "log") if is_empty else (None, "")
    return replayed.get((register, algorithm)), "log"


def _in_log_order(logged: LoggedEvents, mismatches: Iterable[RegisterMismatch]) -> list[Difference]:
    """All differences, each once (not again for each bank), in the order in which the boot made the events."""
    unique: dict[tuple[int, Register, int], Difference] = {}
    for mismatch in mismatches:
        for order, difference in enumerate(mismatch.differences):
            events = logged.get(difference.register, [])
            number = events[difference.position].number if difference.position < len(events) else 1 << 32
            unique.setdefault((number, difference.register, order), difference)
    return [unique[key] for key in sorted(unique)]


def _with_causes(checks: Iterable[Check], found: Sequence[Difference], causes: Sequence[Cause]) -> Iterator[Check]:
    """The same checks; those that failed against the manifest say the likely causes that bear on their register."""
    for check in checks:
        register = check.event.get("register") if check.event is not None else None
        if check.ok or not check.name.endswith("matches the manifest") or register is None:
            yield check
            continue
        subjects = {difference.topic[0] for difference in found if difference.register.name == register}
        told = [cause.sentence for cause in causes if subjects & cause.explains]
        yield attrs.evolve(check, detail=f"{check.detail}. Likely cause: {'; also: '.join(told)}") if told else check


def _values_to_json(values: RegisterValues) -> dict[str, object]:
    """``{"rtmr0": hex, ...}`` and ``{"pcrs": {"sha256": {"0": hex}}}``."""
    rows: dict[str, object] = {r.name: v.hex() for (r, _), v in values.items() if r.kind is not RegisterKind.PCR}
    banks: dict[str, dict[str, str]] = {}
    for (register, algorithm), value in values.items():
        if register.kind is RegisterKind.PCR:
            banks.setdefault(algorithm.value, {})[str(register.index)] = value.hex()
    return rows | {"pcrs": banks} if banks else rows
