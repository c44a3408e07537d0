"""The error boundary: every exception of a command becomes a message and an exit status, never a traceback."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, TextIO

import click

if TYPE_CHECKING:
    from tdxc.diagnostics import DiagnosticError

_DEBUG_VARIABLE = "TDXC_DEBUG"
_PROGRAMS = ("tdxc", "tdx")


class _Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP has come: unwinds as Ctrl-C does, so that nothing half-written stays."""

    def __init__(self, number: int) -> None:
        self.number = number
        super().__init__(signal.Signals(number).name)


def run(group: click.Command, argv: list[str]) -> int:
    """Run a click command; returns its exit status. ``TDXC_DEBUG=1`` lets internal errors through as tracebacks.

    A process that is ended by a signal returns 128 and the signal's number, as shells count.
    """
    try:
        with _unwinding_signals():
            return _run(group, argv)
    except (click.Abort, KeyboardInterrupt) as error:
        return 128 + int(getattr(error, "number", signal.SIGINT))
    except BrokenPipeError:
        _discard(sys.stdout, sys.stderr)
        return 128 + signal.SIGPIPE


def _run(group: click.Command, argv: list[str]) -> int:
    try:
        result = _dispatch(group, argv)
        _flush()
    except click.exceptions.Exit as error:
        _flush()
        return error.exit_code
    except click.UsageError as error:
        return _report_usage(error, argv)
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, BrokenPipeError):
        raise
    except Exception as error:
        from tdxc.diagnostics import DiagnosticError

        if os.environ.get(_DEBUG_VARIABLE) and not isinstance(error, DiagnosticError):
            raise
        return _report(error, argv)
    return result if isinstance(result, int) else 0


def _dispatch(group: click.Command, argv: list[str]) -> object:
    """What ``group.main`` does, without its answers to interrupts and closed pipes, which are this module's."""
    program = Path(sys.argv[0]).name
    program = program if program in _PROGRAMS else _PROGRAMS[0]
    variable = f"_{program.upper()}_COMPLETE"
    if variable in os.environ:
        from click.shell_completion import shell_complete

        return shell_complete(group, {}, program, variable, os.environ[variable])
    with group.make_context(program, list(argv), color=False if os.environ.get("NO_COLOR") else None) as ctx:
        return group.invoke(ctx)


@contextmanager
def _unwinding_signals() -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, _frame: FrameType | None) -> None:
        raise _Terminated(number)

    before = {number: signal.signal(number, stop) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _flush() -> None:
    """Meet a closed pipe or a full disk here rather than at interpreter exit, where Python would print about it."""
    if sys.stdout is not None:
        sys.stdout.flush()


def _discard(*streams: TextIO | None) -> None:
    """Send what is left in these streams nowhere, so that the interpreter's own flush at exit meets no error."""
    void = os.open(os.devnull, os.O_WRONLY)
    for stream in streams:
        if stream is not None:
            os.dup2(void, stream.fileno())


def _report(error: Exception, argv: list[str]) -> int:
    """Print what went wrong as diagnostics."""
    from tdxc.cli.report import asks_for_json, report
    from tdxc.diagnostics import DiagnosticError

    if not isinstance(error, DiagnosticError):
        error = _environment(error) if isinstance(error, OSError) else _internal(error)
    report(error.diagnostics, as_json=asks_for_json(argv))
    return error.exit_status


def _report_usage(error: click.UsageError, argv: list[str]) -> int:
    """A command line that is wrong: click's own text for people, with the usage above it; data like all else."""
    from tdxc.cli.report import asks_for_json, report
    from tdxc.diagnostics import Code, Diagnostic

    if not asks_for_json(argv):
        error.show()
        return error.exit_code
    message = " ".join(error.format_message().split())
    command = error.ctx.command_path if error.ctx else _PROGRAMS[0]
    report([Diagnostic(code=Code.E_USAGE, message=message, fix=f"see `{command} --help`")], as_json=True)
    return Code.E_USAGE.exit_status


def _environment(error: OSError) -> DiagnosticError:
    """An operating system's refusal that no command met where it happened."""
    from tdxc.diagnostics import Code, DiagnosticError

    where = f"'{os.fsdecode(error.filename)}'" if isinstance(error.filename, (str, bytes)) else "the output"
    if error.filename is None:
        _discard(sys.stdout)
    return DiagnosticError.of(
        Code.E_OUTPUT,
        f"cannot read or write {where}: {error.strerror or error}",
        fix=f"check the disk and its permissions; {_DEBUG_VARIABLE}=1 shows where tdxc met this",
    )


def _internal(error: Exception) -> DiagnosticError:
    import traceback

    from tdxc.diagnostics import Code, DiagnosticError

    frames = traceback.extract_tb(error.__traceback__)
    where = f" (in {frames[-1].name}, {Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    return DiagnosticError.of(
        Code.E_INTERNAL,
        f"{type(error).__name__}: {error}{where}",
        fix=f"this is a fault of tdxc: please report it with what the command prints under {_DEBUG_VARIABLE}=1",
    )
