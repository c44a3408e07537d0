"""Services under BusyBox: real shells run the scripts, real systemd agrees on command lines, the rest is refused."""

from __future__ import annotations

import os
import re
import subprocess
import time
from pathlib import Path
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.images import at, image, run, unit
from support.systemd import load_units, run_inside
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import BootStep, DropIn, ResolvedImage, SandboxNeeds, Unit
from tdxc.passes.harden_services import HardenServices
from tdxc.passes.order_units import OrderUnits
from tdxc.tree import TreeFile, TreeLink
from tdxc_emitters.busybox import BusyboxEmitter
from tdxc_emitters.busybox.exec_line import parse_exec_line, split_words
from tdxc_emitters.busybox.service_script import render_service
from tdxc_emitters.busybox.templates import read_template


def service(*rows: tuple[str, str], name: str = "app.service", **relations: Any) -> Unit:
    return unit(name, service=rows, **relations)


def run_script(
    folder: Path, *units: Unit, env: dict[str, str] | None = None, shell: str = "dash"
) -> dict[str, subprocess.CompletedProcess[str]]:
    """Run the scripts of services one after the other, with their paths moved below ``folder``."""
    (folder / "state").mkdir(exist_ok=True)
    library = read_template("service.sh").replace("/run/tdx/services", str(folder / "state"))
    (folder / "rc-service").write_text(library)
    own = frozenset(one.name for one in units)
    done = {}
    for one in units:
        text = render_service(one, own).replace("/usr/lib/tdx/rc-service", str(folder / "rc-service"))
        script = folder / one.name
        script.write_text(text.replace("/var/lib/", f"{folder}/lib/"))
        environment = {"PATH": os.environ["PATH"], **(env or {})}
        with (folder / f"{one.name}.log").open("w+") as log:
            status = subprocess.run([shell, str(script)], stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                    env=environment, check=False).returncode  # fmt: skip
        output = (folder / f"{one.name}.log").read_text()
        done[one.name] = subprocess.CompletedProcess(args=[], returncode=status, stdout=output)
    return done


def test_a_oneshot_gets_its_arguments_environment_and_folder(tmp_path: Path) -> None:
    work = tmp_path / "a b"
    work.mkdir()
    (tmp_path / "env").write_text("# comment\nB='quoted value'\nA=from file\n")
    one = service(
        ("Type", "oneshot"),
        ("WorkingDirectory", str(work)),
        ("Environment", 'A=x "C=it\'s 100%%" D=\\x41'),
        ("EnvironmentFile", str(tmp_path / "env")),
        ("EnvironmentFile", "-/nonexistent"),
        ("UMask", "0027"),
        ("ExecStart", "/usr/bin/printf '<%%s>' \"$A\" ${B} $C $$D 100%% ${D}!"),
        ("ExecStart", "/bin/sh -c 'pwd; umask; : >made'"),
    )
    done = run_script(tmp_path, one)["app.service"]
    assert done.returncode == 0, done.stdout
    assert done.stdout.startswith("<from><file><quoted value><it's><100%><$D><100%><A!>" + f"{work}\n0027\n")
    assert "app.service: done" in done.stdout
    assert (tmp_path / "state/app.service").exists()


def test_a_failing_oneshot_keeps_back_what_requires_it(tmp_path: Path) -> None:
    bad = service(
        ("Type", "oneshot"), ("ExecStart", "/bin/false"), ("ExecStart", "/bin/echo never"), name="bad.service"
    )
    needs_it = service(
        ("Type", "oneshot"), ("ExecStart", "/bin/true"), name="z.service", Requires="bad.service basic.target"
    )
    tolerant = service(
        ("Type", "oneshot"), ("ExecStart", "-/bin/false"), ("ExecStart", "/bin/echo went on"), name="t.service"
    )
    done = run_script(tmp_path, bad, needs_it, tolerant)
    assert (done["bad.service"].returncode, done["z.service"].returncode, done["t.service"].returncode) == (1, 1, 0)
    assert "FAILED with exit status 1" in done["bad.service"].stdout
    assert "never" not in done["bad.service"].stdout
    assert "requires bad.service" in done["z.service"].stdout
    assert "went on" in done["t.service"].stdout


@pytest.mark.parametrize(("restart", "status", "runs"), [("no", 1, 1), ("on-failure", 0, 1), ("on-failure", 1, 3)])
def test_restart_policies(tmp_path: Path, restart: str, status: int, runs: int) -> None:
    program = tmp_path / "program"
    program.write_text(
        f'#!/bin/sh\necho run >>{tmp_path}/runs\n[ "$(wc -l <{tmp_path}/runs)" -ge 3 ] && exit 0\nexit {status}\n'
    )
    program.chmod(0o755)
    one = service(("ExecStart", str(program)), ("Restart", restart), ("RestartSec", "10ms"))
    assert run_script(tmp_path, one)["app.service"].returncode == 0
    deadline = time.monotonic() + 60
    while (tmp_path / "state/app.service").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    assert len((tmp_path / "runs").read_text().splitlines()) == runs


@pytest.mark.integration
def test_user_capabilities_and_folders() -> None:
    one = service(
        ("Type", "oneshot"),
        ("User", "daemon"),
        ("StateDirectory", "app"),
        ("NoNewPrivileges", "yes"),
        ("CapabilityBoundingSet", "CAP_NET_BIND_SERVICE"),
        ("AmbientCapabilities", "CAP_NET_BIND_SERVICE"),
        ("LimitNOFILE", "77"),
        ("ExecStart", "/bin/sh -c 'id -un; id -gn; ulimit -n; grep -E \"^(Cap|NoNew)\" /proc/self/status'"),
    )
    files = {
        "rc-service": read_template("service.sh").replace("/run/tdx/services", "/tmp"),
        "app": render_service(one, frozenset()).replace("/usr/lib/tdx", "/mnt").replace("/var/lib", "/tmp"),
    }
    done = run_inside(["sh", "-c", "/mnt/app && stat -c %U /tmp/app"], files)
    lines = done.stdout.decode().splitlines()
    assert lines[:3] == ["daemon", "daemon", "77"], (lines, done.lines)
    assert lines[-1] == "daemon"
    sets = dict(re.findall(r"^(\w+):\s*(\S+)$", "\n".join(lines), flags=re.MULTILINE))
    assert {sets[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {"0000000000000400"}
    assert sets["NoNewPrivs"] == "1"


@pytest.mark.parametrize(
    ("rows", "text"),
    [
        ((("Type", "notify"),), "Type=notify"),
        ((("ProtectSystem", "strict"),), "ProtectSystem="),
        ((("Restart", "on-watchdog"),), "Restart=on-watchdog"),
        ((("ExecStart", "+/bin/true"),), "prefix '+'"),
        ((("ExecStart", "/bin/echo %n"),), "specifier '%n'"),
        ((("ExecStart", "/bin/true ; /bin/false"),), "several commands"),
        ((("ExecStart", "/bin/echo 'open"),), "open quote"),
        ((("ExecStart", '/bin/echo " \\; "'),), "escape '\\;'"),
        ((("RestartSec", "soon"),), "RestartSec=soon"),
        ((("StandardOutput", "file:/x"),), "StandardOutput="),
        ((("ExecStart", "/bin/true"), ("ExecStart", "/bin/true")), "one command"),
    ],
)
def test_what_busybox_cannot_express_is_refused_at_its_line(rows: tuple[tuple[str, str], ...], text: str) -> None:
    rows = rows if any(key == "ExecStart" for key, _ in rows) else (*rows, ("ExecStart", "/bin/true"))
    with pytest.raises(DiagnosticError) as caught:
        render_service(service(*rows, line=17), frozenset())
    (found,) = caught.value.diagnostics
    assert found.code is Code.E_EMIT
    assert text in found.message
    assert found.span.line == 17


lines = st.lists(
    st.sampled_from(["a", "b c", "'", '"', '"x y"', "'p q'", "\\n", "\\x41", "\\101", "\\u00e9", "\\\\", "\\s", "é",
                     "$$", "%%", "a'b c'd", '""', "\\;", "x;y", "\\t", '"\\""']), min_size=1, max_size=6
).map(" ".join)  # fmt: skip


@pytest.mark.integration
@given(texts=st.lists(lines, min_size=30, max_size=30))
@settings(deadline=None, max_examples=5)
def test_real_systemd_splits_command_lines_alike(texts: list[str]) -> None:
    ours: dict[str, list[str]] = {}
    for number, text in enumerate(texts):
        try:
            parse_exec_line(f"/bin/echo {text}", at(1))
        except DiagnosticError:
            continue
        ours[f"t{number}.service"] = [word.replace("%%", "%") for word, _ in split_words(text, at(1))]
    units = {
        name: f"[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/echo {texts[int(name[1:-8])]}\n"
        for name in ours
    }
    loaded = load_units(units)
    for name, words in ours.items():
        line = re.search(r"Command Line: /bin/echo ?(.*)\n", loaded[name])
        assert line, units[name]
        assert quoted_words(line.group(1)) == words, units[name]


def quoted_words(text: str) -> list[str]:
    found = []
    for match in re.finditer(r'"((?:\\.|[^"\\])*)"|(\S+)', text):
        word = match.group(2) if match.group(1) is None else match.group(1)
        found.append(re.sub(r"\\(.)", lambda m: {"n": "\n", "t": "\t"}.get(m.group(1), m.group(1)), word))
    return found


def busybox(*units: Unit, **fields: Any) -> ResolvedImage:
    found = image(init="busybox", units=units, **fields)
    for pass_ in (HardenServices(), OrderUnits()):
        found, diagnostics = run(pass_, found)
        assert not diagnostics
    return found


def test_the_tree_of_an_image() -> None:
    needs = SandboxNeeds(span=at(4), user="app", ports=(80,), writes=("/srv",))
    rows = (("ExecStart", "/usr/bin/app"), ("User", "app"))
    app = unit("app.service", After="db.service", needs=needs, service=rows)
    units = (
        app,
        unit("db.service"),
        unit("disk.service", early=True),
        attrs.evolve(unit("off.service"), enabled=False),
    )
    tree = BusyboxEmitter().emit(busybox(*units))
    assert set(tree) == {
        "mkosi.extra/etc/inittab",
        "mkosi.extra/init",
        "mkosi.extra/usr/lib/tdx/early-services/0000-disk",
        "mkosi.extra/usr/lib/tdx/rc-boot",
        "mkosi.extra/usr/lib/tdx/rc-service",
        "mkosi.extra/usr/lib/tdx/services/0000-db",
        "mkosi.extra/usr/lib/tdx/services/0001-app",
    }
    text = tree.text("mkosi.extra/usr/lib/tdx/services/0001-app")
    assert "--bounding-set -all,+net_bind_service" in text
    assert "--reuid app" in text
    entry = tree["mkosi.extra/usr/lib/tdx/services/0001-app"]
    assert isinstance(entry, TreeFile)
    assert entry.executable


def test_systemd_images_get_nothing_and_other_inits_a_link() -> None:
    assert len(BusyboxEmitter().emit(image())) == 0
    tree = BusyboxEmitter().emit(image(init="/usr/bin/my-init"))
    assert tree["mkosi.extra/init"] == TreeLink(target="/usr/bin/my-init")
    assert len(BusyboxEmitter().emit(image(init="/init"))) == 0


@pytest.mark.parametrize(
    "fields",
    [
        {"init": "busybox", "units": (unit("a.socket", line=8),)},
        {"init": "busybox", "units": (unit("a@.service", line=8),)},
        {"init": "busybox", "drop_ins": (DropIn(span=at(8), unit="x.service", name="y", sections=()),)},
        {"init": "/sbin/mine", "units": (unit("a.service", line=8),)},
        {"init": "/sbin/mine", "boot_steps": (BootStep(span=at(8), name="s", script="x"),)},
    ],
)
def test_what_no_such_init_can_start_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(DiagnosticError) as caught:
        BusyboxEmitter().emit(image(**fields))
    assert [(d.code, d.span.line) for d in caught.value.diagnostics] == [(Code.E_EMIT, 8)]


def test_all_faults_are_reported_at_once() -> None:
    units = (
        service(("ExecStart", "/bin/true"), ("Type", "notify"), line=4),
        unit("a.socket", line=5),
        service(("ExecStart", "/bin/true"), ("MemoryMax", "1G"), name="b.service", line=6),
    )
    with pytest.raises(DiagnosticError) as caught:
        BusyboxEmitter().emit(image(init="busybox", units=units))
    assert [d.span.line for d in caught.value.diagnostics] == [4, 5, 6]


def test_a_cycle_of_services_is_an_error_without_systemd_too() -> None:
    units = (unit("a.service", After="b.service"), unit("b.service", After="a.service"))
    _, found = run(OrderUnits(), image(init="busybox", units=units))
    assert [d.code for d in found] == [Code.E_CYCLE]


@pytest.mark.integration
def test_shellcheck_has_nothing_to_say() -> None:
    tree = BusyboxEmitter().emit(busybox(service(("ExecStart", "/bin/app $X ${Y}"), ("EnvironmentFile", "-/etc/x"))))
    files = {path.rpartition("/")[2]: tree.text(path) for path in tree if "inittab" not in path}
    done = run_inside(["shellcheck", "-s", "sh", *(f"/mnt/{name}" for name in sorted(files))], files)
    assert not done.status, done.stdout.decode()
