"""Values come out of their real readers exactly as given, or are refused: bash, dash, and doctest-like fixed cases."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tdxc import quoting
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

NASTY = [
    "",
    " ",
    "a b",
    "'",
    '"',
    "\\",
    "$HOME",
    "${HOME}",
    "`id`",
    "$(id)",
    "%n",
    "%",
    "é",
    "a\nb",
    "-n",
    "*",
    "~",
    "#x",
    ";",
]

any_text = st.one_of(st.sampled_from(NASTY), st.text(st.characters(codec="utf-8"), max_size=30))


@pytest.mark.parametrize("shell", ["bash", "dash"])
@given(values=st.lists(any_text, max_size=20))
@settings(deadline=None, max_examples=40)
def test_shell_words_come_out_of_a_shell_as_given(shell: str, values: list[str]) -> None:
    words = [value for value in values if "\0" not in value]
    script = f'set -- {quoting.shell_words(words)}\nfor w in "$@"; do printf \'%s\\0\' "$w"; done'
    done = subprocess.run([shell, "-c", script], capture_output=True, check=True)
    assert done.stdout.decode().split("\0")[:-1] == words


@given(value=any_text)
def test_a_shell_comment_never_ends_its_line(value: str) -> None:
    assert len(f"# {quoting.shell_comment(value)}".splitlines()) == 1


@pytest.mark.parametrize(
    ("write", "value", "reason"),
    [
        (quoting.shell_word, "a\0b", "NUL"),
        (quoting.unit_directive, "a\nb", "control character"),
        (quoting.unit_directive, " a", "strips leading"),
        (quoting.unit_directive, "a\\", "continues"),
        (quoting.unit_text, "a\ud800", "code point"),
        (quoting.unit_text, "\ufdd0", "code point"),
        (quoting.unit_directive, "x" * (1 << 20), "1 MiB"),
        (quoting.unit_path, "etc/x", "not absolute"),
        (quoting.unit_path, "/a/../b", "not normalised"),
        (quoting.environment_file, "/etc/*.env", "pattern"),
        (quoting.exec_program, '/bin/a"b', "quote"),
        (quoting.sysusers_field, "a:b", "colon"),
        (quoting.sysusers_field, "-", "dash"),
        (quoting.mkosi_value, "a#b", "comment"),
        (quoting.mkosi_value, "a\u2028b", "line by line"),
        (quoting.mkosi_value, "", "empty"),
        (quoting.mkosi_path, "$HOME/x", "expands"),
        (quoting.nft_string, 'a"b', "double quote"),
        (quoting.nft_string, "é" * 64, "127 bytes"),
        (quoting.nft_interface, "eth*", "interface name"),
        (quoting.kernel_word, 'a="b"', "ASCII"),
        (quoting.kernel_word, "a=é", "ASCII"),
        (quoting.kernel_word, "a  b", "blanks"),
    ],
)
def test_what_cannot_be_written_is_refused_with_its_reason(write: Callable[..., str], value: str, reason: str) -> None:
    span = SourceSpan(file="recipe.py", line=3, column=1)
    with pytest.raises(DiagnosticError) as caught:
        write(value, span=span)
    (found,) = caught.value.diagnostics
    assert found.code is Code.E_VALUE
    assert found.span == span
    assert reason in found.message


def test_mkosi_items_refuse_their_delimiter() -> None:
    assert quoting.mkosi_item("libc6", ",") == "libc6"
    with pytest.raises(DiagnosticError, match="no way to quote"):
        quoting.mkosi_item("a,b", ",")


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("console=ttyS0,115200n8", "console=ttyS0,115200n8"),
        ("title=a b", 'title="a b"'),
        ("a b=c", '"a b=c"'),
        ("a= b", '"a= b"'),
    ],
)
def test_kernel_words(value: str, text: str) -> None:
    assert quoting.kernel_word(value) == text


def test_environment_names_are_checked() -> None:
    for write in (quoting.environment_assignment, quoting.mkosi_environment):
        with pytest.raises(DiagnosticError, match="letters, digits"):
            write("A-B", "x")
