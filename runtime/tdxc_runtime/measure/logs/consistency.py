"""Check a log against itself: where a rule ties an event's digest to its data, the two must agree.

A log may lie in every other event (an image's digest cannot be recomputed from the log), so a consistent log is not yet
a true one; only the registers make it so.

Sources: TCG PC Client Platform Firmware Profile 1.06, section 10.4.1, table 27 (which types hash the event field);
EDK II ``TdTcg2Dxe``/``Tcg2Dxe`` ``MeasureVariable``, which hashes the variable's value alone for EV_EFI_VARIABLE_BOOT.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import attrs

from tdxc_runtime.measure.events import Algorithm, EventType
from tdxc_runtime.measure.logs.data import VariableData, parse_event_data
from tdxc_runtime.measure.logs.model import LogEvent

HASHED_DATA_TYPES = frozenset(
    {
        EventType.EV_SEPARATOR,
        EventType.EV_ACTION,
        EventType.EV_EFI_ACTION,
        EventType.EV_S_CRTM_VERSION,
        EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
        EventType.EV_EFI_VARIABLE_BOOT,
        EventType.EV_EFI_VARIABLE_BOOT2,
        EventType.EV_EFI_GPT_EVENT,
        EventType.EV_EFI_GPT_EVENT2,
    }
)


@attrs.frozen(kw_only=True)
class Inconsistency:
    """An event whose digest is not the hash of its data although its type says so."""

    event: LogEvent
    algorithm: Algorithm
    computed: bytes


def is_checkable(event: LogEvent) -> bool:
    """Whether a rule ties this event's digest to its data."""
    return event.is_extended and event.event_type in HASHED_DATA_TYPES


def inconsistencies(events: Iterable[LogEvent]) -> Iterator[Inconsistency]:
    """Every checkable event and algorithm where digest and data disagree, in order."""
    for event in events:
        if is_checkable(event):
            for algorithm, digest in event.digests:
                computed = [algorithm.digest(data) for data in _hashed_data(event)]
                if digest not in computed:
                    yield Inconsistency(event=event, algorithm=algorithm, computed=computed[0])


def _hashed_data(event: LogEvent) -> Iterator[bytes]:
    """What the digest may be taken over: the data, or for a boot variable the variable's value alone."""
    if event.event_type == EventType.EV_EFI_VARIABLE_BOOT:
        parsed = parse_event_data(event.event_type, event.data)
        if isinstance(parsed, VariableData):
            yield parsed.data
    yield event.data
