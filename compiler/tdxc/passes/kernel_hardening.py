"""Well-known recommendations for hardening a kernel, and what becomes of each in a kernel from source.

The table is ``tdxc/kconfig/recommendations.tsv``. What our fragments ask for is met, and proved by the survival check
of the build; whatever else is recommended stands there with the reason why it is left out.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

from tdxc.ir import KconfigOption, ResolvedKernel

_TABLE = Path(__file__).parent.parent / "kconfig" / "recommendations.tsv"


class Recommendation(NamedTuple):
    """An option, the value that ``source`` recommends, and why it is left out where our fragments do without it.

    ``with_modules``: the reason for a kernel that loads modules, where it is another one.
    """

    option: str
    value: str
    source: str
    left_out: str = ""
    with_modules: str = ""


class Verdict(NamedTuple):
    """What becomes of a recommendation: ``met``, ``left out``, ``given up`` by the recipe, or ``not asked`` for."""

    recommendation: Recommendation
    state: str
    reason: str


@functools.cache
def recommendations() -> tuple[Recommendation, ...]:
    """All of them, sorted by option."""
    lines = _TABLE.read_text(encoding="utf-8").splitlines()
    rows = (line.split("\t") for line in lines if not line.startswith("#"))
    return tuple(sorted(Recommendation(option, value, source, *rest) for source, value, option, *rest in rows))


def hardening_verdicts(kernel: ResolvedKernel) -> tuple[Verdict, ...]:
    """What becomes of each recommendation in this kernel from source."""
    asked = {option.name: option for option in (*kernel.base_options, *kernel.options)}
    return tuple(_verdict(_for_kernel(recommendation, kernel), asked) for recommendation in recommendations())


def _for_kernel(recommendation: Recommendation, kernel: ResolvedKernel) -> Recommendation:
    """With the reason that holds for this kernel."""
    if kernel.monolithic or not recommendation.with_modules:
        return recommendation
    return recommendation._replace(left_out=recommendation.with_modules)


def _verdict(recommendation: Recommendation, asked: dict[str, KconfigOption]) -> Verdict:
    option = asked.get(recommendation.option)
    if option is not None and option.value == recommendation.value:
        return Verdict(recommendation, "met", f"{recommendation.source} recommends it")
    if recommendation.left_out and (option is None or option.cause):
        return Verdict(recommendation, "left out", recommendation.left_out)
    if option is not None:
        return Verdict(recommendation, "given up", f"{option.cause or 'the recipe'} sets it to {option.value}")
    return Verdict(recommendation, "not asked", "nothing asks for it, so the kernel's own default holds")


def summary(verdicts: Iterable[Verdict]) -> str:
    """How many there are of each state, as a phrase."""
    counts: dict[str, int] = {}
    for verdict in verdicts:
        counts[verdict.state] = counts.get(verdict.state, 0) + 1
    return ", ".join(f"{count} {state}" for state, count in sorted(counts.items()))
