"""Merging kernel options: what several fragments ask for, and where they contradict each other.

``m`` asks for "at least a module" when it is our own requirement, so ``y`` from elsewhere satisfies it. Between two
lines of a recipe any difference is a contradiction.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path

from tdxc import records
from tdxc.grammar.kconfig import canonical_value, parse_kconfig
from tdxc.ir import KconfigOption

FRAGMENT_FOLDER = Path(__file__).parent.parent / "kconfig"
"""Our own fragments, package data beside the code."""


_STRENGTHS = {"m": 0, "y": 1, "n": 2}


@records.frozen
class Contradiction:
    """Two options of one name that cannot both hold."""

    first: KconfigOption
    second: KconfigOption


def merge_options(*groups: Iterable[KconfigOption]) -> tuple[KconfigOption, ...]:
    """All options sorted by name; of one name the strongest demand stays: ``n`` over ``y`` over ``m``, else the last.

    ``n`` is strongest because what is turned off on purpose must not come back through a later group. Merging is
    associative, and merging a result with itself changes nothing.
    """
    merged: dict[str, KconfigOption] = {}
    for group in groups:
        for option in group:
            before = merged.get(option.name)
            if before is None or _strength(option) >= _strength(before):
                value = canonical_value(option.value)
                merged[option.name] = option if value == option.value else records.evolve(option, value=value)
    return tuple(merged[name] for name in sorted(merged))


def _strength(option: KconfigOption) -> int:
    return _STRENGTHS.get(option.value, len(_STRENGTHS))


def contradictions(options: Iterable[KconfigOption]) -> tuple[Contradiction, ...]:
    """Each option that differs from the first one of its name, in order."""
    first: dict[str, KconfigOption] = {}
    found: list[Contradiction] = []
    for option in options:
        before = first.setdefault(option.name, option)
        if canonical_value(before.value) != canonical_value(option.value):
            found.append(Contradiction(first=before, second=option))
    return tuple(found)


def satisfies(asked: str, value: str) -> bool:
    """Whether an option of ``value`` fulfils a requirement: ``m`` means "at least a module"."""
    return canonical_value(asked) == canonical_value(value) or (asked == "m" and value == "y")


@functools.cache
def fragment_text(name: str) -> str:
    """The text of one of our own fragments, by its file's stem."""
    return (FRAGMENT_FOLDER / f"{name}.config").read_text(encoding="utf-8")


@functools.cache
def fragment_options(name: str) -> tuple[KconfigOption, ...]:
    """The parsed options of one of our own fragments, without spans."""
    return parse_kconfig(fragment_text(name))
