"""Policy as data, and which of two rules is the stricter one; evaluation is tdxc.policy."""

from __future__ import annotations

import enum
from typing import Any

from tdxc import records
from tdxc.diagnostics import SourceSpan
from tdxc.ir.node import Node


class MutableRefPolicy(enum.StrEnum):
    """What to do about references that can change under the same name (branches, unpinned mirrors)."""

    ALLOW = "allow"
    WARN = "warn"
    ERROR = "error"


class NetworkMode(enum.StrEnum):
    """Whether a bake may use the network."""

    ONLINE = "online"
    OFFLINE = "offline"


@records.frozen(kw_only=True)
class Policy(Node):
    """Rules that a recipe sets for its own bakes; None where this policy does not speak of one.

    ``rule_spans`` are the places of rules that stem from another policy than this one.
    """

    require_frozen_lock: bool | None = None
    mutable_ref_policy: MutableRefPolicy | None = None
    require_integrity: bool | None = None
    network_mode: NetworkMode | None = None
    production: bool | None = None
    rule_spans: tuple[tuple[str, SourceSpan], ...] = records.field(default=(), eq=False)

    def span_of(self, rule: str) -> SourceSpan:
        """Where a rule is set."""
        return dict(self.rule_spans).get(rule, self.span)


POLICY_RULES: dict[str, tuple[Any, ...]] = {
    "require_frozen_lock": (False, True),
    "mutable_ref_policy": (MutableRefPolicy.ALLOW, MutableRefPolicy.WARN, MutableRefPolicy.ERROR),
    "require_integrity": (False, True),
    "network_mode": (NetworkMode.ONLINE, NetworkMode.OFFLINE),
    "production": (False, True),
}
"""Every rule with its values, the loosest first."""


def is_looser(rule: str, than: Policy, other: Policy) -> bool:
    """Whether ``other`` sets a rule to something looser than ``than`` does."""
    before, after = getattr(than, rule), getattr(other, rule)
    values = POLICY_RULES[rule]
    return before is not None and after is not None and values.index(after) < values.index(before)


def stricter(below: Policy, above: Policy) -> Policy:
    """Both policies in one: of each rule the stricter value, with the place that set it."""
    kept = {rule for rule in POLICY_RULES if getattr(above, rule) is None or is_looser(rule, below, above)}
    return _with_rules_of(below, above, kept)


def laid_over(below: Policy, above: Policy) -> Policy:
    """What ``above`` says, and of what it does not speak of what ``below`` says."""
    return _with_rules_of(below, above, {rule for rule in POLICY_RULES if getattr(above, rule) is None})


def _with_rules_of(below: Policy, above: Policy, kept: set[str]) -> Policy:
    values: dict[str, Any] = {rule: getattr(below, rule) for rule in kept}
    spans = tuple((rule, (below if rule in kept else above).span_of(rule)) for rule in POLICY_RULES)
    return records.evolve(above, rule_spans=spans, **values)
