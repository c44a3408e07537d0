"""The result of looking at something: what was checked and how it came out, and what was not checked and why."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs


@attrs.frozen(kw_only=True)
class Check:
    """One thing that was checked. ``event`` is JSON data about the event concerned, where there is one."""

    name: str
    ok: bool
    detail: str
    event: Mapping[str, object] | None = None

    def to_json(self) -> dict[str, object]:
        """``name``, ``ok``, ``detail``, ``event``."""
        event = None if self.event is None else dict(self.event)
        return {"name": self.name, "ok": self.ok, "detail": self.detail, "event": event}


@attrs.frozen(kw_only=True)
class NotChecked:
    """One thing that nobody checked here, and why."""

    name: str
    reason: str

    def to_json(self) -> dict[str, str]:
        """``name`` and ``reason``."""
        return {"name": self.name, "reason": self.reason}


def all_ok(checks: Iterable[Check]) -> bool:
    """Whether every check passed."""
    return all(check.ok for check in checks)
