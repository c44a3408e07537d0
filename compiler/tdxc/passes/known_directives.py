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
def known_directives() -> Mapping[str, frozenset[str]]:
    """Names of directives by section, as systemd 257 knows them."""
    found: dict[str, set[str]] = {}
    sections: list[str] = []
    for line in Path(__file__).with_name("known_directives.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            sections = line[1:-1].split()
        elif not line.startswith("#"):
            for section in sections:
                found.setdefault(section, set()).add(line)
    return {section: frozenset(names) for section, names in found.items()}


def directive_fault(section: str, key: str) -> tuple[Code, str, str] | None:
    """What is wrong with a directive's name in a section: code, message and fix; None for one that systemd takes.

    >>> directive_fault("Service", "MemoryMx")
    (<Code.W_UNKNOWN_DIRECTIVE: 'W_UNKNOWN_DIRECTIVE'>, '...', "did you mean 'MemoryMax'?")
    """
    known = known_directives()
    names = known.get(section, frozenset())
    if key in names or key.startswith("X-"):
        return None
    what = f"[{section}] has no {key}= that systemd 257 knows; what it does not know it ignores"
    if twin := next((name for name in names if _folded(name) == _folded(key)), ""):
        return Code.E_KEY, f"[{section}] has no {key}=, so systemd ignores it", f"did you mean '{twin}'?"
    if homes := [home for home, others in known.items() if key in others]:
        return Code.W_UNKNOWN_DIRECTIVE, what, f"it belongs into [{'] or ['.join(homes)}]"
    close = nearest(key, sorted(names), cutoff=_CLOSE)
    fix = f"did you mean '{close}'?" if close else "correct it; a name that is for another program begins with 'X-'"
    return Code.W_UNKNOWN_DIRECTIVE, what, fix


def _folded(name: str) -> str:
    return name.replace("-", "").lower()
