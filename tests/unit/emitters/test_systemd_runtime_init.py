"""The runner of boot steps, run by real shells, and its drop-ins."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest
from support.systemd import run_inside
from tdxc.ir import OrderedStep
from tdxc_emitters.systemd.runtime_init import render_runner, render_step


def ordered(name: str, script: str) -> OrderedStep:
    return OrderedStep(name=name, file_name=name, script=script)


def run_steps(
    folder: Path, steps: list[OrderedStep], shell: str = "dash", **env: str
) -> subprocess.CompletedProcess[str]:
    steps_folder = folder / "steps"
    steps_folder.mkdir()
    for step in steps:
        file = steps_folder / step.file_name
        file.write_text(render_step(step))
        file.chmod(0o755)
    runner = folder / "runner"
    runner.write_text(render_runner().replace("/usr/lib/runtime-init.d", str(steps_folder)))
    environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}", "HERE": str(folder), **env}
    return subprocess.run([shell, str(runner)], capture_output=True, text=True, env=environment, check=False)


@pytest.mark.parametrize("shell", ["dash", "bash"])
def test_steps_run_in_order_with_their_durations(tmp_path: Path, shell: str) -> None:
    steps = [ordered("0010-00-b", "echo first"), ordered("0020-00-a", "sleep 0.05\necho second")]
    done = run_steps(tmp_path, steps, shell)
    assert done.returncode == 0, done.stderr
    lines = [re.sub(r"[0-9]+\.[0-9]{2} s", "T s", line) for line in done.stdout.splitlines()]
    assert lines == [
        "runtime-init: step 0010-00-b",
        "first",
        "runtime-init: step 0010-00-b done in T s",
        "runtime-init: step 0020-00-a",
        "second",
        "runtime-init: step 0020-00-a done in T s",
        "runtime-init: 2 steps done in T s",
    ]


def test_a_failing_step_stops_and_is_named(tmp_path: Path) -> None:
    steps = [ordered("0010-00-bad", "false\necho never"), ordered("0020-00-next", "echo never")]
    done = run_steps(tmp_path, steps)
    assert done.returncode == 1
    assert "never\n" not in done.stdout
    assert "step 0010-00-bad FAILED with exit status 1" in done.stdout


def test_levels_go_to_the_journal_and_status_to_the_service_manager(tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    notify = tmp_path / "bin/systemd-notify"
    notify.write_text('#!/bin/sh\necho "$1" >>"$HERE/status"\n')
    notify.chmod(0o755)
    done = run_steps(tmp_path, [ordered("0010-00-bad", "exit 7")], JOURNAL_STREAM="8:1", NOTIFY_SOCKET="/x")
    assert "<3>runtime-init: step 0010-00-bad FAILED with exit status 7" in done.stdout
    status = (tmp_path / "status").read_text().splitlines()
    assert status[0] == "--status=step 0010-00-bad"
    assert status[-1].startswith("--status=step 0010-00-bad FAILED with exit status 7")


def test_every_fraction_of_a_second_is_read_as_decimal(tmp_path: Path) -> None:
    function = re.search(r"^now\(\) \{.*?^\}\n", render_runner(), flags=re.MULTILINE | re.DOTALL)
    assert function
    for uptime, expected in (("0.08", "8"), ("9.09", "909"), ("100.00", "10000"), ("12.34", "1234")):
        (tmp_path / "uptime").write_text(f"{uptime} 1.00\n")
        text = function.group(0).replace("/proc/uptime", str(tmp_path / "uptime")) + "now\n"
        assert (
            subprocess.run(["dash", "-euc", text], capture_output=True, text=True, check=True).stdout == f"{expected}\n"
        )


def test_a_step_with_its_own_interpreter_is_kept_as_it_is() -> None:
    assert render_step(ordered("a", "#!/usr/bin/python3\nprint()")) == "#!/usr/bin/python3\nprint()\n"


@pytest.mark.integration
def test_shellcheck_has_nothing_to_say() -> None:
    files = {"runner": render_runner(), "step": render_step(ordered("a\nb", "echo hi"))}
    done = run_inside(["shellcheck", "-s", "sh", "/mnt/runner", "/mnt/step"], files)
    assert not done.status, done.stdout.decode()
