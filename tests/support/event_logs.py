"""Made-up event logs, and the folder of real ones where it is present."""

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from tdxc_runtime.measure.events import Algorithm, Register
from tdxc_runtime.measure.logs import LogEvent, index_of, write_event_log

VECTORS = Path(__file__).resolve().parents[2].parent / "shared" / "vectors"
needs_vectors = pytest.mark.skipif(not VECTORS.is_dir(), reason="the folder of real inputs is not here")

BANKS = (Algorithm.SHA256, Algorithm.SHA384)


def vector(path: str) -> bytes:
    return (VECTORS / path).read_bytes()


def logged(
    register: Register,
    event_type: int,
    data: bytes,
    *,
    measured: bytes | None = None,
    algorithms: Sequence[Algorithm] | None = None,
) -> LogEvent:
    """An event whose digest is over ``measured`` (by default over its data)."""
    content = data if measured is None else measured
    return LogEvent(
        number=0,
        offset=0,
        index=index_of(register),
        register=register,
        event_type=event_type,
        digests=tuple((a, a.digest(content)) for a in algorithms or register.algorithms),
        data=data,
    )


def cc_log(events: Sequence[LogEvent], padding: bytes = b"\xff" * 64) -> bytes:
    return write_event_log(events, (Algorithm.SHA384,), header_index=1, padding=padding)


def tpm_log(events: Sequence[LogEvent], padding: bytes = b"") -> bytes:
    return write_event_log(events, BANKS, padding=padding)


def dstack_log() -> bytes:
    """The JSON event log of the dstack vector as the binary log that it was made from."""
    report = json.loads(vector("dstack/quote-report.json"))
    events = []
    for row in json.loads(report["event_log"]):
        register = Register.rtmr(row["imr"])
        events.append(
            LogEvent(
                number=0,
                offset=0,
                index=index_of(register),
                register=register,
                event_type=row["event_type"],
                digests=((Algorithm.SHA384, bytes.fromhex(row["digest"])),),
                data=bytes.fromhex(row["event_payload"]),
            )
        )
    return cc_log(events)
