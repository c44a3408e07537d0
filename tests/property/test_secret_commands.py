"""Command lines with secrets: any text gets a verdict, printers are refused in every dress, others never."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tdxc.passes.secret_commands import SecretNames, exposure, shows_variables

PATH = "/run/secrets/token"
FILE = SecretNames(paths=(PATH, "/run/secrets"))
VARIABLE = SecretNames(variable="TOKEN")
PIECES = st.sampled_from(
    [
        PATH, "/run/secrets", "TOKEN", "$TOKEN", "sh", "-c", "cat", "app", "exec", "<", ">", "|", ";", "&&", "(", ")",
        "$(", "`", "'", '"', "\\", "{", "}", "F=", "env", "-e", "é", " ", "\n", "\0",
    ]
)  # fmt: skip
WORDS = st.lists(st.from_regex(r"--?[a-z]{1,9}(=[a-z0-9/.]{0,9})?", fullmatch=True).filter(lambda word: word != "-c"))
DRESSES = [
    "{} {}",
    "/usr/bin/{} {}",
    "-/usr/bin/{} --option {}",
    "/usr/bin/env A=b {} {}",
    "/usr/bin/timeout 5 {} {}",
    "/bin/sh -c '{} {}'",
    "/bin/sh -c 'exec {} -x {} >/dev/null'",
    "/bin/sh -c 'true; {} <{}'",
    "/bin/sh -c '(true);{} {}'",
    "/bin/sh -c 'A=b {} {}'",
    "/bin/sh -c 'if true; then {} {}; fi'",
    "/bin/bash -euc 'sh -c \"{} {}\"'",
]


@given(st.one_of(st.text(), st.lists(PIECES).map("".join), st.lists(PIECES).map(" ".join)))
def test_any_text_gets_a_verdict(command: str) -> None:
    for names in (FILE, VARIABLE):
        assert isinstance(exposure(command, names), str)
    shows_variables(command)


@pytest.mark.parametrize("dress", DRESSES)
@pytest.mark.parametrize("reader", ["cat", "head", "xargs", "sed", "grep", "jq", "od", "logger"])
def test_a_program_that_prints_is_refused_in_every_dress(reader: str, dress: str) -> None:
    assert exposure(dress.format(reader, PATH), FILE)
    assert not exposure(dress.format(reader, "/run/other/token"), FILE)


@given(dress=st.sampled_from(DRESSES), before=WORDS, after=WORDS)
def test_a_program_that_does_not_print_is_never_refused(dress: str, before: list[str], after: list[str]) -> None:
    program = " ".join(["my-prover", *before])
    assert exposure(dress.format(program, " ".join([PATH, *after])), FILE) == ""
