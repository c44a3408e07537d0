"""Progress of long commands: steps with their times on standard error, a spinner only where someone is watching."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING, Self

import click

if TYPE_CHECKING:
    from rich.status import Status


class Steps:
    """Prints each step when the next one begins, with how long it took.

    On a terminal the running step is shown with a spinner (rich); elsewhere each step is one plain line.
    """

    def __init__(self, *, verbose: bool = False) -> None:
        self._verbose = verbose
        self._began = self._step_began = time.monotonic()
        self._step = ""
        self._status: Status | None = None

    def __enter__(self) -> Self:
        if sys.stderr.isatty() and not self._verbose:
            from rich.console import Console

            self._status = Console(stderr=True).status("")
            self._status.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._status is not None:
            self._status.stop()
        self._finish_step()
        if error is None:
            click.echo(f"{time.monotonic() - self._began:7.1f} s  in all", err=True)

    def step(self, text: str) -> None:
        """Begin a step."""
        self._finish_step()
        self._step, self._step_began = text, time.monotonic()
        if self._status is not None:
            from rich.text import Text

            self._status.update(Text(text))

    def line(self, text: str) -> None:
        """A line of a tool's output; printed only when asked for."""
        if self._verbose:
            click.echo(text, err=True)

    def _finish_step(self) -> None:
        if self._step:
            click.echo(f"{time.monotonic() - self._step_began:7.1f} s  {self._step}", err=True)
            self._step = ""
