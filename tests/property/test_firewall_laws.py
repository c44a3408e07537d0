"""What must hold of any firewall, asked of the real nft."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import assume, given, settings
from hypothesis import strategies as st
from support import firewall
from support.authored import at, resolved
from support.firewall_rules import firewall_rules
from tdxc.diagnostics import DiagnosticSink
from tdxc.grammar import print_rule
from tdxc.ir import FirewallRule, FirewallRuleText, Network
from tdxc.passes.base import PassContext
from tdxc.passes.firewall_order import ordered_groups, takes_all
from tdxc.passes.lower_network import LowerNetwork

layers = st.dictionaries(
    st.sampled_from(["", "dev", "azure", "z"]), st.lists(firewall_rules(), min_size=1, max_size=12)
)


@settings(max_examples=30, deadline=None)
@given(layers)
def test_real_nft_accepts_whatever_the_grammar_accepts(given_layers: dict[str, list[FirewallRule]]) -> None:
    texts = tuple(
        FirewallRuleText(span=at(5), text=print_rule(rule), layer=layer)
        for layer, listed in given_layers.items()
        for rule in listed
    )
    assume(texts)
    image = LowerNetwork().run(
        resolved(network=Network(span=at(5), firewall_rules=texts)), PassContext(sink=DiagnosticSink())
    )
    with tempfile.TemporaryDirectory() as folder:
        done = firewall.check(firewall.write_etc(image, Path(folder)))
    assert (done.returncode, done.stderr) == (0, "")


@settings(max_examples=40)
@given(layers)
def test_grouping_loses_no_rule_and_keeps_each_layers_order(given_layers: dict[str, list[FirewallRule]]) -> None:
    groups = ordered_groups({layer: tuple(listed) for layer, listed in given_layers.items()})
    for layer, listed in given_layers.items():
        assert [rule for group in groups if group.layer == layer for rule in group.rules] == listed
    assert all(takes_all(group.rules[0]) and len(group.rules) == 1 for group in groups if group.final)


@settings(max_examples=40)
@given(layers, layers)
def test_more_layers_change_no_group_and_no_order(
    few: dict[str, list[FirewallRule]], more: dict[str, list[FirewallRule]]
) -> None:
    before = ordered_groups({layer: tuple(listed) for layer, listed in few.items()})
    after = ordered_groups({layer: tuple(listed) for layer, listed in (more | few).items()})
    assert [group for group in after if group.layer in few] == list(before)
