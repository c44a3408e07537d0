"""Diagnostics: their texts, their order, their rendering, and the one page that lists them."""

from __future__ import annotations

from pathlib import Path

import pytest
from tdxc import records
from tdxc.diagnostic_texts import TEXTS
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, DiagnosticSink, Note, Severity, SourceSpan, nearest
from tdxc.render import diagnostic_data, render_diagnostics

DOCS = Path(__file__).resolve().parents[3] / "docs" / "diagnostics.md"
SPAN = SourceSpan(file="recipe.py", line=2, column=5)


def test_every_code_has_its_long_form() -> None:
    assert set(TEXTS) == set(Code)
    assert all(len(text) > 40 for text in TEXTS.values())


def test_the_page_of_diagnostics_lists_every_code_with_its_text() -> None:
    page = " ".join(DOCS.read_text(encoding="utf-8").split())
    for code, text in TEXTS.items():
        assert f"## {code.value} " in f"{page} ", code
        assert " ".join(text.split()) in page, code


@pytest.mark.parametrize(
    ("code", "status"),
    [(Code.E_PATH, 1), (Code.E_BACKEND_EXECUTION, 3), (Code.E_LOCKFILE, 4), (Code.E_VERIFY, 4), (Code.E_INTERNAL, 70)],
)
def test_exit_statuses(code: Code, status: int) -> None:
    assert DiagnosticError.of(code, "x").exit_status == status


def test_warnings_do_not_stop_and_errors_do() -> None:
    sink = DiagnosticSink()
    sink.add(Code.W_MUTABLE_REF, "w")
    sink.raise_if_errors()
    sink.add(Code.E_PATH, "e")
    with pytest.raises(DiagnosticError):
        sink.raise_if_errors()
    assert Code.W_MUTABLE_REF.severity is Severity.WARNING


def test_rendering_shows_line_caret_notes_and_fix() -> None:
    diagnostic = Diagnostic(
        code=Code.E_PATH,
        message="bad",
        span=SPAN,
        notes=(Note(message="here", span=SourceSpan(file="recipe.py", line=1, column=1)),),
        fix="do this",
    )
    text = render_diagnostics([diagnostic], lambda _file: "one\nimg.file('x')\n")
    assert text == (
        "recipe.py:2:5: error[E_PATH]: bad\n"
        "    2 | img.file('x')\n"
        "      |     ^\n"
        "  note: recipe.py:1:1: here\n"
        "    1 | one\n"
        "      | ^\n"
        "  fix: do this\n"
    )
    assert render_diagnostics([diagnostic]).startswith("recipe.py:2:5: error[E_PATH]: bad\n  note:")
    assert diagnostic_data(diagnostic)["line"] == 2


def test_a_line_with_a_secret_is_not_shown_by_any_diagnostic() -> None:
    secret = Diagnostic(code=Code.E_SECRET, message="bad", span=SPAN, notes=(Note(message="here", span=SPAN),))
    other = Diagnostic(code=Code.E_PATH, message="worse", span=records.evolve(SPAN, column=1))
    text = render_diagnostics([secret, other], lambda _file: "one\npassword='hunter2'\n")
    assert text == (
        "recipe.py:2:5: error[E_SECRET]: bad\n  note: recipe.py:2:5: here\n\nrecipe.py:2:1: error[E_PATH]: worse\n"
    )


def test_a_line_beyond_the_file_has_no_excerpt() -> None:
    diagnostic = Diagnostic(code=Code.E_PATH, message="bad", span=SourceSpan(file="r", line=9, column=1))
    assert render_diagnostics([diagnostic], lambda _file: "") == "r:9:1: error[E_PATH]: bad\n"


def test_nearest() -> None:
    assert nearest("hardenning", ["hardening", "user"]) == "hardening"
    assert nearest("zzz", ["hardening"]) == ""
