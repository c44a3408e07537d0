"""Boot steps: their order, their names, the units that wait for them, and what is refused."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.images import at, image, run, unit, unit_of
from tdxc import records
from tdxc.diagnostics import Code
from tdxc.ir import BootStep, Debloat, GuestKey
from tdxc.passes.init_priority import RUNTIME_INIT, InitPriority


def step(name: str, priority: int = 50, *after: str, line: int = 2) -> BootStep:
    return BootStep(span=at(line), name=name, script="true", priority=priority, after=after)


def names(*steps: BootStep) -> list[str]:
    after, found = run(InitPriority(), image(boot_steps=steps))
    assert not found
    return [ordered.file_name for ordered in after.ordered_steps]


def test_priority_orders_and_ties_keep_recipe_order() -> None:
    assert names(step("b", 20), step("a", 10), step("z"), step("c")) == [
        "0010-00-a", "0020-00-b", "0050-00-z", "0050-01-c",
    ]  # fmt: skip


def test_after_raises_a_step_behind_what_it_names() -> None:
    assert names(step("late", 5, "disks"), step("disks", 20), step("more", 30)) == [
        "0020-00-disks", "0020-01-late", "0030-00-more",
    ]  # fmt: skip


def test_after_reorders_equal_priorities() -> None:
    assert names(step("a", 50, "c"), step("b"), step("c")) == ["0050-00-b", "0050-01-c", "0050-02-a"]


step_lists = st.lists(
    st.tuples(st.integers(0, 9999), st.lists(st.integers(0, 11), max_size=3)), min_size=1, max_size=12
).map(
    lambda rows: [
        step(f"s{i}", priority, *sorted({f"s{j}" for j in after if j < i})) for i, (priority, after) in enumerate(rows)
    ]
)


@given(steps=step_lists, extra=step_lists)
def test_steps_of_a_profile_rename_no_step_of_the_image(steps: list[BootStep], extra: list[BootStep]) -> None:
    profile = [BootStep(name=f"p-{s.name}", script="x", priority=s.priority, after=("s0",)) for s in extra]
    base = names(*steps)
    both = names(*steps, *profile)
    assert [name for name in both if name in base] == base
    assert both == sorted(both)


@given(steps=step_lists)
def test_file_names_sort_into_an_order_that_respects_after(steps: list[BootStep]) -> None:
    after, _ = run(InitPriority(), image(boot_steps=tuple(steps)))
    places = {s.name: s.file_name for s in after.ordered_steps}
    assert len(places) == len(steps)
    assert all(places[name] < places[s.name] for s in steps for name in s.after)


def test_a_cycle_is_printed_with_its_lines() -> None:
    _, found = run(InitPriority(), image(boot_steps=(step("a", 1, "b", line=3), step("b", 2, "a", line=4), step("c"))))
    (cycle,) = found
    assert cycle.code is Code.E_CYCLE
    assert "a -> b -> a" in cycle.message
    assert [(note.message, note.span.line) for note in cycle.notes] == [
        ("'a' comes after 'b'", 3),
        ("'b' comes after 'a'", 4),
    ]


@pytest.mark.parametrize(
    ("steps", "code", "text"),
    [
        ((step("a"), step("a", line=9)), Code.E_CONFLICT, "two boot steps are named 'a'"),
        ((step("a", 50, "disk"), step("disks")), Code.E_REFERENCE, "comes after 'disk'"),
        ((step("a", 10000),), Code.E_VALUE, "between 0 and 9999"),
        ((step("a/b"),), Code.E_VALUE, "letters, digits"),
        ((step("a", 50, "a"),), Code.E_CYCLE, "a -> a"),
        (tuple(step(f"s{i}") for i in range(101)), Code.E_LIMIT, "more than 100"),
    ],
)
def test_refusals(steps: tuple[BootStep, ...], code: Code, text: str) -> None:
    _, found = run(InitPriority(), image(boot_steps=steps))
    assert [d.code for d in found] == [code]
    assert text in found[0].message
    assert found[0].span.line


def test_without_steps_nothing_changes() -> None:
    before = image(units=(unit("app.service"),))
    after, found = run(InitPriority(), before)
    assert after == before
    assert not found


def test_services_wait_unless_they_are_part_of_early_boot() -> None:
    units = (
        unit("app.service"),
        unit("disk.service", early=True),
        unit("early.service", DefaultDependencies="no"),
        unit("has.service", After=RUNTIME_INIT),
        unit("net.service", Before="network-pre.target"),
        unit("sock.socket"),
        unit("sys.service", wanted_by=("sysinit.target",)),
    )
    after, _ = run(InitPriority(), image(units=units, boot_steps=(step("a"),)))
    waiting = {u.name: (u.values("Unit", "Requires"), u.values("Unit", "After")) for u in after.units}
    assert waiting.pop(RUNTIME_INIT) == ((), ("network.target network-online.target",))
    both = ((RUNTIME_INIT,), (RUNTIME_INIT,))
    assert waiting == {
        "app.service": both,
        "has.service": both,
        "disk.service": ((), ()),
        "early.service": ((), ()),
        "net.service": ((), ()),
        "sock.socket": ((), ()),
        "sys.service": ((), ()),
    }
    assert [u.name for u in after.units] == sorted(u.name for u in after.units)


def test_injected_directives_say_why() -> None:
    after, _ = run(InitPriority(), image(units=(unit("app.service"),), boot_steps=(step("a", line=7),)))
    directives = [d for s in unit_of(after, "app.service").sections for d in s.directives if d.value == RUNTIME_INIT]
    assert {(d.cause, d.span.line) for d in directives} == {("init-priority: services wait for the boot steps", 7)}


def test_order_of_declaration_alone_decides_ties() -> None:
    for permutation in itertools.permutations(["x", "y", "z"]):
        assert names(*(step(name) for name in permutation)) == [f"0050-0{i}-{n}" for i, n in enumerate(permutation)]


SEALED = GuestKey(span=at(3), name="disk", strategy="tpm", pcrs=(4, 11))
MARKS = "systemd-pcrphase.service"


@pytest.mark.parametrize(
    ("keys", "debloat", "before"),
    [
        ((SEALED,), {"enabled": False}, (MARKS,)),
        ((SEALED,), {"keep_units": (MARKS,)}, (MARKS,)),
        ((SEALED,), {"keep_units": ("systemd-pcr*.service",)}, (MARKS,)),
        ((SEALED,), {}, ()),
        ((SEALED,), {"enabled": True, "keep_units": ("systemd-pcrphase-sysinit.service",)}, ()),
        ((records.evolve(SEALED, pcrs=(4,)),), {"enabled": False}, ()),
        ((GuestKey(span=at(3), name="disk", strategy="random"),), {"enabled": False}, ()),
        ((), {"enabled": False}, ()),
    ],
)
def test_a_key_is_sealed_before_systemd_marks_the_ready_phase_where_the_image_keeps_that_unit(
    keys: tuple[GuestKey, ...], debloat: dict[str, Any], before: tuple[str, ...]
) -> None:
    made = image(boot_steps=(step("key"),), guest_keys=keys, authored_debloat=Debloat(span=at(4), **debloat))
    after, found = run(InitPriority(), made)
    assert not found
    assert unit_of(after, RUNTIME_INIT).values("Unit", "Before") == before
