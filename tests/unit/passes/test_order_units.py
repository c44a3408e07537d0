"""Links, unknown units, cycles and the boot order; cycles are compared with what real systemd finds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import at, image, run, unit, unit_of
from support.systemd import run_inside
from tdxc import driver
from tdxc.diagnostics import Code
from tdxc.ir import Blob, BootStep, Directive, DropIn, File, Section, Symlink, Unit
from tdxc.passes.init_priority import InitPriority
from tdxc.passes.known_units import is_known, known_units
from tdxc.passes.order_units import OrderUnits, boot_order
from tdxc.passes.unit_graph import find_cycles, waits
from tdxc_emitters.systemd import render_unit


def with_install(before: Unit, **rows: str) -> Unit:
    directives = tuple(Directive(span=at(9), key=key, value=value) for key, value in rows.items())
    return attrs.evolve(before, sections=(*before.sections, Section(span=at(9), name="Install", directives=directives)))


def links(*units: Unit, **fields: object) -> dict[str, tuple[str, ...]]:
    after, found = run(OrderUnits(), image(units=units, **fields))
    assert not found, found
    return {u.name: u.wanted_by for u in after.units}


def test_enabled_units_are_pulled_in_by_the_target_that_boots() -> None:
    units = (
        unit("app.service"),
        unit("a.socket", ListenStream="1"),
        unit("a.service"),
        attrs.evolve(unit("off.service"), enabled=False),
        unit("t@.service"),
        unit("x.mount"),
    )
    assert links(*units) == {
        "a.service": (),
        "app.service": ("minimal.target",),
        "a.socket": ("sockets.target",),
        "minimal.target": (),
        "off.service": (),
        "t@.service": (),
        "x.mount": ("local-fs.target",),
    }


def test_what_a_trigger_starts_is_not_started_by_boot() -> None:
    timer = unit("backup.timer")
    socket = attrs.evolve(
        unit("s.socket"),
        sections=(Section(name="Socket", directives=(Directive(key="Service", value="other.service"),)),),
    )
    found = links(unit("backup.service"), timer, unit("other.service"), socket)
    assert found["backup.service"] == ()
    assert found["backup.timer"] == ("timers.target",)
    assert found["other.service"] == ()


@pytest.mark.parametrize("name", ["multi-user.target", "graphical.target", "default.target"])
def test_targets_that_mean_at_boot_become_the_default_target(name: str) -> None:
    assert links(unit("app.service", wanted_by=(name,)))["app.service"] == ("minimal.target",)
    found = links(unit("app.service", wanted_by=("multi-user.target",)), default_target="graphical.target")
    assert found["app.service"] == ("multi-user.target",)


def test_install_sections_become_links() -> None:
    before = with_install(unit("app.service"), WantedBy="multi-user.target", Alias="web.service")
    required = with_install(unit("req.service"), RequiredBy="sysinit.target")
    after, found = run(OrderUnits(), image(units=(before, required)))
    assert not found
    app = unit_of(after, "app.service")
    assert (app.wanted_by, app.aliases) == (("minimal.target",), ("web.service",))
    assert unit_of(after, "req.service").required_by == ("sysinit.target",)
    assert all(section.name != "Install" for u in after.units for section in u.sections)


def test_minimal_target_is_made_only_when_nobody_brings_it() -> None:
    own = unit("minimal.target", Requires="basic.target", After="basic.target")
    after, _ = run(OrderUnits(), image(units=(own,)))
    assert after.units == (own,)
    after, _ = run(OrderUnits(), image(default_target="multi-user.target"))
    assert after.units == ()
    after, _ = run(OrderUnits(), image(init="busybox", units=(unit("app.service"),)))
    assert unit_of(after, "app.service").wanted_by == ()


@pytest.mark.parametrize(
    ("target", "code", "text"),
    [("minimal", Code.E_VALUE, "not the name of a target"), ("mulit-user.target", Code.E_REFERENCE, "does not exist")],
)
def test_bad_default_targets(target: str, code: Code, text: str) -> None:
    _, found = run(OrderUnits(), image(default_target=target))
    assert [d.code for d in found] == [code]
    assert text in found[0].message


def test_unknown_units_are_named_with_the_nearest() -> None:
    app = unit("app.service", line=12, After="netwrok-online.target", Wants="my-helpr.service")
    _, found = run(OrderUnits(), image(units=(app, unit("my-helper.service"))))
    assert [(d.code, d.span.line) for d in found] == [(Code.W_UNKNOWN_UNIT, 12)] * 2
    assert [d.fix for d in found] == ["did you mean 'my-helper.service'?", "did you mean 'network-online.target'?"]


def test_units_that_are_alike_in_their_suffix_alone_are_not_suggested() -> None:
    units = (unit("a.socket", line=4), unit("b.timer", line=5), unit("c.service", line=6, After="network.service"))
    _, found = run(OrderUnits(), image(units=units))
    declare = "declare it, or install the package that brings it"
    assert [(d.span.line, d.fix) for d in found] == [(4, declare), (5, declare), (6, "did you mean 'network.target'?")]
    assert "names 'a.service' (Service=)" in found[0].message
    assert "names 'b.service' (Unit=)" in found[1].message


@pytest.mark.parametrize(
    "name",
    ["dev-vda.device", "persistent.mount", "getty@tty1.service", "nftables.service", "-.mount", "system-x.slice",
     "systemd-cryptsetup@data.service", "own@1.service", "file.service", "alias.service", "%i.service"],
)  # fmt: skip
def test_known_units_give_no_warning(name: str) -> None:
    units = (
        unit("app.service", After=name),
        unit("own@.service"),
        attrs.evolve(unit("z.service"), aliases=("alias.service",)),
    )
    files = (File(span=at(3), path="/usr/lib/systemd/system/file.service", content=Blob.of(b"")),)
    _, found = run(OrderUnits(), image(units=units, files=files))
    assert not found


def test_the_list_of_known_units_is_a_list_of_units() -> None:
    assert len(known_units()) > 500
    assert all(not name.startswith("#") and " " not in name and "." in name for name in known_units())
    assert not is_known("netwrok.service")


def test_who_comes_after_the_network_pulls_it_in() -> None:
    units = (
        unit("a.service", line=4, After="network-online.target"),
        unit("b.service", After="network-online.target", Wants="network-online.target"),
        unit("c.service", After="network.target"),
    )
    after, found = run(OrderUnits(), image(units=units))
    assert not found
    wants = {name: unit_of(after, f"{name}.service").values("Unit", "Wants") for name in "abc"}
    assert wants == {"a": ("network-online.target",), "b": ("network-online.target",), "c": ()}


def test_linked_units_and_drop_ins_are_part_of_the_order() -> None:
    folder = "/usr/lib/systemd/system"
    link = Symlink(span=at(2), path=f"{folder}/minimal.target.wants/systemd-networkd.service", target="x")
    after = Section(name="Unit", directives=(Directive(span=at(6), key="After", value="fw.service"),))
    drop_in = DropIn(span=at(6), unit="systemd-networkd.service", name="x", sections=(after,))
    firewall = unit("fw.service", DefaultDependencies="no", Before="network-pre.target shutdown.target")
    found, diagnostics = run(OrderUnits(), image(units=(firewall,), symlinks=(link,), drop_ins=(drop_in,)))
    assert not diagnostics
    rows = {row.name: row.after for row in boot_order(found)}
    assert "fw.service" in rows["systemd-networkd.service"]
    assert "shutdown.target" not in rows
    bad = unit("fw.service", DefaultDependencies="no", After="network.target")
    _, (cycle,) = run(OrderUnits(), image(units=(bad,), symlinks=(link,), drop_ins=(drop_in,)))
    assert cycle.code is Code.E_CYCLE
    assert {note.span.line for note in cycle.notes} >= {6, 10}


def test_units_that_never_start_are_reported() -> None:
    lost = unit("lost.service", line=8, wanted_by=("rescue.target",))
    chained = unit("chained.service", wanted_by=("app.service",))
    _, found = run(OrderUnits(), image(units=(lost, chained, unit("app.service"))))
    (warning,) = found
    assert warning.code is Code.W_UNKNOWN_UNIT
    assert "never starts" in warning.message
    assert "rescue.target" in warning.message
    assert warning.span.line == 8


def test_a_cycle_is_printed_with_the_lines_that_make_it() -> None:
    units = (
        unit("a.service", line=3, After="b.service"),
        unit("b.service", line=5, Before="c.service", After="c.service"),
        unit("c.service", line=7, After="a.service"),
    )
    _, (cycle, *rest) = run(OrderUnits(), image(units=units))
    assert not rest
    assert cycle.code is Code.E_CYCLE
    assert cycle.message == "units wait for each other: a.service -> b.service -> c.service -> a.service"
    assert {note.span.line for note in cycle.notes} <= {3, 5, 7}
    assert all("comes after" in note.message for note in cycle.notes)


def test_a_service_before_basic_target_waits_for_itself() -> None:
    _, found = run(OrderUnits(), image(units=(unit("app.service", line=4, Before="sysinit.target"),)))
    (cycle,) = found
    assert cycle.code is Code.E_CYCLE
    assert cycle.span.line == 4
    assert "app.service -> " in cycle.message


def test_boot_steps_stand_before_the_services_that_wait_for_them() -> None:
    steps = (BootStep(span=at(2), name="k", script="x", priority=10), BootStep(span=at(3), name="d", script="x"))
    before, _ = run(
        InitPriority(), image(boot_steps=steps, units=(unit("app.service"), unit("web.service", After="app.service")))
    )
    after, found = run(OrderUnits(), before)
    assert not found
    names = [row.name for row in boot_order(after)]
    wanted = [
        "basic.target",
        "0010-00-k",
        "0050-00-d",
        "runtime-init.service",
        "app.service",
        "web.service",
        "minimal.target",
    ]
    assert [name for name in names if name in wanted] == wanted
    rows = {row.name: row for row in boot_order(after)}
    assert rows["runtime-init.service"].after == ("0050-00-d",)
    assert rows["0050-00-d"].after == ("0010-00-k",)
    assert "runtime-init.service" in rows["app.service"].after


graphs = st.lists(
    st.tuples(st.integers(0, 5), st.integers(0, 5), st.booleans()).filter(lambda edge: edge[0] != edge[1]), max_size=9
)


def services(edges: list[tuple[int, int, bool]], prefix: str = "") -> tuple[Unit, ...]:
    found = []
    for i in range(6):
        after = " ".join(f"{prefix}u{b}.service" for a, b, forward in edges if a == i and forward)
        before = " ".join(f"{prefix}u{b}.service" for a, b, forward in edges if a == i and not forward)
        relations: dict[str, Any] = {key: value for key, value in (("After", after), ("Before", before)) if value}
        found.append(unit(f"{prefix}u{i}.service", service=(("ExecStart", "/bin/true"),), **relations))
    return tuple(found)


@given(edges=graphs)
def test_the_boot_order_respects_every_wait(edges: list[tuple[int, int, bool]]) -> None:
    after, found = run(OrderUnits(), image(units=services(edges)))
    rows = boot_order(after)
    places = {row.name: place for place, row in enumerate(rows)}
    assert bool(rows) != bool(found)
    assert all(places[name] < places[row.name] for row in rows for name in row.after)
    levels = {row.name: row.level for row in rows}
    assert all(levels[name] < row.level for row in rows for name in row.after)


@pytest.mark.integration
@given(cases=st.lists(graphs, min_size=25, max_size=25))
@settings(deadline=None, max_examples=2)
def test_real_systemd_finds_the_same_cycles(cases: list[list[tuple[int, int, bool]]]) -> None:
    """All graphs of an example go into one transaction; systemd names a unit of each cycle that it breaks."""
    units = [one for number, edges in enumerate(cases) for one in services(edges, f"g{number}-")]
    files = {u.name: render_unit(u, "t") for u in units}
    files["all.target"] = f"[Unit]\nDescription=all\nWants={' '.join(u.name for u in units)}\n"
    done = run_inside(
        ["systemd-analyze", "verify", "--man=no", "--generators=no", "/mnt/all.target"],
        files,
        env={"SYSTEMD_UNIT_PATH": "/mnt:"},
    )
    named = {match.group(1) for line in done.lines if (match := re.search(r"ordering cycle on (g\d+)-", line))}
    ours = {cycle[0].later.partition("-")[0] for cycle in find_cycles(waits(units))}
    assert ours == named, done.lines


def test_ten_thousand_waits_need_no_recursion() -> None:
    units = tuple(unit(f"u{i:04}.service", After=f"u{i - 1:04}.service") for i in range(1, 3000))
    after, found = run(OrderUnits(), image(units=units))
    assert [d.message for d in found] == [found[0].message]
    assert len(boot_order(after)) > 2999


def test_a_timer_whose_service_does_not_exist_is_warned_of(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from tdx import Image\n"
        "img = Image('x')\n"
        "img.timer('nightly', on_calendar=['daily'], unit='nightly.service')\n"
        "img.service('hourly', exec='/usr/bin/true', enabled=False)\n"
        "img.timer('hourly', on_calendar=['hourly'])\n"
    )
    _, warnings = driver.analyse(driver.load_recipe(str(recipe)).image)
    assert [(d.code, str(d.span)) for d in warnings] == [(Code.W_UNKNOWN_UNIT, "recipe.py:3:1")]
    assert "'nightly.timer' names 'nightly.service'" in warnings[0].message
