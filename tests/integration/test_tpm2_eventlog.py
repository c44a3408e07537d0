"""Event logs as tpm2-tools read them: the same events, the same PCRs."""

import re
import subprocess
from pathlib import Path

import pytest
from support.boots import Boot, steps, td_events
from support.event_logs import VECTORS, cc_log, dstack_log, logged, tpm_log
from tdxc_runtime.measure.events import Algorithm, Register
from tdxc_runtime.measure.logs import EventLog, LogKind, parse_event_log
from tdxc_runtime.measure.replay import parse_pcr_file, replay_log

pytestmark = pytest.mark.integration

MADE_UP = [logged(Register.pcr(step.pcr), step.event_type, step.data, measured=step.measured) for step in steps(Boot())]
UNKNOWN = "unknown"
TPM_LOGS = {"made-up": tpm_log(MADE_UP)}
TD_LOGS = {"made-up": cc_log(td_events(Boot()), padding=b"")}
if VECTORS.is_dir():
    TPM_LOGS |= {path.name: path.read_bytes() for path in sorted(VECTORS.glob("qemu-tcg/*.eventlog.bin"))}
    TD_LOGS["CCEL_unpadded"] = (VECTORS / "go-eventlog/CCEL_unpadded.data.bin").read_bytes()
    TD_LOGS["dstack"] = dstack_log().rstrip(b"\xff")


def tpm2_eventlog(data: bytes, folder: Path) -> str:
    path = folder / "log"
    path.write_bytes(data)
    return subprocess.run(("tpm2_eventlog", path), capture_output=True, text=True, check=True, errors="replace").stdout


def rows(text: str) -> list[tuple[int, str, list[str]]]:
    """PCR index, type and digests of every event that tpm2_eventlog printed."""
    found = []
    for block in re.split(r"^- EventNum: \d+$", text.partition("\npcrs:")[0], flags=re.MULTILINE)[1:]:
        index = re.search(r"^  PCRIndex: (\d+)$", block, re.MULTILINE)
        kind = re.search(r"^  EventType: (.+)$", block, re.MULTILINE)
        assert index is not None
        assert kind is not None
        name = kind[1] if kind[1].startswith("EV_") else UNKNOWN
        found.append((int(index[1]), name, re.findall(r'^ +Digest: "([0-9a-f]+)"$', block, re.MULTILINE)))
    return found


def own_rows(log: EventLog) -> list[tuple[int, str, list[str]]]:
    return [
        (e.index, e.type_name if e.type_name.startswith("EV_") else UNKNOWN, [digest.hex() for _, digest in e.digests])
        for e in log
    ]


@pytest.mark.parametrize("name", sorted(TPM_LOGS))
def test_a_tpm_log_reads_the_same(name: str, tmp_path: Path) -> None:
    log = parse_event_log(TPM_LOGS[name], name=name, kind=LogKind.TPM)
    text = tpm2_eventlog(TPM_LOGS[name], tmp_path)
    assert rows(text) == own_rows(log)
    assert parse_pcr_file(text.partition("\npcrs:\n")[2].encode(), name="pcrs") == replay_log(log)


@pytest.mark.parametrize("name", sorted(TD_LOGS))
def test_a_td_log_reads_the_same(name: str, tmp_path: Path) -> None:
    """tpm2-tools insist on index 0 in the header, where CCEL has 1; index N is then the PCR of RTMR N - 1."""
    log = parse_event_log(TD_LOGS[name], name=name, kind=LogKind.CC)
    text = tpm2_eventlog(bytes(4) + TD_LOGS[name][4:], tmp_path)
    assert rows(text)[1:] == own_rows(log)[1:]
    pcrs = parse_pcr_file(text.partition("\npcrs:\n")[2].encode(), name="pcrs")
    own = {(Register.pcr(r.index + 1), a): value for (r, a), value in replay_log(log).items() if any(value)}
    assert {key: value for key, value in pcrs.items() if key[1] is Algorithm.SHA384} == own
