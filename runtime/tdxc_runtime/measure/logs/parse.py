"""Parse event logs: TCG crypto-agile logs (of TPMs and, as CCEL data, of TDs) and the older SHA-1 logs.

The bytes are untrusted: every length is checked before anything is sliced. Logs are read once; what stays in memory
beside the input is eight bytes per event.

Sources: TCG PC Client Platform Firmware Profile 1.06, section 10.2 (``TCG_PCR_EVENT``, ``TCG_PCR_EVENT2``) and 10.4.5.1
(``TCG_EfiSpecIDEvent``); UEFI 2.10 section 38.2.7 (the same layout as ``CC_EVENT`` log).
"""

from __future__ import annotations

from array import array
from collections.abc import Mapping

import attrs
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

from tdxc_runtime.measure.cursor import Cursor
from tdxc_runtime.measure.events import Algorithm, EventType
from tdxc_runtime.measure.logs.model import ALGORITHM_IDS, EventLog, LogEvent, LogFault, LogFormat, LogKind, register_of

MAX_LOG_SIZE = 2 * 1024 * 1024
SPEC_ID_SIGNATURE = b"Spec ID Event03\0"
_SHA1_EVENT_SIZE = 32
_MIN_EVENT2_SIZE = 16
_FIX_FILE = "give the log itself: /sys/firmware/acpi/tables/data/CCEL of a TD, or the TPM's binary_bios_measurements"


@attrs.frozen(kw_only=True)
class _Layout:
    """How to read the events of one file; ``sizes`` maps TPM_ALG_ID to digest size, empty for a SHA-1 log."""

    name: str
    kind: LogKind
    sizes: Mapping[int, int]

    def read(self, cursor: Cursor, number: int) -> LogEvent:
        """The event at the cursor; moves it behind the event."""
        return self._read_event2(cursor, number) if self.sizes and number else self._read_event(cursor, number)

    def _read_event(self, cursor: Cursor, number: int) -> LogEvent:
        """A ``TCG_PCR_EVENT``: one SHA-1 digest."""
        offset = cursor.offset
        index, event_type = cursor.u32("the register index"), cursor.u32("the event type")
        digest = bytes(cursor.take(20, "the digest"))
        return self._event(cursor, number, offset, index, event_type, ((Algorithm.SHA1, digest),))

    def _read_event2(self, cursor: Cursor, number: int) -> LogEvent:
        """A ``TCG_PCR_EVENT2``: as many digests as the header announced, each algorithm once."""
        offset = cursor.offset
        index, event_type = cursor.u32("the register index"), cursor.u32("the event type")
        count = cursor.u32("the number of digests")
        if count != len(self.sizes):
            raise cursor.error(f"event {number} has {count} digests where the header announces {len(self.sizes)}")
        digests: list[tuple[Algorithm, bytes]] = []
        seen: set[int] = set()
        for _ in range(count):
            identifier = cursor.u16("the digest's algorithm")
            if identifier not in self.sizes or identifier in seen:
                raise cursor.error(
                    f"event {number} has a digest of algorithm 0x{identifier:04x}, not announced or twice"
                )
            seen.add(identifier)
            digest = cursor.take(self.sizes[identifier], "the digest")
            if identifier in ALGORITHM_IDS:
                digests.append((ALGORITHM_IDS[identifier], bytes(digest)))
        return self._event(cursor, number, offset, index, event_type, tuple(digests))

    def _event(
        self,
        cursor: Cursor,
        number: int,
        offset: int,
        index: int,
        event_type: int,
        digests: tuple[tuple[Algorithm, bytes], ...],
    ) -> LogEvent:
        register = None if event_type == EventType.EV_NO_ACTION else register_of(self.kind, index)
        if register is None and event_type != EventType.EV_NO_ACTION:
            what = "PCR" if self.kind is LogKind.TPM else "measurement register"
            raise cursor.error(f"event {number} extends {what} index {index}, which does not exist", at=offset)
        size = cursor.u32("the size of the event data")
        return LogEvent(
            number=number,
            offset=offset,
            index=index,
            register=register,
            event_type=event_type,
            digests=digests,
            data=bytes(cursor.take(size, f"the data of event {number}")),
        )


def parse_event_log(data: bytes, *, name: str, kind: LogKind, tolerant: bool = False) -> EventLog:
    """Parse a log that consists of ``kind``'s registers; ``name`` is the file as diagnostics call it.

    E_EVENTLOG when the file is empty, too large (2 MiB), no event log at all, or breaks off or goes wrong within. With
    ``tolerant`` the last of these is kept as the log's ``fault`` instead, so that what stands before can be compared.
    """
    cursor = Cursor(data, name=name, code=Code.E_EVENTLOG)
    _refuse_other_files(data, cursor)
    layout = _read_layout(cursor, name, kind)
    cursor.offset = 0
    offsets, fault = array("Q"), None
    while cursor.remaining and not _is_filler(cursor, _MIN_EVENT2_SIZE if layout.sizes else _SHA1_EVENT_SIZE):
        start = cursor.offset
        try:
            layout.read(cursor, len(offsets))
        except DiagnosticError as error:
            if not tolerant:
                raise
            fault, cursor.offset = LogFault(offset=start, message=str(error)), start
            break
        offsets.append(start)
    end = cursor.offset
    if fault is None and not _is_filler(cursor, cursor.remaining):
        fault = LogFault(offset=end, message=f"the log ends at byte {end} but other bytes than filler follow")
        if not tolerant:
            raise cursor.error("the log ends here but other bytes than filler follow")
    return EventLog(
        name=name,
        kind=kind,
        format=LogFormat.CRYPTO_AGILE if layout.sizes else LogFormat.SHA1,
        algorithms=tuple(ALGORITHM_IDS[i] for i in layout.sizes if i in ALGORITHM_IDS) or (Algorithm.SHA1,),
        end=end,
        padding=0 if fault else len(data) - end,
        fault=fault,
        offsets=offsets,
        decode=lambda number, offset: layout.read(Cursor(data, name=name, code=Code.E_EVENTLOG, offset=offset), number),
    )


def _refuse_other_files(data: bytes, cursor: Cursor) -> None:
    """Say what is wrong with files that are often given by mistake."""
    if len(data) > MAX_LOG_SIZE:
        raise cursor.error(f"the event log has {len(data)} bytes, more than the {MAX_LOG_SIZE} that are read")
    if not data.strip(b"\0\xff"):
        raise cursor.error("the event log is empty", fix=_FIX_FILE)
    if data[:4] == b"CCEL":
        raise cursor.error("this is the CCEL table, which only says where the log is", fix=_FIX_FILE)
    if data[:1] in b"{[" and data[:64].isascii():
        raise cursor.error("this is text, not a binary event log", fix=_FIX_FILE)


def _read_layout(cursor: Cursor, name: str, kind: LogKind) -> _Layout:
    """Decide by the first event: a Spec ID 03 header starts a crypto-agile log, anything else that fits a SHA-1 log."""
    sha1 = _Layout(name=name, kind=kind, sizes={})
    try:
        first = sha1.read(cursor, 0)
    except DiagnosticError as error:
        message = f"this is not a TCG event log: {error}"
        raise DiagnosticError.of(Code.E_EVENTLOG, message, SourceSpan(file=name), fix=_FIX_FILE) from None
    if first.event_type != EventType.EV_NO_ACTION or not first.data.startswith(SPEC_ID_SIGNATURE):
        if kind is LogKind.CC:
            raise cursor.error(
                "the log of a TD starts with a 'Spec ID Event03' header, this does not", at=0, fix=_FIX_FILE
            )
        return sha1
    return _Layout(name=name, kind=kind, sizes=_read_algorithms(cursor.data, len(first.data), name))


def _read_algorithms(data: memoryview, size: int, name: str) -> dict[int, int]:
    """The algorithms of the ``TCG_EfiSpecIDEvent`` (``size`` bytes) that the first event holds, with digest sizes."""
    start = _SHA1_EVENT_SIZE
    cursor = Cursor(data, name=name, code=Code.E_EVENTLOG, offset=start, end=start + size)
    cursor.take(24, "the header's fixed part")
    count = cursor.u32("the number of algorithms")
    if not 1 <= count <= 16:
        raise cursor.error(f"the Spec ID header announces {count} algorithms")
    sizes: dict[int, int] = {}
    for _ in range(count):
        identifier, width = cursor.u16("an algorithm"), cursor.u16("a digest size")
        known = ALGORITHM_IDS.get(identifier)
        if identifier in sizes or not 1 <= width <= 64 or (known is not None and known.size != width):
            raise cursor.error(f"the Spec ID header announces algorithm 0x{identifier:04x} with {width} bytes or twice")
        sizes[identifier] = width
    vendor = cursor.u8("the vendor info's size")
    cursor.take(vendor, "the vendor info")
    return sizes


def _is_filler(cursor: Cursor, size: int) -> bool:
    """Whether the next ``size`` bytes (or as many as are left) are filler: firmware fills unused log area so."""
    window = bytes(cursor.data[cursor.offset : min(cursor.end, cursor.offset + size)])
    return (
        not window.strip(b"\0")
        or not window.strip(b"\xff")
        or (size == cursor.remaining and not window.strip(b"\0\xff"))
    )
