"""What a machine showed of its boot, and how to hold that against a prediction without the product's own verdict."""

from __future__ import annotations

import base64
import binascii
import hashlib
import json
import re
from collections.abc import Iterable
from pathlib import Path

import attrs
from tdxc_runtime.measure.events import RTMR1, RTMR2, Algorithm, EventType, PredictedEvent, Register, variants
from tdxc_runtime.measure.logs import EventLog, LogEvent, LogKind, parse_event_log
from tdxc_runtime.measure.manifest import Manifest
from tdxc_runtime.measure.manifest_json import manifest_from_json

MEASURED_PCRS = (4, 5, 8, 9, 11, 12, 13, 15)
DATA = Path(__file__).resolve().parents[1] / "data" / "measured"
_REPORT = re.compile(r"^report: begin$((?:(?!^report: begin$).)*?)^report: end$", re.DOTALL | re.MULTILINE)
"""From a beginning to the end that follows, which another line on the console may have garbled: then it has none."""
_PCR = re.compile(r"^pcr (sha256|sha384) ([0-9]+) ([0-9A-Fa-f]+)$", re.MULTILINE)


@attrs.frozen(kw_only=True)
class Shown:
    """The firmware's event log, and all PCRs as user space read them: bank to number to hex."""

    log: bytes
    pcrs: dict[str, dict[str, str]]

    @property
    def events(self) -> EventLog:
        return parse_event_log(self.log, name="the machine's log", kind=LogKind.TPM)

    def pcr(self, register: Register, algorithm: Algorithm) -> bytes:
        return bytes.fromhex(self.pcrs[algorithm.value][str(register.index)])

    def save(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "log").write_bytes(self.log)
        (folder / "pcrs.json").write_text(json.dumps(self.pcrs, indent=1) + "\n")


def read_report(console: str) -> Shown | None:
    """The report of tests/recipes/measured.py, or ``None`` as long as no whole one has come."""
    for match in _REPORT.finditer(console):
        text = match[1]
        try:
            log = base64.b64decode("".join(re.findall(r"^log (\S+)$", text, re.MULTILINE)))
        except binascii.Error:  # of a line that another one garbled
            continue
        pcrs: dict[str, dict[str, str]] = {}
        for bank, number, value in _PCR.findall(text):
            if len(value) == 2 * hashlib.new(bank).digest_size:
                pcrs.setdefault(bank, {})[number] = value.lower()
        if f"sum {hashlib.sha256(log).hexdigest()} " in text and [len(bank) for bank in pcrs.values()] == [24, 24]:
            return Shown(log=log, pcrs=pcrs)
    return None


def saved_boot(name: str) -> tuple[Manifest, Shown]:
    """A boot that was kept as test data."""
    folder = DATA / name
    manifest = manifest_from_json(json.loads((folder / "manifest.json").read_text()), name=name)
    return manifest, Shown(log=(folder / "log").read_bytes(), pcrs=json.loads((folder / "pcrs.json").read_text()))


def assert_registers(manifest: Manifest, shown: Shown) -> list[str]:
    """Every predicted PCR has one of the predicted values in both banks; a table of them for the reader."""
    table = []
    for index in MEASURED_PCRS:
        register = Register.pcr(index)
        for algorithm in register.algorithms:
            accepted = [expected.value for expected in manifest.expected(register, algorithm)]
            actual = shown.pcr(register, algorithm)
            assert actual in accepted, f"{register.name} {algorithm.value}: {actual.hex()} is not predicted"
            table.append(f"{register.name:<6} {algorithm.value} {actual.hex()} predicted as {len(accepted)} value(s)")
    return table


def assert_events(manifest: Manifest, shown: Shown) -> int:
    """Every event of every predicted PCR is in the firmware's log, and no other; their number."""
    log = list(shown.events)
    count = 0
    for register in map(Register.pcr, MEASURED_PCRS):
        logged = _triples(event for event in log if event.register == register and event.is_extended)
        lists = [_predicted(variant.events) for variant in variants(manifest.prediction, register)]
        assert logged in lists, f"{register.name}: the log has {logged}"
        count += len(logged)
    return count


def assert_td_events(manifest: Manifest, shown: Shown) -> None:
    """A TPM's SHA-384 events of PCR 2 to 6 and 8 to 15 are what RTMR1 and RTMR2 would receive.

    A TPM gets a separator in every PCR, a TD one in all, so separators are left out of RTMR1.
    """
    for register, indexes in ((RTMR1, range(2, 7)), (RTMR2, range(8, 16))):
        pcrs = {Register.pcr(index) for index in indexes}
        logged = [
            event.digest(Algorithm.SHA384)
            for event in shown.events
            if event.register in pcrs and event.is_extended and event.event_type != EventType.EV_SEPARATOR
        ]
        lists = [
            [e.digest(Algorithm.SHA384) for e in variant.events if e.event_type != EventType.EV_SEPARATOR]
            for variant in variants(manifest.prediction, register)
        ]
        assert logged in lists, register.name


def _triples(events: Iterable[LogEvent]) -> list[tuple[int, bytes | None, bytes | None]]:
    return [(e.event_type, e.digest(Algorithm.SHA256), e.digest(Algorithm.SHA384)) for e in events]


def _predicted(events: tuple[PredictedEvent, ...]) -> list[tuple[int, bytes | None, bytes | None]]:
    return [(int(e.event_type), e.digest(Algorithm.SHA256), e.digest(Algorithm.SHA384)) for e in events]
