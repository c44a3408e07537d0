"""Line up what was predicted for a register with what a log holds, and say where they differ.

Two events are the same when their digests are. Between the points where the lists agree, events are paired by what
they are about (an image with an image, a section with the same section), so that a changed event shows as one
difference with two sides and an inserted one as a difference with a single side.
"""

from __future__ import annotations

import difflib
import enum
from collections.abc import Hashable, Sequence
from typing import TypeAlias

import attrs

from tdxc_runtime.measure.events import RTMR2, Algorithm, EventType, PredictedEvent, Register
from tdxc_runtime.measure.logs.data import Text, VariableData, parse_event_data
from tdxc_runtime.measure.logs.describe import TAG_INITRD, TAG_LOAD_OPTIONS
from tdxc_runtime.measure.logs.model import LogEvent

# Beyond this many differing events a closer look costs quadratic time and tells nobody anything.
_MAX_ALIGNED = 400


class Subject(enum.StrEnum):
    """What an event is about, as far as a cause can be told from it."""

    SECTION = "section"
    LOAD_OPTIONS = "load options"
    INITRD = "initrd"
    IMAGE = "image"
    PARAMETER = "parameter"
    MEMORY = "memory layout"
    FIRMWARE = "firmware"
    PLATFORM = "platform configuration"
    VARIABLE = "variable"
    BOOT_VARIABLE = "boot variable"
    PARTITIONS = "partition table"
    ACTION = "boot step"
    SEPARATOR = "separator"
    OTHER = "event"


_BY_TYPE: dict[int, Subject] = {
    EventType.EV_EFI_BOOT_SERVICES_APPLICATION: Subject.IMAGE,
    EventType.EV_EFI_HANDOFF_TABLES2: Subject.MEMORY,
    EventType.EV_EFI_HANDOFF_TABLES: Subject.PLATFORM,
    EventType.EV_PLATFORM_CONFIG_FLAGS: Subject.PLATFORM,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB: Subject.FIRMWARE,
    EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2: Subject.FIRMWARE,
    EventType.EV_S_CRTM_VERSION: Subject.FIRMWARE,
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG: Subject.VARIABLE,
    EventType.EV_EFI_VARIABLE_AUTHORITY: Subject.VARIABLE,
    EventType.EV_EFI_VARIABLE_BOOT: Subject.BOOT_VARIABLE,
    EventType.EV_EFI_VARIABLE_BOOT2: Subject.BOOT_VARIABLE,
    EventType.EV_EFI_GPT_EVENT: Subject.PARTITIONS,
    EventType.EV_EFI_GPT_EVENT2: Subject.PARTITIONS,
    EventType.EV_EFI_ACTION: Subject.ACTION,
    EventType.EV_SEPARATOR: Subject.SEPARATOR,
}

Topic: TypeAlias = tuple[Subject, str]


def topic_of_logged(event: LogEvent) -> Topic:
    """What a logged event is about: the subject, and a name within it (a section, a variable)."""
    data = parse_event_data(event.event_type, event.data)
    if event.event_type == EventType.EV_EVENT_TAG and len(event.data) >= 4:
        tags = {TAG_LOAD_OPTIONS: Subject.LOAD_OPTIONS, TAG_INITRD: Subject.INITRD}
        return tags.get(int.from_bytes(event.data[:4], "little"), Subject.OTHER), ""
    if event.event_type == EventType.EV_IPL:
        if isinstance(data, Text) and data.text.startswith("."):
            return Subject.SECTION, data.text
        return Subject.PARAMETER, ""
    subject = _BY_TYPE.get(event.event_type, Subject.OTHER)
    name = data.name if isinstance(data, VariableData) and subject is Subject.VARIABLE else ""
    return subject, name


def topic_of_predicted(event: PredictedEvent) -> Topic:
    """The same for a predicted event."""
    if event.event_type == EventType.EV_EVENT_TAG and event.origin.section == ".profile":
        return Subject.OTHER, ""
    if event.event_type == EventType.EV_EVENT_TAG and event.register in {RTMR2, Register.pcr(9)}:
        is_initrd = event.origin.section in {".initrd", "initrd"} or "initrd" in event.description
        return (Subject.INITRD if is_initrd and event.data is None else Subject.LOAD_OPTIONS), ""
    if event.event_type == EventType.EV_IPL:
        section = event.origin.section
        return (Subject.SECTION, section) if section.startswith(".") else (Subject.PARAMETER, "")
    subject = _BY_TYPE.get(event.event_type, Subject.OTHER)
    name = ""
    if subject is Subject.VARIABLE and event.data is not None:
        data = parse_event_data(event.event_type, event.data)
        name = data.name if isinstance(data, VariableData) else ""
    return subject, name


@attrs.frozen(kw_only=True)
class Difference:
    """One place where prediction and log differ; ``position`` counts the register's events from 0.

    ``expected`` is ``None`` for an event too many, ``found`` for one that is missing; ``at_end`` says that it is
    missing behind the register's last logged event.
    """

    register: Register
    position: int
    expected: PredictedEvent | None
    found: LogEvent | None
    at_end: bool = False

    @property
    def topic(self) -> Topic:
        """What the difference is about; the prediction knows better, where it has a side."""
        if self.expected is not None:
            topic = topic_of_predicted(self.expected)
            if topic[0] is not Subject.OTHER or self.found is None:
                return topic
        return topic_of_logged(self.found) if self.found is not None else (Subject.OTHER, "")


def differences(
    expected: Sequence[PredictedEvent], found: Sequence[LogEvent], register: Register, algorithm: Algorithm
) -> list[Difference]:
    """Every difference between two lists of one register's events, in order."""
    wanted = [event.digest(algorithm) for event in expected]
    logged = [event.digest(algorithm) for event in found]
    start = _common(wanted, logged)
    end = _common(wanted[start:][::-1], logged[start:][::-1])
    middle = (wanted[start : len(wanted) - end], logged[start : len(logged) - end])
    result: list[Difference] = []
    for tag, i1, i2, j1, j2 in _opcodes(*middle):
        if tag != "equal":
            block = (expected[start + i1 : start + i2], found[start + j1 : start + j2])
            result.extend(_pair(*block, register=register, position=start + j1))
    return [attrs.evolve(d, at_end=d.found is None and d.position == len(found)) for d in result]


def _common(left: Sequence[object], right: Sequence[object]) -> int:
    """How many items from the start are equal."""
    count = 0
    for a, b in zip(left, right, strict=False):
        if a != b:
            break
        count += 1
    return count


def _opcodes(left: Sequence[Hashable], right: Sequence[Hashable]) -> list[tuple[str, int, int, int, int]]:
    """The edit script between two lists; of long ones just one replacement."""
    if len(left) + len(right) > _MAX_ALIGNED:
        return [("replace", 0, len(left), 0, len(right))]
    return list(difflib.SequenceMatcher(None, left, right, autojunk=False).get_opcodes())


def _pair(
    expected: Sequence[PredictedEvent], found: Sequence[LogEvent], *, register: Register, position: int
) -> list[Difference]:
    """Pair the events of a block that differs: those about the same thing, in order."""
    wanted, logged = [topic_of_predicted(e) for e in expected], [topic_of_logged(e) for e in found]
    result: list[Difference] = []
    for tag, i1, i2, j1, j2 in _opcodes(wanted, logged):
        width = i2 - i1 if tag == "equal" else 0
        for offset in range(width):
            sides = (expected[i1 + offset], found[j1 + offset])
            result.append(_difference(register, position + j1 + offset, *sides))
        if tag != "equal":
            result.extend(_difference(register, position + j1, event, None) for event in expected[i1:i2])
            result.extend(_difference(register, position + j, None, found[j]) for j in range(j1, j2))
    return result


def _difference(
    register: Register, position: int, expected: PredictedEvent | None, found: LogEvent | None
) -> Difference:
    return Difference(register=register, position=position, expected=expected, found=found)


def text_of(event: LogEvent) -> str:
    """The text that an event carries as its data, or an empty string."""
    data = parse_event_data(event.event_type, event.data)
    return data.text if isinstance(data, Text) else ""
