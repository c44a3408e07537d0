"""Calendar events of timers: what systemd would refuse of them, told before the image is baked.

The grammar is that of systemd.time(7), "Calendar Events". It is held to accept all that ``systemd-analyze calendar``
accepts, of 252 as of 262; what that refuses beyond (unknown time zones, odd years) passes here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

_DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_DAY = r"(?:Mon(?:day)?|Tue(?:sday)?|Wed(?:nesday)?|Thu(?:rsday)?|Fri(?:day)?|Sat(?:urday)?|Sun(?:day)?)"
_DAY_RANGE = rf"{_DAY}(?:(?:\.\.|-){_DAY})?"
_VALUE = r"(?=[0-9])0*+[0-9]{0,9}+"
"""Any number of zeros, and no more digits than can mean anything; possessive, so that no text takes long to refuse."""

_ITEM = rf"{_VALUE}(?:\.\.{_VALUE})?(?:/[0-9]+)?"
_CHAIN = rf"(?:\*|{_ITEM}(?:,{_ITEM})*)"
_FRACTION = rf"{_VALUE}(?:\.[0-9]+)?"
_SECOND = rf"{_FRACTION}(?:\.\.{_FRACTION})?(?:/[0-9]+(?:\.[0-9]+)?)?"
_SECONDS = rf"(?:\*|{_SECOND}(?:,{_SECOND})*)"
_EVENT = re.compile(
    rf"(?:(?P<days>{_DAY_RANGE}(?:,{_DAY_RANGE})*),?(?:\ +|$))?"
    rf"(?:(?:(?P<year>{_CHAIN})-)?(?P<month>{_CHAIN})(?P<until>[-~])(?P<day>{_CHAIN})(?:\ +|T|$))?"
    rf"(?:(?P<hour>{_CHAIN}):(?P<minute>{_CHAIN})(?::(?P<second>{_SECONDS}))?)?",
    re.IGNORECASE,
)
_WORDS = re.compile(
    "(?:minute|hour|dai|week|month|year|quarter|annual|anual|semi-?annual|bi-?annual)ly|@[^A-Za-z]*", re.IGNORECASE
)
_ZONE = re.compile(r"[A-Za-z][A-Za-z0-9_+-]*(?:/[A-Za-z0-9_+-]+)*")
_NO_ZONES = re.compile(rf"{_DAY}|am|pm", re.IGNORECASE)
_CRON = re.compile(r"(?:[0-9*/,-]+\s+){4}[0-9*/,A-Za-z-]+")
_LIMITS = {"month": (1, 12), "day": (1, 31), "hour": (0, 23), "minute": (0, 59), "second": (0, 59)}
_TWO = "write it as two, with a comma between them"
_FORM = "write [WEEKDAYS] [YEAR-MONTH-DAY] [HOUR:MINUTE[:SECOND]], such as 'Mon..Fri *-*-* 05:00', or a word: 'daily'"


def calendar_fault(text: str) -> tuple[str, str] | None:
    """What is wrong with an ``OnCalendar=``, and the fix; None where systemd would take it, or may.

    Nothing is said of text with a specifier (``%``), nor of an empty one, which takes back those before it.

    >>> calendar_fault("24:00")
    ('the hour 24 is not between 0 and 23', "write '00:00' for midnight")
    """
    if "%" in text or not text.strip():
        return None
    event, _, zone = text.strip().rpartition(" ")
    if not event or not _ZONE.fullmatch(zone) or _NO_ZONES.fullmatch(zone):
        event = text.strip()
    event = event.rstrip()
    if _WORDS.fullmatch(event):
        return None
    match = _EVENT.fullmatch(event)
    if not match:
        return _malformed(event)
    return next(_beyond(match), None)


def _malformed(event: str) -> tuple[str, str]:
    if _CRON.fullmatch(event):
        return "this is cron's form", _FORM
    if step := re.search(r"\*(/[0-9]+)", event):
        return f"the step '{step[0]}' has no start", f"write '0{step[1]}', or '1{step[1]}' of months and days"
    if event.startswith("@"):
        return "there are no words that begin with '@'", f"write '{event[1:]}'"
    return "it has none of the forms of systemd.time(7)", _FORM


def _beyond(match: re.Match[str]) -> Iterator[tuple[str, str]]:
    """Numbers that no clock or calendar shows, and ranges that end before they begin."""
    for name, (low, high) in _LIMITS.items():
        for item in (match[name] or "*").split(","):
            span, _, step = item.partition("/")
            ends = [float(end) for end in span.split("..") if end != "*"]
            stepped = step or not all(end.is_integer() for end in ends)  # by a second, where there are fractions
            for end in ends[:1] if stepped else ends:  # what no step comes to may lie beyond
                if not low <= int(end) <= high:
                    is_midnight = (name, end) == ("hour", 24)
                    fix = "write '00:00' for midnight" if is_midnight else _FORM
                    yield f"the {name} {int(end)} is not between {low} and {high}", fix
            if ends != sorted(ends):
                yield f"the range '{item}' ends before it begins", _TWO
            if step and len(ends) == 1 and match["until"] != "~" and ends[0] + float(step) >= high + 1:
                yield f"the step of '{item}' leads beyond {high}", f"write '{span}' alone, or a smaller step"
    for item in (match["days"] or "").lower().split(","):
        days = [_DAYS.index(day[:3]) for day in re.split(r"\.\.|-", item) if day]
        if days != sorted(days):
            yield f"the range '{item}' ends before it begins", f"{_TWO}: a week begins on Monday"
