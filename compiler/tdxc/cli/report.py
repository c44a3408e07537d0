"""Printing of diagnostics: text on standard error, or JSON lines where a command was asked for ``--format json``."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Iterable
from pathlib import Path

import click

from tdxc.diagnostics import Diagnostic, Severity
from tdxc.render import Sources, diagnostic_data, render_diagnostics

_SOURCE_LIMIT_BYTES = 1 << 20


def report(diagnostics: Iterable[Diagnostic], sources: Sources | None = None) -> None:
    """Write all diagnostics to standard error, as JSON lines when the running command has ``--format json``."""
    found = list(diagnostics)
    if not found:
        return
    if _wants_json():
        import json

        for diagnostic in found:
            click.echo(json.dumps(diagnostic_data(diagnostic), ensure_ascii=False), err=True)
        return
    text = render_diagnostics(found, sources or sources_below(recipe_root()))
    for line in text.splitlines():
        click.echo(_coloured(line), err=True)
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


def recipe_root() -> Path:
    """The folder that spans are relative to: set by the command that loaded a recipe, else the current one."""
    return _last_root[0]


def set_recipe_root(root: Path) -> None:
    """Remember the recipe's folder, for excerpts in whatever is reported from now on."""
    _last_root[0] = root


_last_root = [Path()]


def _wants_json() -> bool:
    return "json" in _format_arguments(sys.argv)


def _format_arguments(argv: list[str]) -> list[str]:
    values = [argument.partition("=")[2] for argument in argv if argument.startswith("--format=")]
    return values + [value for flag, value in itertools.pairwise(argv) if flag == "--format"]


def _coloured(line: str) -> str:
    if " error[" in f" {line}":
        return click.style(line, fg="red", bold=True)
    if " warning[" in f" {line}":
        return click.style(line, fg="yellow")
    return line
