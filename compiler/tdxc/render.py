"""Rendering of diagnostics: plain text for people, data for tools. Colour and width are the CLI's business.

Plain form, with the source line and a caret where the file is at hand::

    recipe.py:4:1: error[E_PATH]: destination 'etc/motd' is not absolute
        4 | img.file("etc/motd", content="hi")
          | ^
      fix: write '/etc/motd'

A line on which a secret was found where it must not be (E_SECRET) is never shown, as it may hold the secret itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import Any

from tdxc.diagnostics import Code, Diagnostic, SourceSpan

Sources = Callable[[str], str | None]
"""Gives the text of a recipe file by its name in spans, or None where it cannot be had."""


def no_sources(_file: str) -> None:
    """For callers that have no recipe text at hand."""


def render_diagnostics(diagnostics: Iterable[Diagnostic], sources: Sources = no_sources) -> str:
    """All diagnostics as plain text, one blank line between two, with a final newline (empty for none)."""
    found = list(diagnostics)
    hidden = {(each.span.file, each.span.line) for each in found if each.code is Code.E_SECRET}

    def shown(span: SourceSpan) -> list[str]:
        return [] if (span.file, span.line) in hidden else list(_excerpt(span, sources))

    return "\n".join("\n".join(_lines(diagnostic, shown)) + "\n" for diagnostic in found)


def diagnostic_data(diagnostic: Diagnostic) -> dict[str, Any]:
    """One diagnostic as JSON data; ``file``, ``line`` and ``column`` are null where the place is unknown."""
    return {
        "code": diagnostic.code.value,
        "severity": diagnostic.severity.value,
        "message": diagnostic.message,
        **_span_data(diagnostic.span),
        "notes": [{"message": note.message, **_span_data(note.span)} for note in diagnostic.notes],
        "fix": diagnostic.fix or None,
    }


def _span_data(span: SourceSpan) -> dict[str, Any]:
    return {"file": span.file or None, "line": span.line or None, "column": span.column or None}


def _lines(diagnostic: Diagnostic, excerpt: Callable[[SourceSpan], list[str]]) -> Iterator[str]:
    place = f"{diagnostic.span}: " if str(diagnostic.span) else ""
    yield f"{place}{diagnostic.severity.value}[{diagnostic.code.value}]: {diagnostic.message}"
    yield from excerpt(diagnostic.span)
    for note in diagnostic.notes:
        start = f"  note: {note.span}: " if str(note.span) else "  note: "
        yield start + note.message.replace("\n", "\n" + " " * len(start))
        yield from excerpt(note.span)
    if diagnostic.fix:
        yield f"  fix: {diagnostic.fix}"


def _excerpt(span: SourceSpan, sources: Sources) -> Iterator[str]:
    if not span.line:
        return
    lines = (sources(span.file) or "").splitlines()
    if span.line > len(lines):
        return
    text = lines[span.line - 1].expandtabs(1)[:200]
    yield f"{span.line:5} | {text}"
    if 0 < span.column <= len(text) + 1:
        yield f"      | {' ' * (span.column - 1)}^"
