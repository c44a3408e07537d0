"""Printing of diagnostics: text on standard error, or JSON lines where a command was asked for ``--format json``."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Sequence
from pathlib import Path

import click

from tdxc.diagnostics import Diagnostic, Severity
from tdxc.render import Sources, diagnostic_data, render_diagnostics

_SOURCE_LIMIT_BYTES = 1 << 20


def report(diagnostics: Iterable[Diagnostic], *, as_json: bool = False) -> None:
    """Write diagnostics to standard error: as text with excerpts of the recipe, or one JSON object per line."""
    found = list(diagnostics)
    if as_json:
        import json

        for diagnostic in found:
            click.echo(json.dumps(diagnostic_data(diagnostic), ensure_ascii=False), err=True)
        return
    text = render_diagnostics(found, sources_below(_last_root[0]))
    colour = False if os.environ.get("NO_COLOR") else None
    for line in text.splitlines():
        click.echo(_coloured(_printable(line)), err=True, color=colour)
    errors = sum(d.severity is Severity.ERROR for d in found)
    if errors > 1:
        click.echo(f"\n{errors} errors", err=True)


def sources_below(root: Path) -> Sources:
    """Reads recipe files for excerpts; what cannot be read has no excerpt."""

    def read(file: str) -> str | None:
        path = root / file
        try:
            if not path.is_file() or path.stat().st_size > _SOURCE_LIMIT_BYTES:
                return None
            return path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            return None

    return read


def set_recipe_root(root: Path) -> None:
    """Remember the recipe's folder, for excerpts in whatever is reported from now on."""
    _last_root[0] = root


_last_root = [Path()]


def asks_for_json(argv: Sequence[str]) -> bool:
    """Whether a command line has ``--format json``: known even of one that failed before or while it was parsed."""
    return "--format=json" in argv or ("--format", "json") in itertools.pairwise(argv)


def _printable(line: str) -> str:
    """A line without what moves a terminal's cursor: it may repeat a recipe, a tool, or whatever answers there."""
    if line.isprintable():
        return line
    return "".join(ch if ch.isprintable() else " " if ch.isspace() else ascii(ch)[1:-1] for ch in line)


def _coloured(line: str) -> str:
    if " error[" in f" {line}":
        return click.style(line, fg="red", bold=True)
    if " warning[" in f" {line}":
        return click.style(line, fg="yellow")
    return line
