"""Runs the tools of the build host: lines streamed as they come, the whole log kept, nothing left behind.

Every command is started through :mod:`tdxc_runtime.supervisor`, which kills all its descendants and deletes its scratch
folders when it ends, when this program raises, and when this program itself is killed. A failed command raises
E_BACKEND_EXECUTION with its last lines, its log and a line that runs it again; a command that cannot be started raises
E_BACKEND_UNAVAILABLE.

Example::

    completed = run(["systemd-analyze", "verify", "app.service"], on_line=print, timeout_s=60)
"""

from __future__ import annotations

import collections
import contextlib
import json
import os
import selectors
import shlex
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import FrameType
from typing import IO, Self

import attrs
from tdxc.diagnostics import Code, DiagnosticError, Note

from tdxc_runtime.supervisor.main import SETUP_FAILED, IdMap

LineCallback = Callable[[str], None]

_KEPT_LINES = 400
_SHOWN_LINES = 15
_STOP_GRACE_S = 120.0
_BOOTSTRAP = (
    f"import sys; sys.path.insert(0, {str(Path(__file__).resolve().parent.parent)!r}); "
    "from tdxc_runtime.supervisor.main import main; main()"
)


@attrs.frozen(kw_only=True)
class Bind:
    """A file or folder of the host made visible inside a confined root, at its own path unless ``target`` is given."""

    source: Path
    target: Path | None = None
    writable: bool = False


@attrs.frozen(kw_only=True)
class Confinement:
    """What a command is shut into.

    ``namespaces``: own mount and PID namespaces. ``root``: folder to become ``/`` (mounted at ``staging``, an empty
    folder), with ``binds`` and the nodes ``devices`` of ``/dev`` in it. ``id_map``: a user namespace for callers
    that are not root. ``cleanup``: folders deleted when the command has ended, however it or we ended.
    """

    namespaces: bool = False
    root: Path | None = None
    staging: Path | None = None
    binds: tuple[Bind, ...] = ()
    devices: tuple[str, ...] = ()
    id_map: IdMap | None = None
    cleanup: tuple[Path, ...] = ()


UNCONFINED = Confinement()


@attrs.frozen(kw_only=True)
class Completed:
    """A command that has ended: exit status (128 + n after signal n), duration, last lines (both streams), output."""

    argv: tuple[str, ...]
    status: int
    seconds: float
    lines: tuple[str, ...] = ()
    stdout: bytes = b""
    log: Path | None = None


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP arrived; unwinds like Ctrl-C so that every ``finally`` runs."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


@contextlib.contextmanager
def stop_on_signals() -> Iterator[None]:
    """Turn SIGTERM and SIGHUP into :class:`Stopped` within the block; does nothing outside the main thread."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        raise Stopped(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def rerunnable(argv: Sequence[str], *, cwd: Path | None = None) -> str:
    """A line that runs the command again when pasted into a shell. The environment is left out: it may hold secrets."""
    line = shlex.join(argv)
    return f"cd {shlex.quote(str(cwd))} && {line}" if cwd else line


def run(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    on_line: LineCallback | None = None,
    log: Path | None = None,
    timeout_s: float | None = None,
    check: bool = True,
    capture: bool = False,
    umask: int = -1,
    confinement: Confinement = UNCONFINED,
    rerun: str | None = None,
) -> Completed:
    """Run a command to its end.

    ``env`` replaces the environment. Lines of both streams go to ``on_line`` and, all of them, to ``log`` (appended).
    With ``capture``, standard output is kept apart as bytes and only standard error is treated as lines.
    ``umask`` is inherited unless given. ``rerun`` is the line to show in an error where ``argv`` alone would not do.

    Raises DiagnosticError: E_BACKEND_UNAVAILABLE when the command cannot be started, E_BACKEND_EXECUTION when it
    fails (with ``check``) or takes longer than ``timeout_s``.
    """
    started = time.monotonic()
    with start(argv, cwd=cwd, env=env, capture=capture, umask=umask, confinement=confinement) as running:
        lines = _follow(running, on_line=on_line, log=log, deadline=None if timeout_s is None else started + timeout_s)
        status = running.finish()
    completed = Completed(
        argv=tuple(argv),
        status=status,
        seconds=time.monotonic() - started,
        lines=tuple(lines),
        stdout=bytes(running.captured),
        log=log,
    )
    again = rerun or rerunnable(argv, cwd=cwd)
    if running.timed_out:
        raise _failure(completed, f"{argv[0]} took longer than {timeout_s:g} s and was stopped", again)
    if check and status:
        raise _failure(completed, f"{argv[0]} {describe_status(status)}", again)
    return completed


def describe_status(status: int) -> str:
    """An exit status in words."""
    if status > 128:
        with contextlib.suppress(ValueError):
            return f"was ended by {signal.Signals(status - 128).name}"
    return f"failed with exit status {status}"


def _failure(completed: Completed, message: str, again: str) -> DiagnosticError:
    notes = [Note(message=line) for line in completed.lines[-_SHOWN_LINES:]]
    if completed.log is not None:
        notes.append(Note(message=f"the whole log is in {completed.log}"))
    return DiagnosticError.of(Code.E_BACKEND_EXECUTION, message, notes=tuple(notes), fix=f"run it again with: {again}")


class Running:
    """A command that has been started; use it as a context manager, which stops it on the way out if it still runs."""

    def __init__(self, popen: subprocess.Popen[bytes], argv: Sequence[str], lifeline: int, report: int) -> None:
        self.popen = popen
        self.argv = tuple(argv)
        self.captured = bytearray()
        self.timed_out = False
        self._lifeline: int | None = lifeline
        self._report: int | None = report

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def finish(self) -> int:
        """Wait for the end and return the exit status; raises E_BACKEND_UNAVAILABLE if the command never started."""
        status = self.popen.wait()
        fault = self._read_report()
        self.stop()
        if status == SETUP_FAILED and fault:
            raise _unavailable(self.argv, fault)
        return status

    def stop(self) -> None:
        """Kill the command with all its descendants and wait until its scratch folders are gone. Idempotent."""
        if self._lifeline is not None:
            os.close(self._lifeline)
            self._lifeline = None
        try:
            self.popen.wait(_STOP_GRACE_S)
        except subprocess.TimeoutExpired:
            self.popen.kill()
            self.popen.wait()
        for stream in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if stream is not None:
                with contextlib.suppress(BrokenPipeError):
                    stream.close()
        if self._report is not None:
            os.close(self._report)
            self._report = None

    def _read_report(self) -> str:
        if self._report is None:
            return ""
        data = os.read(self._report, 65536)
        return str(json.loads(data)["message"]) if data else ""


def start(
    argv: Sequence[str],
    *,
    cwd: Path | None = None,
    env: Mapping[str, str] | None = None,
    capture: bool = False,
    stdin: int | None = None,
    interactive: bool = False,
    umask: int = -1,
    confinement: Confinement = UNCONFINED,
) -> Running:
    """Start a command under the supervisor and return at once.

    ``interactive`` leaves it our terminal and our process group; otherwise its output comes through pipes, standard
    input is empty (or ``stdin``, e.g. ``subprocess.PIPE``), and it gets a session of its own, so that a Ctrl-C
    reaches only us.
    """
    lifeline_read, lifeline_write = os.pipe()
    report_read, report_write = os.pipe()
    os.set_blocking(report_read, False)
    specification = {
        "argv": [os.fspath(word) for word in argv],
        "cwd": str(cwd) if cwd else None,
        "lifeline": lifeline_read,
        "report": report_write,
        "interactive": interactive,
        **_confinement_words(confinement),
    }
    try:
        popen = subprocess.Popen(
            [sys.executable, "-I", "-S", "-c", _BOOTSTRAP, json.dumps(specification)],
            env=None if env is None else dict(env),
            stdin=None if interactive else (subprocess.DEVNULL if stdin is None else stdin),
            stdout=None if interactive else subprocess.PIPE,
            stderr=None if interactive else (subprocess.PIPE if capture else subprocess.STDOUT),
            start_new_session=not interactive,
            umask=umask,
            pass_fds=(lifeline_read, report_write),
        )
    except BaseException:
        os.close(lifeline_write)
        os.close(report_read)
        raise
    finally:
        os.close(lifeline_read)
        os.close(report_write)
    return Running(popen, argv, lifeline_write, report_read)


def _confinement_words(confinement: Confinement) -> dict[str, object]:
    return {
        "namespaces": confinement.namespaces,
        "id_map": confinement.id_map,
        "root": str(confinement.root) if confinement.root else None,
        "staging": str(confinement.staging) if confinement.staging else None,
        "binds": [(str(b.source), str(b.target or b.source), b.writable) for b in confinement.binds],
        "devices": list(confinement.devices),
        "cleanup": [str(path) for path in confinement.cleanup],
    }


def _unavailable(argv: Sequence[str], fault: str) -> DiagnosticError:
    return DiagnosticError.of(
        Code.E_BACKEND_UNAVAILABLE,
        f"cannot start {argv[0]}: {fault}",
        fix="run `tdxc doctor` to see what of the environment is missing and how to mend it",
    )


def _follow(
    running: Running, *, on_line: LineCallback | None, log: Path | None, deadline: float | None
) -> collections.deque[str]:
    """Read both streams until they end; keeps the last lines. Stops the command at the deadline."""
    kept: collections.deque[str] = collections.deque(maxlen=_KEPT_LINES)
    popen = running.popen
    with contextlib.ExitStack() as stack:
        log_file = stack.enter_context(log.open("ab")) if log else None
        selector = stack.enter_context(selectors.DefaultSelector())
        if popen.stderr is not None:
            selector.register(_descriptor(popen.stderr), selectors.EVENT_READ, "lines")
        if popen.stdout is not None:
            kind = "lines" if popen.stderr is None else "captured"
            selector.register(_descriptor(popen.stdout), selectors.EVENT_READ, kind)
        splitter = LineSplitter()
        while selector.get_map():
            ready = selector.select(None if deadline is None else max(0.0, deadline - time.monotonic()))
            if not ready and deadline is not None and time.monotonic() >= deadline:
                running.timed_out = True
                break
            for key, _ in ready:
                data = os.read(key.fd, 65536)
                if not data:
                    selector.unregister(key.fd)
                elif key.data == "captured":
                    running.captured += data
                else:
                    _take(splitter.feed(data), kept, on_line)
                if log_file and data:
                    log_file.write(data)
                    log_file.flush()
        _take(splitter.rest(), kept, on_line)
    if running.timed_out:
        running.stop()
    return kept


def _take(lines: list[str], kept: collections.deque[str], on_line: LineCallback | None) -> None:
    for line in lines:
        kept.append(line)
        if on_line:
            on_line(line)


def _descriptor(stream: IO[bytes]) -> int:
    return stream.fileno()


class LineSplitter:
    """Cuts a byte stream into lines of text; bytes that are not UTF-8 become U+FFFD, a carriage return is dropped."""

    def __init__(self) -> None:
        self._pending = b""

    def feed(self, data: bytes) -> list[str]:
        """The lines that ``data`` completes."""
        *complete, self._pending = (self._pending + data).split(b"\n")
        return [_text(line) for line in complete]

    @property
    def pending(self) -> str:
        """What has come of the line that is not complete yet."""
        return _text(self._pending)

    def rest(self) -> list[str]:
        """The last line, when the stream ends without a newline."""
        last, self._pending = self._pending, b""
        return [_text(last)] if last else []


def _text(line: bytes) -> str:
    return line.decode("utf-8", errors="replace").rstrip("\r")
