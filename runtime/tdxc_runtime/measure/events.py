"""The event model: what a boot measures, in which order, into which register, and why.

A prediction is an ordered list of :class:`PredictedEvent`; where reality has two outcomes the list holds an
:class:`Alternatives` instead of a silent choice. Register values come out of :func:`replay` alone, so that a value can
always be explained event by event.

Example::

    leave = PredictedEvent.of_bytes(register=RTMR1, event_type=EventType.EV_EFI_ACTION,
                                    data=b"Exit Boot Services Invocation", description="the kernel leaves the firmware")
    replay((leave,), RTMR1)  # 48 bytes

Sources: TCG PC Client Platform Firmware Profile 1.06, section 10.4.1 (event types) and 9.2 (extend); UEFI 2.10 section
38.4.1 and Intel TDX Virtual Firmware Design Guide section 8.1 (which PCR is which RTMR).
"""

from __future__ import annotations

import enum
import functools
import hashlib
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Self, TypeAlias

import attrs
from tdxc.diagnostics import UNKNOWN_SPAN, SourceSpan


class Algorithm(enum.StrEnum):
    """Hash algorithms of measurement registers, by their ``hashlib`` names."""

    SHA1 = "sha1"
    SHA256 = "sha256"
    SHA384 = "sha384"
    SHA512 = "sha512"

    @property
    def size(self) -> int:
        """Digest size in bytes."""
        return _DIGEST_SIZES[self]

    def digest(self, data: bytes | bytearray | memoryview) -> bytes:
        """Hash ``data``."""
        return hashlib.new(self.value, data, usedforsecurity=self is not Algorithm.SHA1).digest()


_DIGEST_SIZES = {Algorithm.SHA1: 20, Algorithm.SHA256: 32, Algorithm.SHA384: 48, Algorithm.SHA512: 64}


class RegisterKind(enum.StrEnum):
    """The three kinds of measurement register."""

    MRTD = "mrtd"
    RTMR = "rtmr"
    PCR = "pcr"


_REGISTER_COUNT = {RegisterKind.MRTD: 1, RegisterKind.RTMR: 4, RegisterKind.PCR: 24}
_REGISTER_NAME = re.compile(r"(mrtd)|(rtmr)([0-3])|(pcr)(0|1?[1-9]|10|2[0-3])", re.ASCII)


@attrs.frozen(order=True)
class Register:
    """One measurement register: MRTD, RTMR 0 to 3, or PCR 0 to 23. A PCR exists once per bank (hash algorithm)."""

    kind: RegisterKind
    index: int = 0

    def __attrs_post_init__(self) -> None:
        if not 0 <= self.index < _REGISTER_COUNT[self.kind]:
            raise ValueError(f"there is no {self.kind.value} {self.index}")

    @classmethod
    def rtmr(cls, index: int) -> Self:
        """RTMR ``index``, 0 to 3."""
        return cls(RegisterKind.RTMR, index)

    @classmethod
    def pcr(cls, index: int) -> Self:
        """PCR ``index``, 0 to 23."""
        return cls(RegisterKind.PCR, index)

    @classmethod
    def parse(cls, name: str) -> Self:
        """Read ``mrtd``, ``rtmr2`` or ``pcr11`` in any letter case; ``ValueError`` for anything else."""
        match = _REGISTER_NAME.fullmatch(name.lower())
        if match is None:
            raise ValueError(f"'{name}' is not a register: mrtd, rtmr0 to rtmr3, pcr0 to pcr23")
        if match[1]:
            return cls(RegisterKind.MRTD)
        return cls(RegisterKind.RTMR, int(match[3])) if match[2] else cls(RegisterKind.PCR, int(match[5]))

    @property
    def name(self) -> str:
        """``mrtd``, ``rtmr0`` or ``pcr4``: the spelling of every JSON form."""
        return self.kind.value if self.kind is RegisterKind.MRTD else f"{self.kind.value}{self.index}"

    @property
    def algorithms(self) -> tuple[Algorithm, ...]:
        """The algorithms predicted for this register: TDX has SHA-384 only, PCRs the two banks in use today."""
        return (Algorithm.SHA256, Algorithm.SHA384) if self.kind is RegisterKind.PCR else (Algorithm.SHA384,)

    @property
    def in_td(self) -> Register:
        """The register of a TD that takes the place of a PCR: 0 MRTD, 1 and 7 RTMR0, 2-6 RTMR1, 8-15 RTMR2."""
        if self.kind is not RegisterKind.PCR:
            return self
        if self.index == 0:
            return MRTD
        if self.index in {1, 7}:
            return RTMR0
        if self.index <= 6:
            return RTMR1
        if self.index <= 15:
            return RTMR2
        raise ValueError(f"{self.name} has no counterpart in a TD")

    def __str__(self) -> str:
        return self.kind.value.upper() if self.kind is RegisterKind.MRTD else f"{self.kind.value.upper()}{self.index}"


MRTD = Register(RegisterKind.MRTD)
RTMR0, RTMR1, RTMR2, RTMR3 = (Register.rtmr(index) for index in range(4))


class EventType(enum.IntEnum):
    """Event types by their TCG names (PC Client Platform Firmware Profile 1.06, tables 27 and 28)."""

    EV_PREBOOT_CERT = 0x00000000
    EV_POST_CODE = 0x00000001
    EV_UNUSED = 0x00000002
    EV_NO_ACTION = 0x00000003
    EV_SEPARATOR = 0x00000004
    EV_ACTION = 0x00000005
    EV_EVENT_TAG = 0x00000006
    EV_S_CRTM_CONTENTS = 0x00000007
    EV_S_CRTM_VERSION = 0x00000008
    EV_CPU_MICROCODE = 0x00000009
    EV_PLATFORM_CONFIG_FLAGS = 0x0000000A
    EV_TABLE_OF_DEVICES = 0x0000000B
    EV_COMPACT_HASH = 0x0000000C
    EV_IPL = 0x0000000D
    EV_IPL_PARTITION_DATA = 0x0000000E
    EV_NONHOST_CODE = 0x0000000F
    EV_NONHOST_CONFIG = 0x00000010
    EV_NONHOST_INFO = 0x00000011
    EV_OMIT_BOOT_DEVICE_EVENTS = 0x00000012
    EV_POST_CODE2 = 0x00000013
    EV_EFI_VARIABLE_DRIVER_CONFIG = 0x80000001
    EV_EFI_VARIABLE_BOOT = 0x80000002
    EV_EFI_BOOT_SERVICES_APPLICATION = 0x80000003
    EV_EFI_BOOT_SERVICES_DRIVER = 0x80000004
    EV_EFI_RUNTIME_SERVICES_DRIVER = 0x80000005
    EV_EFI_GPT_EVENT = 0x80000006
    EV_EFI_ACTION = 0x80000007
    EV_EFI_PLATFORM_FIRMWARE_BLOB = 0x80000008
    EV_EFI_HANDOFF_TABLES = 0x80000009
    EV_EFI_PLATFORM_FIRMWARE_BLOB2 = 0x8000000A
    EV_EFI_HANDOFF_TABLES2 = 0x8000000B
    EV_EFI_VARIABLE_BOOT2 = 0x8000000C
    EV_EFI_GPT_EVENT2 = 0x8000000D
    EV_EFI_HCRTM_EVENT = 0x80000010
    EV_EFI_VARIABLE_AUTHORITY = 0x800000E0
    EV_EFI_SPDM_FIRMWARE_BLOB = 0x800000E1
    EV_EFI_SPDM_FIRMWARE_CONFIG = 0x800000E2
    EV_EFI_SPDM_DEVICE_POLICY = 0x800000E3
    EV_EFI_SPDM_DEVICE_AUTHORITY = 0x800000E4


def event_type_name(value: int) -> str:
    """The TCG name of an event type, or its number in hexadecimal when it has none."""
    try:
        return EventType(value).name
    except ValueError:
        return f"0x{value:08x}"


@attrs.frozen(kw_only=True)
class Origin:
    """Where an event stems from: the recipe's line and IR node, the artifact and section, the firmware rule."""

    span: SourceSpan = UNKNOWN_SPAN
    node: str = ""
    artifact: str = ""
    section: str = ""
    rule: str = ""

    def __str__(self) -> str:
        recipe = " ".join(filter(None, (str(self.span), f"({self.node})" if self.node else "")))
        artifact = f"{self.artifact}[{self.section}]" if self.section else self.artifact
        return ", ".join(filter(None, (recipe, artifact, self.rule)))


@attrs.frozen(kw_only=True)
class PredictedEvent:
    """One measurement that a boot will make.

    ``digests`` holds one digest per algorithm, in the order of ``register.algorithms``. ``data`` is what the digest is
    taken over, where that is known and worth keeping (a command line, a separator; not a kernel). ``description`` is
    one sentence for people. ``pending`` says what is missing for the digest to be known; such an event has no digests.
    """

    register: Register
    event_type: EventType
    digests: tuple[tuple[Algorithm, bytes], ...] = ()
    data: bytes | None = None
    description: str = ""
    origin: Origin = attrs.field(factory=Origin)
    pending: str = ""

    def __attrs_post_init__(self) -> None:
        if bool(self.digests) == bool(self.pending):
            raise ValueError("an event has either digests or a reason why they are not known yet")
        for algorithm, digest in self.digests:
            if len(digest) != algorithm.size:
                raise ValueError(f"a {algorithm.value} digest has {algorithm.size} bytes, not {len(digest)}")

    @classmethod
    def of_bytes(
        cls,
        *,
        register: Register,
        event_type: EventType,
        data: bytes,
        description: str = "",
        origin: Origin | None = None,
        keep_data: bool = True,
    ) -> Self:
        """The common case: an event whose digest is the hash of ``data`` in every algorithm of the register."""
        return cls(
            register=register,
            event_type=event_type,
            digests=tuple((algorithm, _remembered_digest(algorithm, data)) for algorithm in register.algorithms),
            data=data if keep_data else None,
            description=description,
            origin=origin or Origin(),
        )

    def digest(self, algorithm: Algorithm) -> bytes | None:
        """The digest in one algorithm, or ``None`` when the event is pending or has no such digest."""
        return dict(self.digests).get(algorithm)

    def in_td(self) -> PredictedEvent:
        """The same event as a TD receives it: the RTMR in place of the PCR, the SHA-384 digest alone."""
        register = self.register.in_td
        digests = tuple(pair for pair in self.digests if pair[0] in register.algorithms)
        return attrs.evolve(self, register=register, digests=digests)


@functools.lru_cache(maxsize=128)
def _remembered_digest(algorithm: Algorithm, data: bytes) -> bytes:
    """A matrix measures the same tables and variable stores again and again."""
    return algorithm.digest(data)


@attrs.frozen(kw_only=True)
class Alternative:
    """One of the outcomes at a point of a prediction: the events that then occur (maybe none) and when it is so."""

    reason: str
    events: tuple[PredictedEvent, ...] = ()


@attrs.frozen(kw_only=True)
class Alternatives:
    """A point of a prediction where reality has more than one outcome.

    Points with one ``name`` belong together, also across registers: where the first option holds at one of them, the
    first option holds at all (a separator that is in RTMR0 is not in RTMR1). The likeliest option stands first.
    """

    name: str
    options: tuple[Alternative, ...]

    def __attrs_post_init__(self) -> None:
        if len(self.options) < 2:
            raise ValueError("alternatives are at least two")


Prediction: TypeAlias = Sequence[PredictedEvent | Alternatives]


@attrs.frozen(kw_only=True)
class Variant:
    """A prediction with every alternative decided: plain events, and the reason of each decision by its name."""

    events: tuple[PredictedEvent, ...]
    reasons: tuple[tuple[str, str], ...] = ()


def variants(prediction: Prediction, register: Register | None = None) -> tuple[Variant, ...]:
    """Every way the prediction can come out, likeliest first; with ``register``, only what concerns that register.

    Raises ``ValueError`` when points of one name have different numbers of options, or when there are more than 64
    ways: a list that long predicts nothing.
    """
    relevant = [item for item in prediction if register is None or _concerns(item, register)]
    counts: dict[str, Alternatives] = {}
    for item in relevant:
        if isinstance(item, Alternatives) and len(counts.setdefault(item.name, item).options) != len(item.options):
            raise ValueError(f"the alternatives '{item.name}' differ in the number of their options")
    total = 1
    for point in counts.values():
        total *= len(point.options)
    if total > 64:
        raise ValueError(f"{total} combinations of alternatives")
    choices = itertools.product(*(range(len(point.options)) for point in counts.values()))
    return tuple(_decide(relevant, dict(zip(counts, choice, strict=True)), counts, register) for choice in choices)


def _concerns(item: PredictedEvent | Alternatives, register: Register) -> bool:
    if isinstance(item, PredictedEvent):
        return item.register == register
    return any(event.register == register for option in item.options for event in option.events)


def _decide(
    items: Sequence[PredictedEvent | Alternatives],
    choice: Mapping[str, int],
    points: Mapping[str, Alternatives],
    register: Register | None,
) -> Variant:
    """Put the chosen option in the place of every alternative."""
    events: list[PredictedEvent] = []
    for item in items:
        events.extend((item,) if isinstance(item, PredictedEvent) else item.options[choice[item.name]].events)
    return Variant(
        events=tuple(event for event in events if register is None or event.register == register),
        reasons=tuple((name, point.options[choice[name]].reason) for name, point in points.items()),
    )


def extend(value: bytes, digest: bytes, algorithm: Algorithm) -> bytes:
    """One extend operation: ``H(value || digest)``."""
    return algorithm.digest(value + digest)


def replay(
    events: Iterable[PredictedEvent], register: Register, algorithm: Algorithm = Algorithm.SHA384
) -> bytes | None:
    """The value of ``register`` after ``events``; ``None`` when one of its events is pending or lacks the algorithm.

    Events of other registers are passed over. PCRs 17 to 22 start at all ones, everything else at zero (TCG PC Client
    Platform TPM Profile 1.05, table 6). MRTD is no chain of extends but one hash over the initial pages that the TDX
    module finalises, so it has exactly one event and its digest is the value; without that event it is ``None``.
    """
    own = [event.digest(algorithm) for event in events if event.register == register]
    if register == MRTD:
        return own[0] if len(own) == 1 else None
    ones = register.kind is RegisterKind.PCR and 17 <= register.index <= 22
    value = (b"\xff" if ones else b"\x00") * algorithm.size
    for digest in own:
        if digest is None:
            return None
        value = extend(value, digest, algorithm)
    return value
