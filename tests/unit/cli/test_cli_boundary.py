"""What happens to a command from outside: signals, closed pipes, full disks; and faults of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from pathlib import Path

import click
import pytest
from support.commands import PROGRAM, SMALL, process, project
from tdxc.cli.boundary import run
from tdxc.cli.report import report
from tdxc.diagnostics import Code, Diagnostic, Note, SourceSpan

SLOW = """\
import pathlib, time
from tdx import Image
img = Image("slow")
pathlib.Path("started").touch()
time.sleep(60)
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return project(tmp_path, monkeypatch)


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_ends_a_compile_at_once_and_leaves_nothing(folder: Path, number: int, status: int) -> None:
    (folder / "slow.py").write_text(SLOW)
    process = subprocess.Popen([*PROGRAM, "compile", "slow.py", "-o", "out"], cwd=folder, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 60
    while not (folder / "started").exists():
        assert time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(number)
    _out, err = process.communicate(timeout=60)
    assert process.returncode == status
    assert b"Traceback" not in err
    assert {path.name for path in folder.iterdir()} == {"slow.py", "started", "small.py", "bad.py"}


@pytest.mark.parametrize("step", range(4))
def test_a_signal_while_writing_leaves_the_old_tree_or_the_new_one(folder: Path, step: int) -> None:
    files = "for n in range(600):\n    img.file(f'/usr/share/x/{n}', content=f'{n} VERSION')\n"
    for version in ("one", "two"):
        (folder / f"{version}.py").write_text(SMALL + files.replace("VERSION", version))
    assert process("compile", "one.py", "-o", "out", cwd=folder).status == 0
    running = subprocess.Popen([*PROGRAM, "compile", "two.py", "-o", "out"], cwd=folder, stderr=subprocess.PIPE)
    while not any(path.name.startswith(".out.tdxc-") for path in folder.iterdir()) and running.poll() is None:
        time.sleep(0.001)
    time.sleep(step * 0.01)
    running.send_signal(signal.SIGTERM)
    running.communicate(timeout=60)
    # -15: the work was done, and the signal came while the interpreter shut down
    assert running.returncode in {0, 143, -signal.SIGTERM}
    assert {path.name for path in folder.iterdir()} == {"one.py", "two.py", "out", "small.py", "bad.py"}
    words = {path.read_text().split()[1] for path in (folder / "out/mkosi.extra/usr/share/x").iterdir()}
    assert words in ({"one"}, {"two"})
    assert len(list((folder / "out/mkosi.extra/usr/share/x").iterdir())) == 600


@pytest.mark.parametrize(
    "arguments", [["schema"], ["--help"], ["show", "ir", "small.py"], ["explain", "debloat", "small.py"]]
)
def test_a_reader_that_goes_away_is_no_error_message(folder: Path, arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    finished = subprocess.run([*PROGRAM, *arguments], cwd=folder, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert (finished.returncode, finished.stderr) == (128 + signal.SIGPIPE, b"")


def test_a_reader_of_diagnostics_that_goes_away_is_no_traceback(folder: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    finished = subprocess.run([*PROGRAM, "compile", "bad.py", "-o", "out"], cwd=folder, stdout=writer, stderr=writer)
    os.close(writer)
    assert finished.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize(
    "arguments", [["schema"], ["show", "ir", "small.py"], ["check", "small.py", "--format", "json"]]
)
def test_a_full_disk_behind_standard_output_is_a_diagnostic(folder: Path, arguments: list[str]) -> None:
    with Path("/dev/full").open("wb") as full:
        finished = subprocess.run([*PROGRAM, *arguments], cwd=folder, stdout=full, stderr=subprocess.PIPE)
    assert finished.returncode == 3
    assert b"E_OUTPUT" in finished.stderr
    assert b"No space left on device" in finished.stderr
    assert b"Traceback" not in finished.stderr


def test_a_closed_standard_output_is_no_traceback(folder: Path) -> None:
    command = " ".join((*PROGRAM, "compile", "small.py", "-o", "out", ">&-"))
    finished = subprocess.run(["bash", "-c", command], cwd=folder, stderr=subprocess.PIPE)
    assert (finished.returncode, finished.stderr) == (0, b"")
    assert (folder / "out/mkosi.conf").is_file()


def test_no_escape_sequences_where_nobody_watches(folder: Path) -> None:
    for arguments in (["compile", "bad.py", "-o", "out"], ["doctor"], ["--help"], ["compil"]):
        outcome = process(*arguments, cwd=folder, TERM="xterm-256color")
        assert "\x1b" not in outcome.out + outcome.err


@pytest.mark.parametrize(("colours", "coloured"), [("", True), ("1", False)])
def test_colour_is_for_a_terminal_and_can_be_switched_off(folder: Path, colours: str, coloured: bool) -> None:
    import pty

    controller, terminal = pty.openpty()
    variables = {**os.environ, "TERM": "xterm-256color", **({"NO_COLOR": colours} if colours else {})}
    subprocess.run([*PROGRAM, "compile", "bad.py", "-o", "out"], cwd=folder, stderr=terminal, env=variables)
    os.close(terminal)
    printed = b""
    with contextlib.suppress(OSError):  # how a terminal without programs ends
        while data := os.read(controller, 1 << 16):
            printed += data
    os.close(controller)
    assert b"error[E_KEY]" in printed
    assert (b"\x1b[" in printed) == coloured


def test_a_diagnostic_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    """What it repeats may be anybody's: a name in a certificate, the words of a tool, a recipe of somebody else's."""
    notes = (Note(message="b\x9b2J\u202e"),)
    report([Diagnostic(code=Code.E_VALUE, message="a\x07\tz\x7f", span=SourceSpan(), notes=notes, fix="c\x0fü")])
    assert capsys.readouterr().err == ("error[E_VALUE]: a\\x07 z\\x7f\n  note: b\\x9b2J\\u202e\n  fix: c\\x0fü\n")


def test_a_fault_of_tdxc_is_a_diagnostic_that_asks_for_a_report(capsys: pytest.CaptureFixture[str]) -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError("oh")

    assert run(broken, []) == 70
    message = capsys.readouterr().err
    assert "error[E_INTERNAL]: ZeroDivisionError: oh (in broken, test_cli_boundary.py:" in message
    assert "TDXC_DEBUG=1" in message


def test_debugging_lets_a_fault_through(monkeypatch: pytest.MonkeyPatch) -> None:
    @click.command()
    def broken() -> None:
        raise ZeroDivisionError("oh")

    monkeypatch.setenv("TDXC_DEBUG", "1")
    with pytest.raises(ZeroDivisionError):
        run(broken, [])


@pytest.mark.parametrize("locale", ["C", "POSIX", "en_US.ISO-8859-1"])
def test_any_locale_prints_any_text(folder: Path, locale: str) -> None:
    (folder / "ünï.py").write_text('from tdx import Image\nimg = Image("x")\nimg.install("ü")\n')
    outcome = process("compile", "ünï.py", "-o", "out", cwd=folder, LC_ALL=locale, PYTHONIOENCODING="")
    assert outcome.status == 1
    assert ":3:1: error[" in outcome.err


def test_the_folder_of_the_command_may_be_gone(folder: Path) -> None:
    gone = folder / "gone"
    gone.mkdir()
    command = f"cd {gone} && rmdir {gone} && {' '.join(PROGRAM)} compile {folder}/small.py -o out"
    finished = subprocess.run(["bash", "-c", command], stderr=subprocess.PIPE, text=True)
    assert finished.returncode in {1, 3}
    assert "Traceback" not in finished.stderr
    assert "error[E_" in finished.stderr
