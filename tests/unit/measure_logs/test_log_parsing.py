import attrs
import pytest
from support.event_logs import cc_log, logged, tpm_log
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.measure.events import RTMR0, RTMR1, Algorithm, EventType, Register
from tdxc_runtime.measure.logs import LogEvent, LogFormat, LogKind, parse_event_log, write_sha1_log

ACTION = logged(RTMR1, EventType.EV_EFI_ACTION, b"Exit Boot Services Invocation")
SEPARATOR = logged(RTMR0, EventType.EV_SEPARATOR, bytes(4))


def refused(data: bytes, kind: LogKind = LogKind.CC) -> str:
    with pytest.raises(DiagnosticError) as caught:
        parse_event_log(data, name="ccel", kind=kind)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code is Code.E_EVENTLOG
    assert diagnostic.span.file == "ccel"
    return diagnostic.message


def content(events: list[LogEvent]) -> list[LogEvent]:
    return [attrs.evolve(event, number=0, offset=0) for event in events]


@pytest.mark.parametrize("padding", [b"", b"\xff", b"\xff" * 3, b"\0" * 5, b"\xff" * 4096, b"\0" * 4096])
def test_a_padded_log_ends_where_its_events_end(padding: bytes) -> None:
    log = parse_event_log(cc_log([SEPARATOR, ACTION], padding), name="ccel", kind=LogKind.CC)
    assert content(log[1:]) == [SEPARATOR, ACTION]
    assert log.padding == len(padding)
    assert log.format is LogFormat.CRYPTO_AGILE
    assert log.algorithms == (Algorithm.SHA384,)
    assert log.registers == (RTMR0, RTMR1)


def test_events_know_their_place_in_the_file() -> None:
    data = cc_log([SEPARATOR, ACTION])
    log = parse_event_log(data, name="ccel", kind=LogKind.CC)
    assert [event.number for event in log] == [0, 1, 2]
    assert log[0].offset == 0
    assert data[log[2].offset :].startswith((2).to_bytes(4, "little"))
    assert log[-1] == log[2]
    with pytest.raises(IndexError):
        log[3]


def test_duplicate_separators_are_events_like_any_other() -> None:
    log = parse_event_log(cc_log([SEPARATOR, SEPARATOR]), name="ccel", kind=LogKind.CC)
    assert len(list(log.of(RTMR0))) == 2


def test_no_action_events_extend_nothing() -> None:
    note = attrs.evolve(SEPARATOR, event_type=EventType.EV_NO_ACTION, register=None)
    log = parse_event_log(cc_log([note]), name="ccel", kind=LogKind.CC)
    assert log.registers == ()


def test_a_tpm_log_has_all_its_banks() -> None:
    event = logged(Register.pcr(4), EventType.EV_EFI_ACTION, b"Calling EFI Application from Boot Option")
    log = parse_event_log(tpm_log([event]), name="log", kind=LogKind.TPM)
    assert log.algorithms == (Algorithm.SHA256, Algorithm.SHA384)
    assert content(log[1:]) == [event]


@pytest.mark.parametrize("padding", [b"", b"\xff" * 7, b"\0" * 100])
def test_a_sha1_log_without_header(padding: bytes) -> None:
    event = logged(Register.pcr(5), EventType.EV_EFI_ACTION, b"Exit", algorithms=(Algorithm.SHA1,))
    log = parse_event_log(write_sha1_log([event, event], padding=padding), name="log", kind=LogKind.TPM)
    assert log.format is LogFormat.SHA1
    assert log.algorithms == (Algorithm.SHA1,)
    assert content(list(log)) == [event, event]


def test_a_sha1_log_is_no_log_of_a_td() -> None:
    event = logged(Register.pcr(1), EventType.EV_EFI_ACTION, b"Exit", algorithms=(Algorithm.SHA1,))
    assert "Spec ID Event03" in refused(write_sha1_log([event]))


@pytest.mark.parametrize("data", [b"", b"\0" * 64, b"\xff" * 65536, b"\0\xff" * 20])
def test_an_empty_area_says_so(data: bytes) -> None:
    assert "empty" in refused(data)


def test_files_given_by_mistake_are_named() -> None:
    assert "CCEL table" in refused(b"CCEL" + bytes(52))
    assert "text" in refused(b'{"events": []}')
    assert "not a TCG event log" in refused(b"\x7fELF" + bytes(range(100)))


def test_a_truncated_log_is_refused_or_keeps_what_was_read() -> None:
    data = cc_log([SEPARATOR, ACTION], b"")
    log = parse_event_log(data, name="ccel", kind=LogKind.CC)
    for size in range(log[2].offset + 5, len(data)):
        refused(data[:size])
        kept = parse_event_log(data[:size], name="ccel", kind=LogKind.CC, tolerant=True)
        assert content(list(kept))[1:] == [SEPARATOR]
        assert kept.fault is not None
        assert kept.fault.offset == log[2].offset


def test_bytes_behind_the_end_are_a_fault() -> None:
    data = cc_log([SEPARATOR], b"\xff" * 32 + b"x")
    assert "filler" in refused(data)
    log = parse_event_log(data, name="ccel", kind=LogKind.CC, tolerant=True)
    assert log.fault is not None
    assert len(log) == 2


def test_an_oversized_log_is_refused_before_it_is_read() -> None:
    assert "more than" in refused(cc_log([SEPARATOR], b"\xff" * (2 << 20)))


@pytest.mark.parametrize("index", [0, 5, 24, 2**32 - 2])
def test_registers_that_do_not_exist(index: int) -> None:
    assert f"index {index}" in refused(cc_log([attrs.evolve(SEPARATOR, index=index)]))


def test_a_pcr_that_does_not_exist() -> None:
    event = attrs.evolve(logged(Register.pcr(0), EventType.EV_IPL, b"x"), index=24)
    assert "PCR index 24" in refused(tpm_log([event]), LogKind.TPM)


def mangled(offset: int, value: bytes) -> bytes:
    data = bytearray(cc_log([SEPARATOR, ACTION]))
    data[offset : offset + len(value)] = value
    return bytes(data)


HEADER_DATA = 32
FIRST = HEADER_DATA + 33


@pytest.mark.parametrize(
    ("offset", "value", "message"),
    [
        (28, b"\xff\xff\xff\x7f", "not a TCG event log"),
        (HEADER_DATA + 24, b"\0\0\0\0", "announces 0 algorithms"),
        (HEADER_DATA + 24, b"\x11\0\0\0", "announces 17 algorithms"),
        (HEADER_DATA + 24, b"\x02\0\0\0", "an algorithm needs 2 bytes"),
        (HEADER_DATA + 28, b"\x0b\0", "0x000b with 48 bytes"),
        (HEADER_DATA + 30, b"\x20\0", "0x000c with 32 bytes"),
        (HEADER_DATA + 32, b"\xff", "vendor info"),
        (FIRST + 8, b"\x02\0\0\0", "2 digests"),
        (FIRST + 8, b"\xff\xff\xff\xff", "4294967295 digests"),
        (FIRST + 12, b"\x0b\0", "algorithm 0x000b"),
        (FIRST + 62, b"\xff\xff\xff\xff", "needs 4294967295 bytes"),
    ],
)
def test_malformed_lengths_are_refused_with_their_place(offset: int, value: bytes, message: str) -> None:
    found = refused(mangled(offset, value))
    assert message in found
    assert "at byte" in found


def test_digests_of_an_unknown_algorithm_are_skipped_by_their_size() -> None:
    data = bytearray(cc_log([SEPARATOR], b""))
    # Announce SM3 (0x0012, 32 bytes) in front of SHA-384 and give the event such a digest.
    data[HEADER_DATA + 24 : HEADER_DATA + 32] = b"\x02\0\0\0" + b"\x12\0\x20\0" + b"\x0c\0\x30\0"[:0]
    data[HEADER_DATA + 32 : HEADER_DATA + 32] = b"\x0c\0\x30\0"
    data[28:32] = (37).to_bytes(4, "little")
    event = HEADER_DATA + 37
    data[event + 8 : event + 12] = b"\x02\0\0\0" + b""
    data[event + 12 : event + 12] = b"\x12\0" + bytes(32)
    log = parse_event_log(bytes(data), name="ccel", kind=LogKind.CC)
    assert content(log[1:]) == [SEPARATOR]
