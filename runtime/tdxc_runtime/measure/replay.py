"""From a log to register values, and register values from other sources: files that list PCRs.

Sources: TCG PC Client Platform Firmware Profile 1.06, sections 9.2 (extend) and 10.4.5.3 (``StartupLocality``);
``tpm2_pcrread(1)`` for its output.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import TypeAlias

from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

from tdxc_runtime.measure.events import RTMR0, RTMR1, RTMR2, RTMR3, Algorithm, EventType, Register, RegisterKind, extend
from tdxc_runtime.measure.logs.model import EventLog, LogEvent, LogKind

RegisterValues: TypeAlias = Mapping[tuple[Register, Algorithm], bytes]

MAX_PCR_FILE_SIZE = 64 * 1024
_STARTUP_LOCALITY = b"StartupLocality\0"
_BANK_LINE = re.compile(r"\s*(sha1|sha256|sha384|sha512)\s*:\s*", re.ASCII | re.IGNORECASE)
_PCR_LINE = re.compile(r"\s*(\d{1,2})\s*:\s*(?:0x)?([0-9a-fA-F]+)\s*", re.ASCII)


def replay_log(log: EventLog, events: Iterable[LogEvent] | None = None) -> dict[tuple[Register, Algorithm], bytes]:
    """The value of every register that the log extends, in each algorithm of the log; of a TD all four RTMRs.

    ``events`` are the log's own, where the caller has decoded them already.
    """
    values: dict[tuple[Register, Algorithm], bytes] = {}
    if log.kind is LogKind.CC:
        values = {(r, a): bytes(a.size) for r in (RTMR0, RTMR1, RTMR2, RTMR3) for a in log.algorithms}
    locality = 0
    for event in log if events is None else events:
        locality = _startup_locality(event, locality)
        if event.register is None or not event.is_extended:
            continue
        for algorithm, digest in event.digests:
            key = (event.register, algorithm)
            values[key] = extend(values.get(key) or start_value(*key, locality=locality), digest, algorithm)
    return dict(sorted(values.items()))


def replay_events(events: Iterable[LogEvent], register: Register, algorithm: Algorithm) -> list[bytes]:
    """The values that ``register`` has before the first of ``events``, after it, and so on: one more than events."""
    values = [start_value(register, algorithm)]
    for event in events:
        digest = event.digest(algorithm)
        if event.register == register and event.is_extended and digest is not None:
            values.append(extend(values[-1], digest, algorithm))
    return values


def start_value(register: Register, algorithm: Algorithm, *, locality: int = 0) -> bytes:
    """What a register holds before anything is measured; PCR 0 may start with the locality of the TPM's start-up."""
    if register.kind is RegisterKind.PCR and 17 <= register.index <= 22:
        return b"\xff" * algorithm.size
    return bytes(algorithm.size - 1) + bytes((locality if register == Register.pcr(0) else 0,))


def _startup_locality(event: LogEvent, current: int) -> int:
    """The locality that an EV_NO_ACTION event announces, else the current one."""
    if event.event_type == EventType.EV_NO_ACTION and event.data[:16] == _STARTUP_LOCALITY and len(event.data) == 17:
        return event.data[16]
    return current


def parse_pcr_file(data: bytes, *, name: str) -> dict[tuple[Register, Algorithm], bytes]:
    """PCR values from a file: what ``tpm2_pcrread`` prints, or JSON ``{"sha256": {"0": hex}}``, maybe under ``pcrs``.

    E_EVENTLOG when the file is neither, names a PCR or bank that does not exist, or a value has the wrong length.
    """
    try:
        if len(data) > MAX_PCR_FILE_SIZE:
            raise ValueError(f"the file has {len(data)} bytes, more than {MAX_PCR_FILE_SIZE}")
        text = data.decode("utf-8")
        rows = _json_rows(text) if text.lstrip().startswith("{") else _pcrread_rows(text)
        values = {(Register.pcr(index), bank): _value(bank, digits) for bank, index, digits in rows}
        if not values:
            raise ValueError("there is no PCR in it")
    except (ValueError, RecursionError) as error:
        raise DiagnosticError.of(
            Code.E_EVENTLOG,
            f"this is not a list of PCRs: {error}",
            SourceSpan(file=name),
            fix='write it with `tpm2_pcrread sha256+sha384`, or as JSON {"sha256": {"0": "<hex>"}}',
        ) from None
    return values


def _value(bank: Algorithm, digits: str) -> bytes:
    value = bytes.fromhex(digits.removeprefix("0x"))
    if len(value) != bank.size:
        raise ValueError(f"a value in bank {bank.value} has {len(value)} bytes, not {bank.size}")
    return value


def _pcrread_rows(text: str) -> Iterable[tuple[Algorithm, int, str]]:
    """The rows of ``tpm2_pcrread``: a line per bank, then a line per PCR."""
    bank: Algorithm | None = None
    for number, line in enumerate(text.splitlines(), 1):
        if match := _BANK_LINE.fullmatch(line):
            bank = Algorithm(match[1].lower())
        elif (match := _PCR_LINE.fullmatch(line)) and bank is not None:
            yield bank, int(match[1]), match[2]
        elif line.strip():
            raise ValueError(f"line {number} is neither a bank nor a PCR")


def _json_rows(text: str) -> Iterable[tuple[Algorithm, int, str]]:
    """The rows of the JSON form; values that are null (not known) are passed over."""
    value = json.loads(text)
    banks = value.get("pcrs", value)
    if not isinstance(banks, dict):
        raise ValueError("'pcrs' is not an object")
    for bank, rows in banks.items():
        if not isinstance(rows, dict):
            raise ValueError(f"'{bank}' is not an object")
        for index, digits in rows.items():
            if not index.isdecimal() or not (digits is None or isinstance(digits, str)):
                raise ValueError(f"'{bank}' has a row that is no PCR with its value in hexadecimal")
            if digits is not None:
                yield Algorithm(bank), int(index[:3]), digits
