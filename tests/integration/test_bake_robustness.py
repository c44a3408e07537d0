"""A bake that is stopped anywhere leaves no mount, no process, no temporary folder and no half output."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from pathlib import Path

import pytest
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.backends import ArtifactKind, bake
from tdxc_runtime.backends.base import RECORD_NAME
from tdxc_runtime.toolsroot import ToolsRoot

pytestmark = pytest.mark.integration

_CONF = """\
[Distribution]
Distribution=debian
Release=trixie

[Output]
Format=cpio
Output=tiny
ManifestFormat=json

[Content]
Bootable=no
Packages=busybox
"""
_BAKER = """\
import sys
from pathlib import Path
from tdxc_runtime.backends import bake
bake(Path(sys.argv[1]), Path(sys.argv[2]), log=Path(sys.argv[3]), progress=lambda text: print(text, flush=True))
"""
_LATEST_KILL_S = 10.0
_SETTLE_S = 90.0


@pytest.fixture(scope="module", autouse=True)
def _tools() -> ToolsRoot:
    """Made before the first bake, so that it is bakes that are killed."""
    return ToolsRoot.ensure()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    folder = tmp_path / "tree with: odd, name"
    folder.mkdir()
    (folder / "mkosi.conf").write_text(_CONF, encoding="utf-8")
    return folder


def _descendants(pid: int) -> set[tuple[int, str]]:
    """(pid, start time) of every process below ``pid``; the pair names a process for good."""
    parents: dict[int, tuple[int, str]] = {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                fields = (entry / "stat").read_text("utf-8", "replace").rsplit(") ", 1)[1].split()
            except (OSError, IndexError):
                continue
            parents[int(entry.name)] = (int(fields[1]), fields[19])
    found, frontier = set(), {pid}
    while frontier:
        children = {child for child, (parent, _) in parents.items() if parent in frontier}
        found |= {(child, parents[child][1]) for child in children}
        frontier = children
    return found


def _alive(process: tuple[int, str]) -> bool:
    try:
        fields = Path(f"/proc/{process[0]}/stat").read_text("utf-8", "replace").rsplit(") ", 1)[1].split()
    except (OSError, IndexError):
        return False
    return fields[19] == process[1] and fields[0] != "Z"


def _mounts_of(path: Path) -> list[str]:
    """Lines of any process's mount table that mention ``path`` (a bind shows its source there)."""
    found = []
    for table in Path("/proc").glob("[0-9]*/mountinfo"):
        try:
            lines = table.read_text("utf-8", "replace").splitlines()
        except OSError:
            continue
        found += [f"{table}: {line}" for line in lines if path.name in line]
    return found


def _until_clean(workplace: Path, watched: set[tuple[int, str]], expected: set[str]) -> list[str]:
    """What is still wrong after the settling time; the supervisor of a killed bake needs a moment."""
    deadline = time.monotonic() + _SETTLE_S
    while True:
        wrong = [f"process {process} lives" for process in watched if _alive(process)]
        wrong += _mounts_of(workplace)
        wrong += [f"left behind: {name}" for name in {p.name for p in workplace.iterdir()} ^ expected]
        if not wrong or time.monotonic() > deadline:
            return wrong
        time.sleep(0.1)


@pytest.mark.parametrize("attempt", range(10))
def test_killed_bake_leaves_nothing(attempt: int, tree: Path, tmp_path: Path) -> None:
    random_numbers = random.Random(attempt if "CI" in os.environ else time.time_ns())
    delay = random_numbers.uniform(0.2, _LATEST_KILL_S)
    number = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)[attempt % 3]
    while not _killed_after(delay, number, tree, tmp_path / f"workplace-{os.getpid()}-{delay:.3f}"):
        delay *= 0.6  # this machine bakes faster than that


def _killed_after(delay: float, number: signal.Signals, tree: Path, workplace: Path) -> bool:
    """Bake and kill, and see that nothing is left; False when the bake was done before."""
    output = workplace / "out"
    output.mkdir(parents=True)
    (output / RECORD_NAME).write_text("an earlier bake", encoding="utf-8")
    baker = subprocess.Popen(
        [sys.executable, "-c", _BAKER, str(tree), str(output), f"{workplace}.log"],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    watched: set[tuple[int, str]] = set()
    deadline = time.monotonic() + delay
    while time.monotonic() < deadline and baker.poll() is None:
        watched |= _descendants(baker.pid)
        time.sleep(0.05)
    watched |= _descendants(baker.pid)
    baker.send_signal(number)
    said = baker.communicate(timeout=120)[0].decode()
    if baker.returncode == 0 or (output / RECORD_NAME).read_text("utf-8") != "an earlier bake":
        assert (output / "tiny.manifest").is_file(), said
        return False
    assert watched
    wrong = _until_clean(workplace, watched, {"out"})
    assert not wrong, f"{number.name} after {delay:.2f} s:\n" + "\n".join(wrong) + "\n" + said
    assert {path.name: path.read_text("utf-8") for path in output.iterdir()} == {RECORD_NAME: "an earlier bake"}
    return True


def test_killed_mkosi_is_an_error_with_its_log_and_leaves_nothing(tree: Path, tmp_path: Path) -> None:
    workplace = tmp_path / f"workplace-child-{os.getpid()}"
    workplace.mkdir()
    log = tmp_path / "bake.log"
    watched: set[tuple[int, str]] = set()

    def kill_mkosi(step: str) -> None:
        if step == "Installing Debian":
            watched.update(_descendants(os.getpid()))
            for pid, _ in watched:
                with contextlib.suppress(OSError):  # ended meanwhile
                    command = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
                    if any(word.endswith(b"/mkosi") for word in command[:3]):
                        os.kill(pid, signal.SIGKILL)

    with pytest.raises(DiagnosticError) as raised:
        bake(tree, workplace / "out", log=log, progress=kill_mkosi)
    diagnostic = raised.value.diagnostics[0]
    assert diagnostic.code is Code.E_BACKEND_EXECUTION
    assert "SIGKILL" in diagnostic.message
    assert "Installing Debian" in diagnostic.message
    assert any(str(log) in note.message for note in diagnostic.notes)
    assert "Installing Debian" in log.read_text("utf-8")
    assert not _until_clean(workplace, watched, set())


def test_failing_bake_reports_mkosis_words_and_leaves_nothing(tree: Path, tmp_path: Path) -> None:
    (tree / "mkosi.sync").write_text("#!/bin/sh\necho no luck today\nexit 3\n", encoding="utf-8")
    (tree / "mkosi.sync").chmod(0o755)
    workplace = tmp_path / f"workplace-failing-{os.getpid()}"
    workplace.mkdir()
    with pytest.raises(DiagnosticError) as raised:
        bake(tree, workplace / "out", log=tmp_path / "log")
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.code is Code.E_BACKEND_EXECUTION
    notes = [note.message for note in diagnostic.notes]
    assert "no luck today" in notes
    assert any(f"{tree}/mkosi.sync" in note for note in notes), "the user's own name for the tree"
    assert not _until_clean(workplace, set(), set())


def test_bake_replaces_an_earlier_bake_and_nothing_else(tree: Path, tmp_path: Path) -> None:
    workplace = tmp_path / f"workplace-whole-{os.getpid()}"
    output = workplace / "a, b: c"
    output.mkdir(parents=True)
    (output / RECORD_NAME).write_text("an earlier bake", encoding="utf-8")
    (output / "stale").write_text("stale", encoding="utf-8")
    before = sorted((path, path.read_bytes()) for path in tree.rglob("*"))
    steps: list[str] = []
    result = bake(tree, output, log=tmp_path / "log", progress=steps.append)
    assert sorted((path, path.read_bytes()) for path in tree.rglob("*")) == before
    assert not (output / "stale").exists()
    assert not _until_clean(workplace, set(), {output.name})
    (archive,) = result.of_kind(ArtifactKind.ARCHIVE)
    assert archive.path.is_relative_to(output)
    digest = subprocess.run(["sha256sum", archive.path], capture_output=True, text=True, check=True).stdout.split()[0]
    assert archive.sha256 == digest
    assert archive.size_bytes == archive.path.stat().st_size
    assert result.package_manifest == output / "tiny.manifest"
    assert "Installing Debian" in steps
    assert str(workplace) in (tmp_path / "log").read_text("utf-8")

    foreign = workplace / "foreign"
    foreign.mkdir()
    (foreign / "precious").write_text(textwrap.dedent("mine"), encoding="utf-8")
    with pytest.raises(DiagnosticError) as raised:
        bake(tree, foreign)
    assert raised.value.diagnostics[0].code is Code.E_OUTPUT
    assert (foreign / "precious").exists()
