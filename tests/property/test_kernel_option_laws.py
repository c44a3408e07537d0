"""Laws of merging kernel options."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from tdxc.ir import KconfigOption
from tdxc.passes.kernel_options import contradictions, merge_options, satisfies

options = st.lists(
    st.builds(KconfigOption, name=st.sampled_from("ABC"), value=st.sampled_from(["y", "m", "n", "1", "0xA", '"s"']))
)


@given(options)
def test_merging_is_idempotent(group: list[KconfigOption]) -> None:
    once = merge_options(group)
    assert merge_options(once) == once
    assert merge_options(once, once) == once


@given(options, options, options)
def test_merging_is_associative(a: list[KconfigOption], b: list[KconfigOption], c: list[KconfigOption]) -> None:
    assert merge_options(merge_options(a, b), c) == merge_options(a, merge_options(b, c)) == merge_options(a, b, c)


@given(options)
def test_without_contradictions_order_has_no_meaning(group: list[KconfigOption]) -> None:
    if not contradictions(group):
        assert merge_options(reversed(group)) == merge_options(group)


@given(options)
def test_merged_options_have_no_contradictions_and_lose_no_name(group: list[KconfigOption]) -> None:
    merged = merge_options(group)
    assert contradictions(merged) == ()
    assert {o.name for o in merged} == {o.name for o in group}


@given(options)
def test_a_group_without_contradictions_is_satisfied_by_its_merge(group: list[KconfigOption]) -> None:
    if not contradictions(group):
        merged = {o.name: o.value for o in merge_options(group)}
        assert all(satisfies(o.value, merged[o.name]) for o in group)
