"""Running tools: lines, logs, failures, and that nothing outlives the call."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.process import (
    Confinement,
    LineSplitter,
    Stopped,
    describe_status,
    rerunnable,
    run,
    start,
    stop_on_signals,
)


def _ended(pid: int, within_s: float = 60.0) -> bool:
    deadline = time.monotonic() + within_s
    while True:
        try:
            state = Path(f"/proc/{pid}/stat").read_text("utf-8").rsplit(") ", 1)[1][0]
        except OSError:
            return True
        if state == "Z":
            return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(0.02)


def test_both_streams_come_as_lines_in_order_and_go_to_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log"
    log.write_bytes(b"head\n")
    seen: list[str] = []
    script = "echo one; echo two >&2; printf 'a\\rb\\r\\n'; printf '\\377 end'"
    completed = run(["sh", "-c", script], on_line=seen.append, log=log)
    assert seen == ["one", "two", "a\rb", "� end"]
    assert completed.lines == tuple(seen)
    assert completed.status == 0
    assert log.read_bytes() == b"head\none\ntwo\na\rb\r\n\xff end"


def test_captured_output_is_bytes_apart_from_the_lines() -> None:
    completed = run(["sh", "-c", "printf '\\0\\377'; echo said >&2"], capture=True)
    assert completed.stdout == b"\0\xff"
    assert completed.lines == ("said",)


def test_failure_carries_last_lines_log_and_a_line_to_run_again(tmp_path: Path) -> None:
    log = tmp_path / "the log"
    with pytest.raises(DiagnosticError) as raised:
        run(["sh", "-c", "echo it broke; exit 7"], log=log, cwd=tmp_path)
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.code is Code.E_BACKEND_EXECUTION
    assert "exit status 7" in diagnostic.message
    assert [note.message for note in diagnostic.notes] == ["it broke", f"the whole log is in {log}"]
    assert f"cd {tmp_path} && sh -c 'echo it broke; exit 7'" in diagnostic.fix


def test_failure_without_check_is_a_status() -> None:
    assert run(["sh", "-c", "exit 7"], check=False).status == 7
    assert run(["sh", "-c", "kill -SEGV $$"], check=False).status == 128 + signal.SIGSEGV


@pytest.mark.parametrize("namespaces", [False, pytest.param(True, marks=pytest.mark.integration)])
def test_a_command_that_cannot_start_is_unavailable(namespaces: bool) -> None:
    with pytest.raises(DiagnosticError) as raised:
        run(["no-such-program-anywhere"], confinement=Confinement(namespaces=namespaces))
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.code is Code.E_BACKEND_UNAVAILABLE
    assert "no-such-program-anywhere: No such file or directory" in diagnostic.message


def test_a_command_that_says_125_itself_is_not_mistaken_for_one_that_did_not_start() -> None:
    assert run(["sh", "-c", "exit 125"], check=False).status == 125


def test_timeout_kills_even_descendants_that_left_the_session(tmp_path: Path) -> None:
    script = (
        f"setsid sh -c 'echo $$ >{tmp_path}/pid.new; mv {tmp_path}/pid.new {tmp_path}/pid; exec sleep 300' & sleep 300"
    )
    for timeout_s in (0.5, 4, 30):  # until the machine is fast enough for the descendant to have come that far
        started = time.monotonic()
        with pytest.raises(DiagnosticError) as raised:
            run(["sh", "-c", script], timeout_s=timeout_s)
        assert time.monotonic() - started < timeout_s + 100
        assert f"longer than {timeout_s} s" in raised.value.diagnostics[0].message
        if (tmp_path / "pid").exists():
            break
    assert _ended(int((tmp_path / "pid").read_text("ascii")), within_s=0)


def test_descendants_that_outlive_their_command_are_killed_at_its_end(tmp_path: Path) -> None:
    script = f"setsid sh -c 'echo $$ >{tmp_path}/pid; exec sleep 300' >/dev/null 2>&1 </dev/null & "
    script += f"until [ -s {tmp_path}/pid ]; do sleep 0.02; done"
    run(["sh", "-c", script])
    assert _ended(int((tmp_path / "pid").read_text("ascii")), within_s=0)


def test_an_exception_from_the_callback_stops_the_command(tmp_path: Path) -> None:
    def refuse(line: str) -> None:
        raise RuntimeError(line)

    with pytest.raises(RuntimeError, match="first"):
        run(["sh", "-c", f"echo $$ >{tmp_path}/pid; echo first; exec sleep 300"], on_line=refuse)
    assert _ended(int((tmp_path / "pid").read_text("ascii")), within_s=0)


def test_cleanup_folders_go_with_the_command(tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    (scratch / "deep" / "er").mkdir(parents=True)
    with start(["sleep", "300"], confinement=Confinement(cleanup=(scratch,))):
        assert scratch.exists()
    assert not scratch.exists()


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_nothing_survives_when_we_are_killed(number: signal.Signals, tmp_path: Path) -> None:
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    code = (
        "from pathlib import Path; from tdxc_runtime.process import Confinement, run; "
        f"run(['sh', '-c', 'echo $$ >{tmp_path}/pid; exec sleep 300'], "
        f"confinement=Confinement(cleanup=(Path({str(scratch)!r}),)))"
    )
    child = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    pid_file = tmp_path / "pid"
    deadline = time.monotonic() + 60
    while not (pid_file.exists() and pid_file.read_text("ascii").strip()):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    child.send_signal(number)
    child.wait(60)
    assert _ended(int(pid_file.read_text("ascii")))
    deadline = time.monotonic() + 60
    while scratch.exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_umask_is_as_asked_for() -> None:
    assert run(["sh", "-c", "umask"], umask=0o027).lines == ("0027",)


def test_environment_is_replaced() -> None:
    completed = run(["env"], env={"PATH": os.environ["PATH"], "ONLY": "this"})
    assert "ONLY=this" in completed.lines
    assert not any(line.startswith("HOME=") for line in completed.lines)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_stop_signals_unwind_like_ctrl_c(number: signal.Signals) -> None:
    before = signal.getsignal(number)
    with pytest.raises(Stopped) as raised, stop_on_signals():
        signal.raise_signal(number)
    assert raised.value.number == number
    assert isinstance(raised.value, KeyboardInterrupt)
    assert signal.getsignal(number) is before


def test_stop_signals_do_nothing_in_another_thread() -> None:
    failures: list[BaseException] = []

    def work() -> None:
        try:
            with stop_on_signals():
                run(["true"])
        except BaseException as fault:  # noqa: BLE001 - reported by the test itself
            failures.append(fault)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join(60)
    assert not thread.is_alive()
    assert not failures


def test_rerunnable_quotes() -> None:
    assert rerunnable(["a b", "$x"], cwd=Path("/o'k")) == "cd '/o'\"'\"'k' && 'a b' '$x'"


def test_status_in_words() -> None:
    assert describe_status(2) == "failed with exit status 2"
    assert describe_status(137) == "was ended by SIGKILL"
    assert describe_status(255) == "failed with exit status 255"


@given(st.binary(), st.lists(st.integers(0, 200)))
def test_lines_do_not_depend_on_how_the_stream_is_cut(data: bytes, cuts: list[int]) -> None:
    splitter, found, rest = LineSplitter(), [], data
    for cut in cuts:
        found += splitter.feed(rest[:cut])
        rest = rest[cut:]
    found += splitter.feed(rest)
    found += splitter.rest()
    whole = LineSplitter()
    assert found == whole.feed(data) + whole.rest()
    assert all("\n" not in line for line in found)
