"""Ids depend on names, not on what else an image holds."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st
from support.authored import at, authored, run
from tdxc.ir import AuthoredImage, Layer, User
from tdxc.passes.assign_ids import AssignIds

names = st.lists(st.from_regex(r"[a-z][a-z0-9]{0,5}", fullmatch=True).map(lambda n: f"x{n}"), unique=True, max_size=12)


def layer(listed: list[str]) -> Layer:
    return Layer(span=at(1), users=tuple(User(span=at(2), name=name) for name in listed))


def uids(image: AuthoredImage) -> dict[str, int | None]:
    after, found = run(AssignIds(), image)
    assert found == ()
    return {user.name: user.uid for user in after.layer.users}


@given(names, names, names)
def test_adding_a_profile_changes_no_id(base: list[str], first: list[str], second: list[str]) -> None:
    image = authored(users=layer(base).users, profiles={"a": layer(first)})
    wider = authored(users=layer(base).users, profiles={"a": layer(first), "b": layer(second)})
    before, after = run(AssignIds(), image)[0], run(AssignIds(), wider)[0]
    assert before.layer == after.layer
    assert before.profiles[0].layer == after.profiles[0].layer


@given(names.flatmap(lambda listed: st.tuples(st.just(listed), st.permutations(listed))))
def test_the_order_of_declarations_has_no_meaning(orders: tuple[list[str], list[str]]) -> None:
    first, second = orders
    assert uids(authored(users=layer(first).users)) == uids(authored(users=layer(second).users))


@given(names)
def test_ids_are_unique_and_assigning_again_keeps_them(listed: list[str]) -> None:
    once, _ = run(AssignIds(), authored(users=layer(listed).users))
    numbers = [user.uid for user in once.layer.users]
    assert len(set(numbers)) == len(listed)
    twice, found = run(AssignIds(), once)
    assert (twice, found) == (once, ())
