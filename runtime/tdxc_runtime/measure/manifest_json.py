"""The JSON form of a measurement manifest, written and read.

The object has ``platform``; ``mrtd``, ``rtmr0`` .. ``rtmr3`` (hex or null) and ``pcrs`` (``{"sha256": {"4": hex}}``),
which hold the likeliest value of each register that the prediction covers; ``events``, the likeliest list, flat and in
order; ``alternatives``, the points where reality may differ from it (``at`` indexes ``events``); ``variants``, every
accepted value of a register that has more than one; ``registers``, for each register whether it is ``predicted``,
``endorsed`` (with the values), ``pending`` or ``unpredictable`` and why; ``inputs``; ``pending``, what is missing; and
``hints`` where there are any, other digests with what they would mean.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import cast

from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

from tdxc_runtime.measure.events import (
    Algorithm,
    Alternative,
    Alternatives,
    EventType,
    Origin,
    PredictedEvent,
    Register,
    RegisterKind,
)
from tdxc_runtime.measure.manifest import TD_REGISTERS, UNDETERMINED, Endorsement, ExpectedValue, Manifest, Platform

SCHEMA_VERSION = 1
JSON_DATA_LIMIT = 16384


def event_to_json(event: PredictedEvent) -> list[dict[str, object]]:
    """One row per digest: ``register``, ``digest`` (hex or null), ``type``, ``description``, ``origin``, ``algorithm``.

    A row of a pending event has ``digest`` null and says what is missing under ``pending``. ``data`` (hex) is present
    where it is known and at most ``JSON_DATA_LIMIT`` bytes.
    """
    extra: dict[str, object] = {}
    if event.data is not None and len(event.data) <= JSON_DATA_LIMIT:
        extra["data"] = event.data.hex()
    if event.pending:
        extra["pending"] = event.pending
    digests = dict(event.digests)
    algorithms = tuple(digests) or event.register.algorithms
    return [
        {
            "register": event.register.name,
            "digest": digests[algorithm].hex() if algorithm in digests else None,
            "type": event.event_type.name,
            "description": event.description,
            "origin": origin_to_json(event.origin),
            "algorithm": algorithm.value,
            **extra,
        }
        for algorithm in algorithms
    ]


def events_to_json(events: Iterable[PredictedEvent]) -> list[dict[str, object]]:
    """The rows of many events, in order."""
    return [row for event in events for row in event_to_json(event)]


def manifest_to_json(manifest: Manifest) -> dict[str, object]:
    """The JSON form, as the module docstring describes it; plain data in a fixed order of keys."""
    rows: list[dict[str, object]] = []
    points: list[dict[str, object]] = []
    for item in manifest.prediction:
        if isinstance(item, PredictedEvent):
            rows.extend(event_to_json(item))
            continue
        options = [{"reason": o.reason, "events": events_to_json(o.events)} for o in item.options]
        points.append({"name": item.name, "at": len(rows), "options": options})
        rows.extend(events_to_json(item.options[0].events))
    registers = _known_registers(manifest)
    values: dict[str, object] = {r.name: _first_hex(manifest, r, Algorithm.SHA384) for r in TD_REGISTERS}
    return {
        "schema_version": SCHEMA_VERSION,
        "platform": manifest.platform.value,
        **values,
        "pcrs": _pcrs_to_json(manifest, registers),
        "events": rows,
        "alternatives": points,
        "variants": _variants_to_json(manifest, registers),
        "registers": {r.name: _state_to_json(manifest, r) for r in registers},
        "inputs": dict(manifest.inputs),
        "pending": list(dict.fromkeys((*manifest.pending, *_all_pending(manifest)))),
        **({"hints": {digest.hex(): meaning for digest, meaning in manifest.hints}} if manifest.hints else {}),
    }


def _known_registers(manifest: Manifest) -> tuple[Register, ...]:
    """The TD's registers and every PCR that the manifest speaks of."""
    reasons = (*manifest.missing, *manifest.unpredictable)
    named = {*manifest.covers, *(r for r, _ in reasons), *(e.register for e in manifest.endorsements)}
    return (*TD_REGISTERS, *sorted(r for r in named if r.kind is RegisterKind.PCR))


def _all_pending(manifest: Manifest) -> tuple[str, ...]:
    flat: list[PredictedEvent] = []
    for item in manifest.prediction:
        flat.extend((item,) if isinstance(item, PredictedEvent) else (e for o in item.options for e in o.events))
    return tuple(dict.fromkeys(event.pending for event in flat if event.pending))


def _first_hex(manifest: Manifest, register: Register, algorithm: Algorithm) -> str | None:
    values = manifest.expected(register, algorithm)
    return values[0].value.hex() if values else None


def _pcrs_to_json(manifest: Manifest, registers: Sequence[Register]) -> dict[str, dict[str, str | None]]:
    """``{"sha256": {"4": hex}, "sha384": {...}}`` over the covered PCRs."""
    covered = [r for r in registers if r.kind is RegisterKind.PCR and r in manifest.covers]
    return {
        algorithm.value: {str(r.index): _first_hex(manifest, r, algorithm) for r in covered}
        for algorithm in (Algorithm.SHA256, Algorithm.SHA384)
    }


def _variants_to_json(manifest: Manifest, registers: Sequence[Register]) -> dict[str, list[dict[str, object]]]:
    """Every accepted value of the registers that have more than one, with the decisions behind each."""
    found: dict[str, list[dict[str, object]]] = {}
    for register in registers:
        for algorithm in register.algorithms:
            values = manifest.expected(register, algorithm)
            if len(values) > 1:
                found.setdefault(register.name, []).extend(_variant_to_json(algorithm, v) for v in values)
    return found


def _variant_to_json(algorithm: Algorithm, expected: ExpectedValue) -> dict[str, object]:
    return {"algorithm": algorithm.value, "value": expected.value.hex(), "reasons": dict(expected.reasons)}


def _state_to_json(manifest: Manifest, register: Register) -> dict[str, object]:
    """``state``, ``reason`` where there is one, and an endorser's name with all its values."""
    state, reason = manifest.state(register)
    row: dict[str, object] = {"state": state.value, "covered": register in manifest.covers}
    if reason:
        row["reason"] = reason
    endorsed = [e for e in manifest.endorsements if e.register == register]
    if endorsed:
        row["endorsed"] = [{"by": e.by, "values": [value.hex() for value in e.values]} for e in endorsed]
    return row


def manifest_from_json(value: object, *, name: str) -> Manifest:
    """Read the JSON form. ``name`` is the file as diagnostics call it; E_MEASUREMENT for anything that does not fit.

    Register values and digests are not believed: values follow from the events by replay, and where the object states
    a value that its own events contradict, that is an error too.
    """
    reader = _Reader(name)
    try:
        manifest = reader.manifest(value)
        stated = reader.mapping(value)
        wrong = [r for r in TD_REGISTERS if stated.get(r.name) not in {None, *_accepted_hex(manifest, r)}]
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise reader.error(f"this is not a measurement manifest: {error}") from None
    for register in wrong:
        raise reader.error(f"the manifest's value of {register} does not follow from its own events")
    return manifest


def _accepted_hex(manifest: Manifest, register: Register) -> Iterable[str]:
    return (expected.value.hex() for expected in manifest.expected(register))


class _Reader:
    """Checked access to decoded JSON; every method raises ``ValueError`` with the fault in words."""

    def __init__(self, name: str) -> None:
        self._name = name

    def error(self, message: str) -> DiagnosticError:
        return DiagnosticError.of(
            Code.E_MEASUREMENT,
            message,
            SourceSpan(file=self._name),
            fix="write it anew with `tdxc measure --format json`",
        )

    @staticmethod
    def mapping(value: object) -> Mapping[str, object]:
        if not isinstance(value, dict):
            raise ValueError(f"an object was expected, not {type(value).__name__}")
        return cast("dict[str, object]", value)

    @staticmethod
    def array(value: object) -> list[object]:
        if not isinstance(value, list):
            raise ValueError(f"an array was expected, not {type(value).__name__}")
        return cast("list[object]", value)

    @staticmethod
    def text(value: object) -> str:
        if not isinstance(value, str):
            raise ValueError(f"a string was expected, not {type(value).__name__}")
        return value

    def manifest(self, value: object) -> Manifest:
        top = self.mapping(value)
        if top.get("schema_version") != SCHEMA_VERSION:
            raise ValueError(f"schema_version {top.get('schema_version')!r} is not {SCHEMA_VERSION}")
        states = {Register.parse(key): self.mapping(row) for key, row in self.mapping(top["registers"]).items()}
        return Manifest(
            platform=Platform(self.text(top["platform"])),
            prediction=self.prediction(top),
            covers=tuple(r for r, row in states.items() if row.get("covered") is True),
            endorsements=tuple(e for r, row in states.items() for e in self.endorsements(r, row)),
            unpredictable=tuple(
                (r, self.text(row.get("reason", "")))
                for r, row in states.items()
                if row.get("state") == "unpredictable"
            ),
            inputs=self.mapping(top.get("inputs", {})),
            missing=tuple(
                (r, self.text(row["reason"]))
                for r, row in states.items()
                if row.get("state") == "pending" and row.get("covered") is not True
                if row.get("reason", UNDETERMINED) != UNDETERMINED
            ),
            pending=tuple(self.text(item) for item in self.array(top.get("pending", []))),
            hints=tuple(
                (bytes.fromhex(digest), self.text(meaning))
                for digest, meaning in self.mapping(top.get("hints", {})).items()
            ),
        )

    def endorsements(self, register: Register, row: Mapping[str, object]) -> Iterable[Endorsement]:
        for item in map(self.mapping, self.array(row.get("endorsed", []))):
            values = tuple(bytes.fromhex(self.text(v)) for v in self.array(item["values"]))
            yield Endorsement(register=register, values=values, by=self.text(item["by"]))

    def prediction(self, top: Mapping[str, object]) -> tuple[PredictedEvent | Alternatives, ...]:
        """Fold the flat list and the alternatives back into one; the list must hold each first option where it says."""
        rows = self.array(top["events"])
        items: list[PredictedEvent | Alternatives] = []
        done = 0
        for point in map(self.mapping, self.array(top.get("alternatives", []))):
            at, options = point["at"], [self.mapping(option) for option in self.array(point["options"])]
            if not isinstance(at, int) or not done <= at <= len(rows):
                raise ValueError("the alternatives are not in the order of the events")
            items.extend(self.events(rows[done:at]))
            alternatives = tuple(
                Alternative(reason=self.text(o["reason"]), events=self.events(self.array(o["events"]))) for o in options
            )
            done = at + len(self.array(options[0]["events"])) if options else at
            if not options or rows[at:done] != options[0]["events"]:
                raise ValueError(f"the events do not hold the first alternative at {at}")
            items.append(Alternatives(name=self.text(point["name"]), options=alternatives))
        items.extend(self.events(rows[done:]))
        return tuple(items)

    def events(self, rows: Sequence[object]) -> tuple[PredictedEvent, ...]:
        """Join the rows that are one event in several algorithms: alike but for ``digest`` and ``algorithm``."""
        found: list[tuple[dict[str, object], list[tuple[Algorithm, bytes]], set[str]]] = []
        for row in map(self.mapping, rows):
            algorithm = Algorithm(self.text(row["algorithm"]))
            common = {key: item for key, item in row.items() if key not in {"digest", "algorithm"}}
            if not found or found[-1][0] != common or algorithm.value in found[-1][2]:
                found.append((common, [], set()))
            found[-1][2].add(algorithm.value)
            if row["digest"] is not None:
                found[-1][1].append((algorithm, bytes.fromhex(self.text(row["digest"]))))
        return tuple(self.event(common, digests) for common, digests, _ in found)

    def event(self, row: Mapping[str, object], digests: Sequence[tuple[Algorithm, bytes]]) -> PredictedEvent:
        type_name, data = self.text(row["type"]), row.get("data")
        if type_name not in EventType.__members__:
            raise ValueError(f"unknown event type '{type_name}'")
        return PredictedEvent(
            register=Register.parse(self.text(row["register"])),
            event_type=EventType[type_name],
            digests=tuple(digests),
            data=None if data is None else bytes.fromhex(self.text(data)),
            description=self.text(row.get("description", "")),
            origin=_origin_from_json(self.mapping(row.get("origin", {}))),
            pending=self.text(row.get("pending", "")),
        )


def origin_to_json(origin: Origin) -> dict[str, str]:
    """Those of ``recipe`` (``file:line:column``), ``node``, ``artifact``, ``section``, ``rule`` that are known."""
    known = {"recipe": str(origin.span), "node": origin.node, "artifact": origin.artifact, "section": origin.section}
    return {key: value for key, value in (known | {"rule": origin.rule}).items() if value}


def _origin_from_json(value: Mapping[str, object]) -> Origin:
    fields = {key: item for key, item in value.items() if isinstance(item, str)}
    return Origin(
        span=_parse_span(fields.get("recipe", "")),
        node=fields.get("node", ""),
        artifact=fields.get("artifact", ""),
        section=fields.get("section", ""),
        rule=fields.get("rule", ""),
    )


def _parse_span(text: str) -> SourceSpan:
    """``file:line:column`` or a bare file name."""
    match = re.fullmatch(r"(.*):([1-9]\d{0,8}):(\d{1,9})", text, re.ASCII | re.DOTALL)
    return SourceSpan(file=match[1], line=int(match[2]), column=int(match[3])) if match else SourceSpan(file=text)
