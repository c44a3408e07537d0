"""What an event log is, whichever of its formats it had on disk."""

from __future__ import annotations

import enum
from array import array
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import overload

import attrs

from tdxc_runtime.measure.events import Algorithm, EventType, Register, RegisterKind, event_type_name


class LogKind(enum.StrEnum):
    """Whose registers a log speaks of: a confidential VM's (CCEL: MRTD and RTMRs) or a TPM's (PCRs)."""

    CC = "cc"
    TPM = "tpm"


class LogFormat(enum.StrEnum):
    """The two layouts: ``TCG_PCR_EVENT2`` with several digests, and the older ``TCG_PCR_EVENT`` with one of SHA-1."""

    CRYPTO_AGILE = "crypto-agile"
    SHA1 = "sha1"


# TPM_ALG_ID, TCG Algorithm Registry 1.34, table 3.
ALGORITHM_IDS = {0x0004: Algorithm.SHA1, 0x000B: Algorithm.SHA256, 0x000C: Algorithm.SHA384, 0x000D: Algorithm.SHA512}

# Index 1 of a CC log is RTMR0: UEFI 2.10 section 38.4.1, table 38.3 (TDX); 0 is MRTD, which nothing extends.
_CC_FIRST_RTMR = 1


def register_of(kind: LogKind, index: int) -> Register | None:
    """The register that an index of a log means, or ``None`` when that kind of machine has no such register."""
    if kind is LogKind.TPM:
        return Register.pcr(index) if 0 <= index < 24 else None
    return Register.rtmr(index - _CC_FIRST_RTMR) if _CC_FIRST_RTMR <= index <= 4 else None


def index_of(register: Register) -> int:
    """The index under which a log speaks of a register: a PCR's own, and an RTMR's plus one."""
    return register.index + (_CC_FIRST_RTMR if register.kind is RegisterKind.RTMR else 0)


@attrs.frozen(kw_only=True)
class LogEvent:
    """One event of a log.

    ``number`` counts from the start of the file (the Spec ID header is event 0, as in ``tpm2_eventlog``), ``offset`` is
    where it starts in the file. ``register`` is ``None`` for an EV_NO_ACTION event, which extends nothing. ``data`` is
    what the log says about the event, often not what the digest is taken over.
    """

    number: int
    offset: int
    index: int
    register: Register | None
    event_type: int
    digests: tuple[tuple[Algorithm, bytes], ...]
    data: bytes

    @property
    def type_name(self) -> str:
        """The TCG name of the type, or its number."""
        return event_type_name(self.event_type)

    @property
    def is_extended(self) -> bool:
        """Whether the event was extended into a register."""
        return self.event_type != EventType.EV_NO_ACTION

    def digest(self, algorithm: Algorithm) -> bytes | None:
        """The digest in one algorithm, or ``None`` when the log does not hold it."""
        for known, digest in self.digests:
            if known is algorithm:
                return digest
        return None


@attrs.frozen(kw_only=True)
class LogFault:
    """Where and why a log stops making sense; the events before it were read."""

    offset: int
    message: str


@attrs.frozen(kw_only=True, eq=False)
class EventLog(Sequence[LogEvent]):
    """A parsed log: a sequence of :class:`LogEvent` that are decoded when they are looked at.

    ``algorithms`` are those whose digests every event has, in the file's order; ``end`` is the offset behind the last
    event; ``padding`` counts the filler bytes (0x00 or 0xff) behind it; ``fault`` is set when something else follows.
    """

    name: str
    kind: LogKind
    format: LogFormat
    algorithms: tuple[Algorithm, ...]
    end: int
    padding: int
    fault: LogFault | None
    offsets: array[int] = attrs.field(repr=False)
    decode: Callable[[int, int], LogEvent] = attrs.field(repr=False)

    def __len__(self) -> int:
        return len(self.offsets)

    @overload
    def __getitem__(self, index: int) -> LogEvent: ...
    @overload
    def __getitem__(self, index: slice) -> list[LogEvent]: ...
    def __getitem__(self, index: int | slice) -> LogEvent | list[LogEvent]:
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        position = range(len(self.offsets))[index]
        return self.decode(position, self.offsets[position])

    def __iter__(self) -> Iterator[LogEvent]:
        for number, offset in enumerate(self.offsets):
            yield self.decode(number, offset)

    def of(self, register: Register) -> Iterator[LogEvent]:
        """The events that were extended into ``register``, in order."""
        return (event for event in self if event.is_extended and event.register == register)

    @property
    def registers(self) -> tuple[Register, ...]:
        """Every register that the log extends, sorted."""
        return tuple(sorted({e.register for e in self if e.is_extended and e.register is not None}))


def by_register(events: Iterable[LogEvent]) -> dict[Register, list[LogEvent]]:
    """The events that were extended, by register, each list in order."""
    found: dict[Register, list[LogEvent]] = {}
    for event in events:
        if event.is_extended and event.register is not None:
            found.setdefault(event.register, []).append(event)
    return found
