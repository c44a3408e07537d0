"""Write event logs, for tests and for tools that hand a made-up boot to other verifiers."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tdxc_runtime.measure.events import Algorithm, EventType
from tdxc_runtime.measure.logs.model import ALGORITHM_IDS, LogEvent
from tdxc_runtime.measure.logs.parse import SPEC_ID_SIGNATURE

_IDENTIFIERS = {algorithm: identifier for identifier, algorithm in ALGORITHM_IDS.items()}


def spec_id_data(algorithms: Sequence[Algorithm]) -> bytes:
    """The data of a ``TCG_EfiSpecIDEvent`` for version 2.00 errata 0 with these algorithms and no vendor info."""
    rows = b"".join(_u16(_IDENTIFIERS[a]) + _u16(a.size) for a in algorithms)
    return SPEC_ID_SIGNATURE + bytes((0, 0, 0, 0, 0, 2, 0, 2)) + _u32(len(algorithms)) + rows + b"\0"


def write_event_log(
    events: Iterable[LogEvent], algorithms: Sequence[Algorithm], *, header_index: int = 0, padding: bytes = b""
) -> bytes:
    """A crypto-agile log: the header, the events (``number`` and ``offset`` are not looked at), then ``padding``."""
    header = spec_id_data(algorithms)
    parts = [_u32(header_index) + _u32(EventType.EV_NO_ACTION) + bytes(20) + _u32(len(header)) + header]
    for event in events:
        digests = [_u16(_IDENTIFIERS[algorithm]) + digest for algorithm, digest in event.digests]
        parts.append(_u32(event.index) + _u32(event.event_type) + _u32(len(digests)) + b"".join(digests))
        parts.append(_u32(len(event.data)) + event.data)
    return b"".join(parts) + padding


def write_sha1_log(events: Iterable[LogEvent], *, padding: bytes = b"") -> bytes:
    """A SHA-1 log without a Spec ID header; every event must have a SHA-1 digest (``ValueError``)."""
    parts = []
    for event in events:
        digest = event.digest(Algorithm.SHA1)
        if digest is None:
            raise ValueError(f"event {event.number} has no SHA-1 digest")
        parts.append(_u32(event.index) + _u32(event.event_type) + digest + _u32(len(event.data)) + event.data)
    return b"".join(parts) + padding


def _u16(value: int) -> bytes:
    return value.to_bytes(2, "little")


def _u32(value: int) -> bytes:
    return value.to_bytes(4, "little")
