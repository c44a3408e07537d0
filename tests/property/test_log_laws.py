"""What must hold of any event log: what is written is read, and no bytes do harm."""

import contextlib
import functools

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.event_logs import BANKS, VECTORS, cc_log, logged, tpm_log
from support.fuzzing import MEMORY_FLOOR, mutations, only_diagnosed, peak_memory
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.measure.events import RTMR1, Algorithm, EventType, Register, RegisterKind
from tdxc_runtime.measure.logs import (
    EventLog,
    LogEvent,
    LogKind,
    describe,
    device_path_text,
    inconsistencies,
    parse_ccel_table,
    parse_event_data,
    parse_event_log,
    write_event_log,
    write_sha1_log,
)
from tdxc_runtime.measure.replay import parse_pcr_file, replay_log

EVENT_TYPES = st.one_of(st.sampled_from([int(t) for t in EventType]), st.integers(0, 2**32 - 1)).filter(
    lambda t: t != 3
)


@st.composite
def log_events(draw: st.DrawFn, kind: LogKind, algorithms: tuple[Algorithm, ...]) -> LogEvent:
    register = (
        Register(RegisterKind.RTMR, draw(st.integers(0, 3)))
        if kind is LogKind.CC
        else Register.pcr(draw(st.integers(0, 23)))
    )
    event = logged(register, draw(EVENT_TYPES), draw(st.binary(max_size=300)), algorithms=algorithms)
    digests = tuple((a, draw(st.binary(min_size=a.size, max_size=a.size))) for a in algorithms)
    return attrs.evolve(event, digests=digests)


def is_no_filler(event: LogEvent) -> bool:
    """Whether an event could not be taken for the unused end of a log."""
    return any(event.digests[0][1])


PADDING = st.one_of(st.just(b""), st.integers(1, 200).map(bytes), st.integers(1, 200).map(lambda n: b"\xff" * n))


def parse(data: bytes, kind: LogKind) -> EventLog | None:
    """Parse, insisting that the only way to fail is the diagnostic."""
    parsed: list[EventLog] = []
    with only_diagnosed(Code.E_EVENTLOG, "log"):
        parsed.append(parse_event_log(data, name="log", kind=kind))
    return parsed[0] if parsed else None


def use(data: bytes, kind: LogKind) -> None:
    """Everything that is ever done with a log."""
    parse(data, kind)
    with contextlib.suppress(DiagnosticError):
        log = parse_event_log(data, name="log", kind=kind, tolerant=True)
        for event in log:
            describe(event)
        list(inconsistencies(log))
        replay_log(log)


@given(st.lists(log_events(LogKind.CC, (Algorithm.SHA384,)), max_size=12), PADDING)
def test_a_written_td_log_is_read_back(events: list[LogEvent], padding: bytes) -> None:
    data = write_event_log(events, (Algorithm.SHA384,), header_index=1, padding=padding)
    log = parse_event_log(data, name="log", kind=LogKind.CC)
    assert [attrs.evolve(e, number=0, offset=0) for e in log[1:]] == events
    assert log.end + log.padding == len(data)


@given(st.lists(log_events(LogKind.TPM, BANKS), max_size=12), PADDING)
def test_a_written_tpm_log_is_read_back(events: list[LogEvent], padding: bytes) -> None:
    log = parse_event_log(write_event_log(events, BANKS, padding=padding), name="log", kind=LogKind.TPM)
    assert [attrs.evolve(e, number=0, offset=0) for e in log[1:]] == events


@given(st.lists(log_events(LogKind.TPM, (Algorithm.SHA1,)).filter(is_no_filler), min_size=1, max_size=12), PADDING)
def test_a_written_sha1_log_is_read_back(events: list[LogEvent], padding: bytes) -> None:
    log = parse_event_log(write_sha1_log(events, padding=padding), name="log", kind=LogKind.TPM)
    assert [attrs.evolve(e, number=0, offset=0) for e in log] == events


@given(st.binary(max_size=2000), st.sampled_from(LogKind))
def test_arbitrary_bytes_do_no_harm(data: bytes, kind: LogKind) -> None:
    use(data, kind)


SAMPLES = {
    "cc": (
        LogKind.CC,
        cc_log([logged(RTMR1, EventType.EV_EFI_ACTION, b"Exit"), logged(RTMR1, EventType.EV_SEPARATOR, bytes(4))]),
    ),
    "tpm": (LogKind.TPM, tpm_log([logged(Register.pcr(4), EventType.EV_EFI_ACTION, b"Calling")])),
}
if VECTORS.is_dir():
    SAMPLES["real-cc"] = (LogKind.CC, (VECTORS / "go-eventlog/CCEL_unpadded.data.bin").read_bytes())
    SAMPLES["real-tpm"] = (LogKind.TPM, (VECTORS / "qemu-tcg/tiny257.eventlog.bin").read_bytes())


@pytest.mark.parametrize("name", sorted(SAMPLES))
@given(st.data())
@settings(max_examples=150)
def test_damaged_logs_do_no_harm(name: str, data: st.DataObject) -> None:
    kind, sample = SAMPLES[name]
    use(data.draw(mutations(sample)), kind)


@given(st.one_of(EVENT_TYPES, st.just(3)), st.binary(max_size=600))
def test_event_data_never_fails(event_type: int, data: bytes) -> None:
    str(parse_event_data(event_type, data))


@given(st.binary(max_size=600))
def test_device_paths_never_fail(data: bytes) -> None:
    device_path_text(data)


@given(st.one_of(st.binary(max_size=100), st.binary(max_size=100).map(lambda b: b"CCEL" + b)))
def test_tables_fail_only_with_their_diagnostic(data: bytes) -> None:
    with only_diagnosed(Code.E_EVENTLOG, "t"):
        parse_ccel_table(data, name="t")


PCR_TEXT = st.text(alphabet=' \n:0123456789abcdefxsh{}"[],null', max_size=200)


@given(st.one_of(st.binary(max_size=200), PCR_TEXT.map(str.encode), PCR_TEXT.map(lambda t: b"{" + t.encode())))
def test_pcr_files_fail_only_with_their_diagnostic(data: bytes) -> None:
    with only_diagnosed(Code.E_EVENTLOG, "p"):
        parse_pcr_file(data, name="p")


@pytest.mark.parametrize("size", [0, 1, 200])
def test_reading_a_log_takes_less_than_ten_times_its_size(size: int) -> None:
    event = logged(Register.pcr(4), EventType.EV_IPL, bytes(size), algorithms=(Algorithm.SHA1,))
    for data in (write_sha1_log([event] * 1500), write_event_log([event] * 1500, (Algorithm.SHA1,))):
        use(data, LogKind.TPM)
        assert peak_memory(functools.partial(use, data, LogKind.TPM)) < 10 * len(data)


def test_one_huge_event_takes_less_than_ten_times_its_size() -> None:
    text = logged(RTMR1, EventType.EV_EFI_ACTION, b"A" * (3 << 19))
    data = cc_log([text])
    assert peak_memory(lambda: use(data, LogKind.CC)) < 10 * len(data) + MEMORY_FLOOR
