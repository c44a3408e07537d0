"""The differences of a boot by what they are about, and words for single ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from tdxc_runtime.measure.differences import Difference, Subject, Topic
from tdxc_runtime.measure.events import EventType, PredictedEvent
from tdxc_runtime.measure.logs.describe import describe

# Every image of ukify has these, but only newer stubs measure them.
STUB_SECTIONS = frozenset({".uname", ".sbat"})


class View:
    """The differences by what they are about."""

    def __init__(self, found: Sequence[Difference], subjects: frozenset[Subject], hints: Mapping[bytes, str]) -> None:
        self.all = found
        self.shows_sections = Subject.SECTION in subjects
        self.hints = hints
        self.by_topic: dict[Topic, list[Difference]] = {}
        for difference in found:
            self.by_topic.setdefault(difference.topic, []).append(difference)

    def about(self, subject: Subject, name: str | None = None) -> list[Difference]:
        """The differences about a subject; with a name, about that thing alone."""
        found = (d for t, ds in self.by_topic.items() for d in ds if t[0] is subject and name in {None, t[1]})
        return list(found)

    def changed(self, subject: Subject, name: str | None = None) -> Difference | None:
        """The first of them that has both sides: the thing is there and differs."""
        both = (d for d in self.about(subject, name) if d.expected is not None and d.found is not None)
        return next(both, None)

    def one_sided(self, *, added: bool) -> set[str]:
        """The sections that only the log has (``added``), or only the prediction."""
        sides = ((d.topic[1], d.expected, d.found) for d in self.about(Subject.SECTION))
        return {name for name, expected, found in sides if (expected if added else found) is None}

    @property
    def sections(self) -> set[str]:
        """The names of the sections that differ in any way."""
        return {name for subject, name in self.by_topic if subject is Subject.SECTION}


def both_sides(difference: Difference) -> str:
    """Both sides in words."""
    if difference.expected is None:
        return f"there is one event too many, {found_side(difference)}"
    if difference.found is None:
        return f"one event is missing, {name_of(difference.expected)}"
    return f"expected was {name_of(difference.expected)}, found was {found_side(difference)}"


def found_side(difference: Difference) -> str:
    """The logged side of a difference in words."""
    return describe(difference.found) if difference.found is not None else "an event"


def name_of(event: PredictedEvent) -> str:
    """What a predicted event is called."""
    return event.description or event.event_type.name


def origin_clause(difference: Difference | None) -> str:
    """Where the expected side stems from, as the end of a sentence."""
    origin = str(difference.expected.origin) if difference is not None and difference.expected is not None else ""
    return f": {origin}" if origin else ""


def expected_text(difference: Difference | None) -> str:
    """The text that a predicted event hashes, where the prediction kept it."""
    if difference is None or difference.expected is None or difference.expected.data is None:
        return ""
    data = difference.expected.data
    encoding = "utf-16-le" if difference.expected.event_type == EventType.EV_EVENT_TAG else "utf-8"
    return data.decode(encoding, "replace").rstrip("\0").strip()


def is_kernel(event: PredictedEvent | None) -> bool:
    """Whether a predicted image is a kernel of its own rather than a UKI."""
    return event is not None and (event.origin.section == ".linux" or "kernel" in event.description.lower())
