"""The error boundary: every exception of a command becomes a message and an exit status, never a traceback."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path

import click

from tdxc.diagnostics import Code, Diagnostic, DiagnosticError

INTERNAL_STATUS = Code.E_INTERNAL.exit_status
_DEBUG_VARIABLE = "TDXC_DEBUG"


def run(group: click.Command, argv: list[str]) -> int:
    """Run a click command; returns its exit status. ``TDXC_DEBUG=1`` lets internal errors through as tracebacks."""
    try:
        result = group.main(args=argv, standalone_mode=False)
        _flush()
    except DiagnosticError as error:
        from tdxc.cli.report import report

        report(error.diagnostics)
        return error.exit_status
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return error.exit_code
    except (click.Abort, KeyboardInterrupt):
        sys.stderr.write("\ntdxc: interrupted\n")
        return 128 + signal.SIGINT
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 128 + signal.SIGPIPE
    except Exception as error:
        if os.environ.get(_DEBUG_VARIABLE):
            raise
        return _internal(error)
    return result if isinstance(result, int) else 0


def _flush() -> None:
    """Meet a closed pipe here rather than at interpreter exit, where Python would print about it."""
    sys.stdout.flush()


def _internal(error: Exception) -> int:
    import traceback

    from tdxc.cli.report import report

    frame = traceback.extract_tb(error.__traceback__)[-1]
    where = f"{frame.name}, {Path(frame.filename).name}:{frame.lineno}"
    report(
        [
            Diagnostic(
                code=Code.E_INTERNAL,
                message=f"{type(error).__name__}: {error} (in {where})",
                fix=f"this is a fault of tdxc: please report it with what the command prints under {_DEBUG_VARIABLE}=1",
            )
        ]
    )
    return INTERNAL_STATUS
