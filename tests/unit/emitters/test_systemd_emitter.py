"""Units as files: what real systemd says about them, links, presets, drop-ins, and values that no unit can hold."""

from __future__ import annotations

import attrs
import pytest
from support.images import at, image, run, unit
from support.systemd import load_units, verify_units
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import BootStep, Directive, DropIn, Hardening, ResolvedImage, Section, Unit
from tdxc.passes.harden_services import HardenServices
from tdxc.passes.init_priority import InitPriority
from tdxc.passes.order_units import OrderUnits
from tdxc.tree import FileTree, TreeFile, TreeLink
from tdxc_emitters.systemd import SystemdEmitter, render_unit

FOLDER = "mkosi.extra/usr/lib/systemd/system"


def passed(before: ResolvedImage) -> ResolvedImage:
    for pass_ in (InitPriority(), HardenServices(), OrderUnits()):
        before, found = run(pass_, before)
        assert not found
    return before


def full() -> ResolvedImage:
    socket = Unit(
        span=at(5),
        name="app.socket",
        sections=(Section(name="Socket", directives=(Directive(key="ListenStream", value="8545"),)),),
    )
    timer = Unit(
        span=at(6),
        name="backup.timer",
        sections=(Section(name="Timer", directives=(Directive(key="OnUnitActiveSec", value="1h"),)),),
    )
    mount = Unit(
        span=at(7),
        name="persistent.mount",
        sections=(
            Section(
                name="Mount",
                directives=(
                    Directive(key="What", value="/dev/vdb"),
                    Directive(key="Where", value="/persistent"),
                ),
            ),
        ),
    )
    true = (("ExecStart", "/usr/bin/true"),)
    units = (
        unit("app.service", service=true, Description='100%% "quoted" é'),
        unit("backup.service", service=(*true, ("Type", "oneshot"))),
        unit("plain.service", service=true, hardening=Hardening.NONE, wanted_by=("multi-user.target",)),
        unit("own.target"),
        socket,
        timer,
        mount,
    )
    drop_in = DropIn(
        span=at(9),
        unit="systemd-journald.service",
        name="10-quiet",
        sections=(Section(name="Service", directives=(Directive(key="Nice", value="5"),)),),
    )
    steps = (BootStep(span=at(3), name="keys", script="true"),)
    return passed(image(units=units, drop_ins=(drop_in,), boot_steps=steps))


def unit_files(tree: FileTree) -> dict[str, str]:
    return {
        path.rpartition("/")[2]: tree.text(path)
        for path, entry in tree.entries.items()
        if path.startswith(f"{FOLDER}/") and isinstance(entry, TreeFile) and path.count("/") == FOLDER.count("/") + 1
    }


@pytest.mark.integration
def test_real_systemd_accepts_all_units_and_sees_their_values() -> None:
    files = unit_files(SystemdEmitter().emit(full()))
    runnable = {name: text.replace("/usr/bin/runtime-init", "/usr/bin/true") for name, text in files.items()}
    assert verify_units(runnable) == []
    loaded = load_units(runnable)
    assert 'Description: 100% "quoted" é\n' in loaded["app.service"]
    assert "Unit Load State: loaded" in loaded["minimal.target"]
    assert "Requires: runtime-init.service" in loaded["app.service"]


@pytest.mark.integration
def test_real_systemd_would_have_complained() -> None:
    bad = {"bad.service": "[Service]\nExecStart=/usr/bin/true\nNoNewPrivilegs=yes\n"}
    assert any("NoNewPrivilegs" in line for line in verify_units(bad))


def test_links_presets_steps_and_drop_ins() -> None:
    tree = SystemdEmitter().emit(full())
    links = {path.removeprefix(f"{FOLDER}/"): e.target for path, e in tree.entries.items() if isinstance(e, TreeLink)}
    assert links == {
        "default.target": "minimal.target",
        "local-fs.target.wants/persistent.mount": "../persistent.mount",
        "minimal.target.wants/own.target": "../own.target",
        "minimal.target.wants/plain.service": "../plain.service",
        "minimal.target.wants/runtime-init.service": "../runtime-init.service",
        "sockets.target.wants/app.socket": "../app.socket",
        "timers.target.wants/backup.timer": "../backup.timer",
    }
    assert tree.text("mkosi.extra/usr/lib/systemd/system-preset/00-image.preset").endswith("\ndisable *\n")
    assert "Nice=5" in tree.text(f"{FOLDER}/systemd-journald.service.d/10-quiet.conf")
    step = tree["mkosi.extra/usr/lib/runtime-init.d/0050-00-keys"]
    assert isinstance(step, TreeFile)
    assert step.executable


def test_required_by_and_aliases_become_links() -> None:
    one = attrs.evolve(unit("a.service"), required_by=("basic.target",), aliases=("b.service",), enabled=False)
    tree = SystemdEmitter().emit(image(units=(one,)))
    assert tree[f"{FOLDER}/basic.target.requires/a.service"] == TreeLink(target="../a.service")
    assert tree[f"{FOLDER}/b.service"] == TreeLink(target="a.service")


def test_every_file_names_its_origin_and_no_recipe_line() -> None:
    tree = SystemdEmitter().emit(full())
    for entry in tree.entries.values():
        assert entry.origin is not None
        assert entry.origin.span.line
        if isinstance(entry, TreeFile):
            assert b"recipe.py" not in entry.data


def test_the_same_image_gives_the_same_tree() -> None:
    assert SystemdEmitter().emit(full()) == SystemdEmitter().emit(full())


def test_another_init_gets_boot_steps_only() -> None:
    steps = (BootStep(span=at(3), name="keys", script="true"),)
    before, _ = run(InitPriority(), image(init="busybox", boot_steps=steps, units=(unit("a.service"),)))
    assert set(SystemdEmitter().emit(before)) == {
        "mkosi.extra/usr/bin/runtime-init",
        "mkosi.extra/usr/lib/runtime-init.d/0050-00-keys",
    }


@pytest.mark.parametrize(
    ("section", "key", "value", "code"),
    [
        ("Unit", "Description", "a\nExecStart=/bin/sh", Code.E_VALUE),
        ("Unit", "Description", "a\\", Code.E_VALUE),
        ("Unit", "Description", " a", Code.E_VALUE),
        ("Unit", "Descrip tion", "a", Code.E_EMIT),
        ("Unit", "A=b\nC", "a", Code.E_EMIT),
        ("Unit]\n[Service", "Description", "a", Code.E_EMIT),
    ],
)
def test_what_no_unit_file_can_hold_is_refused_at_its_line(section: str, key: str, value: str, code: Code) -> None:
    directive = Directive(span=at(33), key=key, value=value)
    one = Unit(span=at(3), name="a.service", sections=(Section(span=at(33), name=section, directives=(directive,)),))
    with pytest.raises(DiagnosticError) as caught:
        render_unit(one, "test")
    assert [(d.code, d.span.line) for d in caught.value.diagnostics] == [(code, 33)]


def test_all_faults_of_all_units_are_reported_at_once() -> None:
    units = tuple(unit(f"{name}.service", line=line, Description=" a") for line, name in ((4, "x"), (6, "y")))
    with pytest.raises(DiagnosticError) as caught:
        SystemdEmitter().emit(image(units=units))
    assert [d.span.line for d in caught.value.diagnostics] == [4, 6]
