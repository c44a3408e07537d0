"""Names of systemd's directives by section, and what is wrong with one that is not among them.

systemd ignores what it does not know with a line in its log (systemd.unit(5)), so a misspelt ``MemoryMax=`` limits
nothing. A newer systemd may know more than this list: only a name that differs from a known one in case and ``-``
alone is certainly wrong, as names are compared byte by byte and systemd has no two that are so alike.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from pathlib import Path

from tdxc.diagnostics import Code, nearest

_CLOSE = 0.8
"""Likeness of a misspelling. The names are long: at the usual 0.6 strangers look alike that share a word."""


@functools.cache
def _list() -> str:
    """The list as it is in its file: a line of sections in brackets, below it the names that exactly these take."""
    return Path(__file__).with_name("known_directives.txt").read_text(encoding="utf-8")


def sections_of(name: str) -> tuple[str, ...]:
    """The sections that take a directive; found by searching, since a recipe has few and the list is long.

    >>> sections_of("PathChanged")
    ('Path',)
    """
    place = _list().find(f"\n{name}\n")
    header = _list().rfind("[", 0, place) if place >= 0 else -1
    return tuple(_list()[header + 1 : _list().index("]", header)].split()) if header >= 0 else ()


def known_directives() -> Mapping[str, frozenset[str]]:
    """Names of directives by section, as systemd 257 knows them."""
    names = [line for line in _list().splitlines() if not line.startswith(("[", "#"))]
    found: dict[str, set[str]] = {}
    for name in names:
        for section in sections_of(name):
            found.setdefault(section, set()).add(name)
    return {section: frozenset(names) for section, names in found.items()}


def directive_fault(section: str, key: str) -> tuple[Code, str, str] | None:
    """What is wrong with a directive's name in a section: code, message and fix; None for one that systemd takes.

    >>> directive_fault("Service", "MemoryMx")
    (<Code.W_UNKNOWN_DIRECTIVE: 'W_UNKNOWN_DIRECTIVE'>, '...', "did you mean 'MemoryMax'?")
    """
    homes = sections_of(key)
    if section in homes or key.startswith("X-"):
        return None
    names = known_directives().get(section, frozenset())
    what = f"[{section}] has no {key}= that systemd 257 knows; what it does not know it ignores"
    if twin := next((name for name in names if _folded(name) == _folded(key)), ""):
        return Code.E_KEY, f"[{section}] has no {key}=, so systemd ignores it", f"did you mean '{twin}'?"
    if homes:
        return Code.W_UNKNOWN_DIRECTIVE, what, f"it belongs into [{'] or ['.join(homes)}]"
    close = nearest(key, sorted(names), cutoff=_CLOSE)
    fix = f"did you mean '{close}'?" if close else "correct it; a name that is for another program begins with 'X-'"
    return Code.W_UNKNOWN_DIRECTIVE, what, fix


def _folded(name: str) -> str:
    return name.replace("-", "").lower()
