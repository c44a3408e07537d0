"""The command line from a first recipe to a booted image: build, its JSON and its progress, run, and Ctrl-C."""

from __future__ import annotations

import json
import os
import pty
import re
import select
import signal
import subprocess
import time
from pathlib import Path

import pytest
from support.commands import PROGRAM, Outcome, process
from tdxc_runtime.vm.console import QEMU_CRASHED

pytestmark = pytest.mark.integration

BUILD_SECONDS = 1800
BOOT_SECONDS = 600


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Outcome]:
    """``tdxc init`` and ``tdxc build``: the folder and what the build said."""
    folder = tmp_path_factory.mktemp("cli")
    assert process("init", "my-image", cwd=folder).status == 0
    assert process("lock", "my-image/recipe.py", cwd=folder).status == 0
    command = [*PROGRAM, "build", "my-image/recipe.py", "--frozen", "--format", "json"]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=BUILD_SECONDS)
    return folder, Outcome(status=finished.returncode, out=finished.stdout, err=finished.stderr)


def machines(folder: Path) -> list[str]:
    """Command lines of processes that have to do with this folder's image."""
    found = []
    for entry in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = entry.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue
        if str(folder) in line and ("qemu" in line or "swtpm" in line):
            found.append(line)
    return found


def test_a_build_describes_its_artifacts_as_data(built: tuple[Path, Outcome]) -> None:
    folder, outcome = built
    assert outcome.status == 0, outcome.err
    data = outcome.data()
    kinds = {artifact["kind"] for artifact in data["artifacts"]}
    assert {"uki", "disk-qcow2"} <= kinds
    for artifact in data["artifacts"]:
        path = folder / artifact["path"]
        assert path.stat().st_size == artifact["size"]
        digest = subprocess.run(["sha256sum", path], capture_output=True, text=True, check=True).stdout.split()[0]
        assert digest == artifact["sha256"]
    assert Path(data["log"]).is_file()


def test_a_build_tells_its_steps_with_their_times(built: tuple[Path, Outcome]) -> None:
    steps = [line for line in built[1].err.splitlines() if re.match(r" +\d+\.\d s  \S", line)]
    assert len(steps) > 5
    assert steps[-1].endswith("in all")
    assert "\x1b" not in built[1].err


def test_the_greeting_of_the_first_recipe_comes_on_the_console(built: tuple[Path, Outcome]) -> None:
    command = [*PROGRAM, "run", "--until", "hello from my-image", "--timeout", str(BOOT_SECONDS)]
    for _ in range(2):
        finished = subprocess.run(command, cwd=built[0], capture_output=True, text=True, timeout=BOOT_SECONDS + 60)
        if QEMU_CRASHED not in finished.stderr:
            break
    assert finished.returncode == 0, finished.stderr
    assert re.search(r"^ +\d+\.\d s \| .*hello from my-image", finished.stdout, re.MULTILINE)
    assert machines(built[0]) == []


def test_a_line_that_does_not_come_in_time_is_an_environment_error(built: tuple[Path, Outcome]) -> None:
    outcome = process("run", "--until", "no such line", "--timeout", "3", cwd=built[0])
    assert outcome.status == 3
    assert "error[E_BACKEND_EXECUTION]: no console line matched 'no such line'" in outcome.err
    assert machines(built[0]) == []


def test_ctrl_c_stops_an_attached_machine_and_leaves_nothing(built: tuple[Path, Outcome], tmp_path: Path) -> None:
    folder = built[0]
    controller, terminal = pty.openpty()
    running = subprocess.Popen(
        [*PROGRAM, "run"],
        cwd=folder,
        env={**os.environ, "TMPDIR": str(tmp_path)},
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    printed = b""
    deadline = time.monotonic() + BOOT_SECONDS
    while b"EFI stub" not in printed and b"Linux version" not in printed and time.monotonic() < deadline:
        if select.select([controller], [], [], 1)[0]:
            printed += os.read(controller, 4096)
    assert any(tmp_path.iterdir())
    os.killpg(running.pid, signal.SIGINT)
    try:
        status = running.wait(timeout=120)
    finally:
        running.kill()
        os.close(controller)
    assert status == 128 + signal.SIGINT, printed.decode(errors="replace")
    assert b"Traceback" not in printed
    assert machines(folder) == []
    assert list(tmp_path.iterdir()) == []


def test_a_changed_recipe_is_refused_by_a_frozen_build_and_the_output_stays(built: tuple[Path, Outcome]) -> None:
    folder = built[0]
    before = {path.name: path.stat().st_mtime_ns for path in (folder / "build/output").iterdir()}
    recipe = folder / "my-image/recipe.py"
    recipe.write_text(recipe.read_text().replace("8080", "8081"))
    outcome = process("build", "my-image/recipe.py", "--frozen", "--format", "json", cwd=folder)
    assert outcome.status == 4
    assert [json.loads(line)["code"] for line in outcome.err.splitlines()] == ["E_LOCKFILE"]
    assert {path.name: path.stat().st_mtime_ns for path in (folder / "build/output").iterdir()} == before
