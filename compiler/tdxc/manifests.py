"""Measurement manifests in words: where they come from, one register explained, two manifests compared.

Everything here speaks of events and of where they stem from; register values only follow from them.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tdxc import records
from tdxc.baked import measure, read_bake
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

if TYPE_CHECKING:
    from tdxc_runtime.measure.events import PredictedEvent, Register
    from tdxc_runtime.measure.manifest import Manifest

_TEXT_LIMIT = 2048


def load_manifest(path: Path) -> Manifest:
    """Read a manifest, or predict a disk boot of what an output folder or a UKI holds.

    Raises DiagnosticError: E_MEASUREMENT where there is nothing to measure, E_VALUE for a file that is not JSON.
    """
    if path.is_file() and path.suffix == ".json":
        return read_manifest(path)
    from tdxc_runtime.measure.manifest import Platform
    from tdxc_runtime.measure.request import BootMode, MeasurementRequest

    known = [target for target in read_bake(path).targets if target in set(Platform)]
    platform = Platform(known[0]) if known else Platform.QEMU
    return measure(MeasurementRequest(artifact=path, platform=platform, boot=BootMode.DISK)).manifest


def read_manifest(path: Path) -> Manifest:
    """Read a manifest file; raises DiagnosticError (E_PATH, E_VALUE, E_MEASUREMENT)."""
    from tdxc_runtime.measure.manifest_json import manifest_from_json

    try:
        data = json.loads(path.read_bytes())
    except OSError as error:
        raise DiagnosticError.of(Code.E_PATH, f"cannot read '{path}': {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise DiagnosticError.of(Code.E_VALUE, f"'{path}' is not JSON: {error}", SourceSpan(file=str(path))) from error
    return manifest_from_json(data, name=str(path))


def explain_register(manifest: Manifest, register: Register) -> str:
    """The values that a register may have, and the events behind each, with their origins."""
    from tdxc_runtime.measure.events import variants
    from tdxc_runtime.measure.manifest import State

    state, reason = manifest.state(register)
    lines = [f"{register.name} on {manifest.platform.value}: {state.value}" + (f", {reason}" if reason else "")]
    if state is State.ENDORSED:
        lines += [f"  {value.value.hex()}" for value in manifest.expected(register)]
    if register not in manifest.covers:
        lines += [f"  missing: {missing}" for missing in manifest.pending if state is State.PENDING]
        return "\n".join(lines)
    options = variants(manifest.prediction, register)
    for number, variant in enumerate(options, 1):
        if len(options) > 1:
            because = "; ".join(reason for _, reason in variant.reasons)
            lines += ["", f"alternative {number} of {len(options)}: {because}"]
        lines += [f"  {label:<7} {value}" for label, value in _values(variant.events, register)]
        lines += [line for place, event in enumerate(variant.events) for line in _event_lines(place, event)]
        lines += [] if variant.events else ["  no event: the register keeps its start value"]
    return "\n".join(lines)


def _values(events: Sequence[PredictedEvent], register: Register) -> Iterator[tuple[str, str]]:
    from tdxc_runtime.measure.events import replay

    for algorithm in register.algorithms:
        value = replay(events, register, algorithm)
        yield algorithm.value, "pending" if value is None else value.hex()


def _event_lines(place: int, event: PredictedEvent) -> Iterator[str]:
    yield f"  {place:>2} {event.event_type.name}: {event.description}"
    if event.pending:
        yield f"       pending: {event.pending}"
    for algorithm, digest in event.digests:
        yield f"       {algorithm.value} {digest.hex()}"
    if origin := str(event.origin):
        yield f"       from {origin}"


@records.frozen(kw_only=True)
class EventChange:
    """One event that differs: only before, only after, or on both sides with another digest.

    ``position`` is its place in the register, after the change where it still has one.
    """

    before: PredictedEvent | None
    after: PredictedEvent | None
    position: int

    @property
    def sign(self) -> str:
        """``+`` for one that is new, ``-`` for one that is gone, ``~`` for one that changed."""
        return "+" if self.before is None else "-" if self.after is None else "~"

    def lines(self) -> Iterator[str]:
        """For people."""
        event = self.after or self.before
        if event is None:
            return
        yield f"  {self.sign} event {self.position}: {event.description or event.event_type.name}"
        texts = [_text(side) for side in (self.before, self.after) if side is not None]
        if self.sign == "~" and all(texts):
            yield from (f"      {mark} {text}" for mark, text in zip("-+", texts, strict=True))
        origins = dict.fromkeys(str(side.origin) for side in (self.before, self.after) if side is not None)
        yield from (f"      from {origin}" for origin in origins if origin)


@records.frozen(kw_only=True)
class RegisterChange:
    """A register whose accepted values or events differ."""

    register: Register
    before: tuple[str, ...]
    after: tuple[str, ...]
    events: tuple[EventChange, ...]


@records.frozen(kw_only=True)
class ManifestDifference:
    """What differs between two manifests: inputs (name, before, after) and registers."""

    inputs: tuple[tuple[str, str, str], ...]
    registers: tuple[RegisterChange, ...]

    @property
    def is_empty(self) -> bool:
        """Whether a verifier would accept the same machines by both."""
        return not self.registers

    def text(self) -> str:
        """For people: inputs that differ, then each register with its events."""
        lines = [f"{name}: {before} -> {after}" for name, before, after in self.inputs]
        for change in self.registers:
            before, after = (", ".join(values) or "not predicted" for values in (change.before, change.after))
            lines += [f"{change.register.name}: {before}", f"{'':{len(change.register.name)}}  {after}"]
            lines += [line for event in change.events for line in event.lines()]
        return "\n".join(lines) + "\n" if lines else "no change\n"

    def data(self) -> dict[str, Any]:
        """For tools."""
        from tdxc_runtime.measure.manifest_json import events_to_json

        def side(event: PredictedEvent | None) -> list[dict[str, object]] | None:
            return None if event is None else events_to_json((event,))

        return {
            "inputs": [{"name": name, "before": before, "after": after} for name, before, after in self.inputs],
            "registers": [
                {
                    "register": change.register.name,
                    "before": list(change.before),
                    "after": list(change.after),
                    "events": [
                        {"kind": e.sign, "position": e.position, "before": side(e.before), "after": side(e.after)}
                        for e in change.events
                    ],
                }
                for change in self.registers
            ],
        }


def compare_manifests(before: Manifest, after: Manifest) -> ManifestDifference:
    """The difference of two manifests. PCRs count in both banks, alternatives by their likeliest list of events."""
    registers = sorted({*before.covers, *after.covers}, key=lambda register: (register.kind.value, register.index))
    changes = []
    for register in registers:
        old, new = (_accepted(manifest, register) for manifest in (before, after))
        events = tuple(_event_changes(_likeliest(before, register), _likeliest(after, register)))
        if old != new or events:
            changes.append(RegisterChange(register=register, before=old, after=new, events=events))
    return ManifestDifference(inputs=tuple(_input_changes(before, after)), registers=tuple(changes))


def _accepted(manifest: Manifest, register: Register) -> tuple[str, ...]:
    return tuple(value.value.hex() for value in manifest.expected(register))


def _likeliest(manifest: Manifest, register: Register) -> tuple[PredictedEvent, ...]:
    from tdxc_runtime.measure.events import variants

    return variants(manifest.prediction, register)[0].events if register in manifest.covers else ()


def _subject(event: PredictedEvent) -> tuple[int, str, str]:
    """What an event is about, whatever its content: its type, section, and the fixed part of its sentence."""
    return (event.event_type, event.origin.section, event.description.partition(":")[0])


def _event_changes(old: Sequence[PredictedEvent], new: Sequence[PredictedEvent]) -> Iterator[EventChange]:
    matcher = difflib.SequenceMatcher(a=list(map(_subject, old)), b=list(map(_subject, new)), autojunk=False)
    for kind, old_start, old_end, new_start, new_end in matcher.get_opcodes():
        if kind == "equal":
            for offset in range(old_end - old_start):
                left, right = old[old_start + offset], new[new_start + offset]
                if (left.digests, left.pending) != (right.digests, right.pending):
                    yield EventChange(before=left, after=right, position=new_start + offset)
            continue
        for place in range(old_start, old_end):
            yield EventChange(before=old[place], after=None, position=place)
        for place in range(new_start, new_end):
            yield EventChange(before=None, after=new[place], position=place)


def _text(event: PredictedEvent) -> str:
    """The text that an event hashes, where it is text: a command line, a release name."""
    from tdxc_runtime.measure.events import EventType

    if event.data is None or len(event.data) > _TEXT_LIMIT:
        return ""
    try:
        text = event.data.decode("utf-16-le" if event.event_type == EventType.EV_EVENT_TAG else "utf-8").rstrip("\0\n")
    except UnicodeDecodeError:
        return ""
    return text if text.isprintable() else ""


def _input_changes(before: Manifest, after: Manifest) -> Iterator[tuple[str, str, str]]:
    for name in sorted({*before.inputs, *after.inputs}):
        old, new = (_plain(manifest.inputs.get(name)) for manifest in (before, after))
        if old != new:
            yield name, old, new


def _plain(value: object) -> str:
    return "nothing" if value is None else value if isinstance(value, str) else json.dumps(value, sort_keys=True)
