"""No calendar event that systemd takes is refused, and what people write by mistake is told with what they meant."""

from __future__ import annotations

import random
import re
import subprocess
from pathlib import Path

import pytest
from support.commands import invoke
from tdxc.passes.calendar_events import calendar_fault

_DAYS = ["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun", "Monday", "tuesday", "WEDNESDAY", "Thursday", "Saturday"]
_WORDS = ["minutely", "Daily", "weekly", "monthly", "yearly", "quarterly", "bi-annually", "annually", "daly", "@0"]
_ZONES = ["UTC", "utc", "Europe/Berlin", "Etc/GMT+3", "Asia/Nowhere", "PM", "Mon"]


class _Writer:
    """Writes calendar events, right ones and nearly right ones, always the same for a seed."""

    def __init__(self, seed: int) -> None:
        self._dice = random.Random(seed)

    def event(self) -> str:
        """One event: its parts in order, and now and then a slip of the pen."""
        parts = [",".join(self._days() for _ in range(self._dice.choice([1, 1, 2])))] if self._once_in(3) else []
        if self._once_in(2):
            year = [] if self._once_in(2) else [self._chain(1970, 2199)]
            parts.append("-".join([*year, self._chain(1, 12)]) + self._dice.choice("---~") + self._chain(1, 31))
        if not parts or not self._once_in(3):
            second = [self._chain(0, 59, fraction=True)] if self._once_in(2) else []
            parts.append(":".join([self._chain(0, 23), self._chain(0, 59), *second]))
        text = self._dice.choice([" "] * 9 + ["  ", "T"]).join(parts)
        text = self._dice.choice(_WORDS) if self._once_in(12) else text
        text += f" {self._dice.choice(_ZONES)}" if self._once_in(6) else ""
        return self._slip(text).strip() if self._once_in(4) else text

    def _once_in(self, count: int) -> bool:
        return self._dice.randrange(count) == 0

    def _chain(self, low: int, high: int, *, fraction: bool = False) -> str:
        if self._once_in(3):
            return "*"
        return ",".join(self._item(low, high, fraction=fraction) for _ in range(self._dice.choice([1, 1, 1, 2])))

    def _item(self, low: int, high: int, *, fraction: bool) -> str:
        text = self._value(low, high)
        text += self._dice.choice([".5", ".000001", "."]) if fraction and self._once_in(4) else ""
        text += f"{self._dice.choice(['..', '..', '..', '-'])}{self._value(low, high)}" if self._once_in(4) else ""
        return text + (f"/{self._dice.choice(['1', '2', '15', '0', '70', '0.5'])}" if self._once_in(4) else "")

    def _value(self, low: int, high: int) -> str:
        value = self._dice.choice([0, high + 1]) if self._once_in(15) else self._dice.randint(low, high)
        return f"{value:02d}" if self._once_in(2) else str(value)

    def _days(self) -> str:
        day = self._dice.choice(_DAYS)
        return day if self._once_in(2) else day + self._dice.choice(["..", "-"]) + self._dice.choice(_DAYS)

    def _slip(self, text: str) -> str:
        place, key = self._dice.randrange(len(text)), self._dice.choice("0123456789*/,.-~: TM@+x")
        return self._dice.choice([text[:place], text[:place] + key]) + text[place + self._dice.randrange(2) :]


def _refused(events: list[str]) -> set[str]:
    """Those of some events that this machine's systemd does not take."""
    found: set[str] = set()
    for start in range(0, len(events), 500):
        argv = ["systemd-analyze", "calendar", "--iterations=0", "--", *events[start : start + 500]]
        ran = subprocess.run(argv, capture_output=True, text=True, timeout=60, check=False, env={"LC_ALL": "C"})
        found.update(re.findall(r"(?m)^Failed to parse calendar (?:specification|expression) '(.*)': ", ran.stderr))
        assert all(line.startswith(("Failed to parse", "Hint: ")) for line in ran.stderr.splitlines()), ran.stderr
    return found


def test_nothing_that_systemd_takes_is_refused() -> None:
    writer = _Writer(257)
    events = [*dict.fromkeys(writer.event() for _ in range(6000))]
    refused = _refused(events)
    taken = [event for event in events if event not in refused]
    assert len(taken) > 1000
    assert [(event, calendar_fault(event)) for event in taken if calendar_fault(event)] == []
    missed = [event for event in refused if not calendar_fault(event)]
    assert len(missed) < len(refused) / 4, missed[:20]  # time zones that do not exist, for the most part


MISTAKES = [
    ("*/5 * * * *", "this is cron's form", "such as 'Mon..Fri *-*-* 05:00'"),
    ("0 5 * * Mon", "this is cron's form", "such as 'Mon..Fri *-*-* 05:00'"),
    ("*:*/10", "the step '*/10' has no start", "write '0/10'"),
    ("@daily", "no words that begin with '@'", "write 'daily'"),
    ("24:00", "the hour 24 is not between 0 and 23", "write '00:00' for midnight"),
    ("*-13-01", "the month 13 is not between 1 and 12", "write [WEEKDAYS]"),
    ("*-*-0", "the day 0 is not between 1 and 31", "write [WEEKDAYS]"),
    ("05:60", "the minute 60 is not between 0 and 59", "write [WEEKDAYS]"),
    ("Fri..Mon 10:00", "the range 'fri..mon' ends before it begins", "a week begins on Monday"),
    ("22..5:00", "the range '22..5' ends before it begins", "with a comma between them"),
    ("*:0/60", "the step of '0/60' leads beyond 59", "write '0' alone"),
    ("Mondey 10:00", "none of the forms", "write [WEEKDAYS]"),
    ("10:00 Mon", "none of the forms", "write [WEEKDAYS]"),
    ("10:00 PM", "none of the forms", "write [WEEKDAYS]"),
    ("5min", "none of the forms", "or a word: 'daily'"),
    ("fortnightly", "none of the forms", "or a word: 'daily'"),
    ("10", "none of the forms", "write [WEEKDAYS]"),
    ("9" * 400 + ":00", "none of the forms", "write [WEEKDAYS]"),
]


@pytest.mark.parametrize(("event", "cause", "fix"), MISTAKES)
def test_mistakes_are_told_with_what_was_meant(event: str, cause: str, fix: str) -> None:
    assert _refused([event]) == {event}
    found = calendar_fault(event)
    assert found is not None
    assert cause in found[0]
    assert fix in found[1]


@pytest.mark.parametrize("event", ["", " ", "%i", "*-*-%I", " daily ", "10:00 Mars/Crater"])
def test_what_only_the_machine_knows_is_left_to_it(event: str) -> None:
    assert calendar_fault(event) is None


HEAD = 'from tdx import Image\nimg = Image("n", base="debian/trixie")\nimg.service("a", exec="/a")\n'


@pytest.mark.parametrize(
    "text",
    [
        'img.timer("a", on_calendar=["daily", "25:00"])',
        'img.unit("a.timer", {"Timer": {"OnCalendar": "25:00"}})',
        'img.drop_in("a.timer", {"Timer": {"OnCalendar": ["", "25:00"]}})',
    ],
)
def test_it_is_told_at_its_line(tmp_path: Path, text: str) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text(f"{HEAD}{text}\n")
    [fault] = invoke("check", recipe, "--format", "json").data()["diagnostics"]
    assert (fault["code"], fault["line"], fault["column"]) == ("E_SYNTAX", 4, 1)
    assert fault["message"].startswith("'a.timer': systemd refuses the calendar event '25:00': the hour 25 is not")
    recipe.write_text(f"{HEAD}{text.replace('25', '05')}\n")
    assert invoke("check", recipe, "--strict").status == 0


@pytest.mark.parametrize("text", ["1," * 20000 + "x", "0" * 50000 + "x", "1:" + "00000," * 9000, "a/" * 9000 + "!"])
def test_long_text_is_refused_at_once(text: str) -> None:
    assert calendar_fault(text) is not None
