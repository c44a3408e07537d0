"""Help and usage errors: what somebody reads who meets tdxc for the first time."""

from __future__ import annotations

from pathlib import Path

import click
import pytest
from support.commands import invoke, process
from tdxc import __version__
from tdxc.cli.main import COMMANDS, tdxc

NAMES = sorted(COMMANDS)


def command(name: str) -> click.Command:
    found = tdxc.get_command(click.Context(tdxc), name)
    assert found is not None
    return found


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_every_command_in_the_order_of_use(flag: str) -> None:
    outcome = invoke(flag)
    places = [outcome.out.index(f"\n  {name} ") for name in COMMANDS]
    assert (outcome.status, outcome.err) == (0, "")
    assert places == sorted(places)


@pytest.mark.parametrize("name", NAMES)
def test_help_of_a_command_is_short_and_names_all_options(name: str) -> None:
    outcome = invoke(name, "--help")
    assert outcome.status == 0
    assert all(len(line) <= 80 for line in outcome.out.splitlines())
    assert len(outcome.out.splitlines()) <= 60
    for parameter in command(name).params:
        if isinstance(parameter, click.Option):
            assert parameter.help, parameter.name
            assert parameter.help.endswith((".", ")")), f"{parameter.name}: {parameter.help}"
            assert all(flag in outcome.out for flag in parameter.opts)


@pytest.mark.parametrize("name", NAMES)
def test_help_begins_with_a_sentence(name: str) -> None:
    first = (command(name).help or "").split("\n\n")[0].strip()
    assert first[0].isupper()
    assert first.endswith((".", ")"))
    assert len(first) <= 160


@pytest.mark.parametrize("name", NAMES)
def test_arguments_of_a_command_are_explained_in_its_help(name: str) -> None:
    for parameter in command(name).params:
        if isinstance(parameter, click.Argument):
            words = (parameter.metavar or parameter.name or "").strip("[]").upper().split("|")
            assert all(word in (command(name).help or "") for word in words), words


def test_without_a_command_the_help_is_printed_with_the_status_of_a_usage_error() -> None:
    outcome = invoke()
    assert outcome.status == 2
    assert "Commands:" in outcome.out + outcome.err


def test_version() -> None:
    assert invoke("--version").out == f"tdxc, version {__version__}\n"


@pytest.mark.parametrize(
    ("arguments", "suggestion"),
    [
        (["compil"], "'compile'"),
        (["mesure"], "'measure'"),
        (["compile", "--outptu", "x", "r.py"], "'--output'"),
        (["build", "--profiles", "x", "r.py"], "'--profile'"),
        (["show", "unit", "r.py"], "'units'"),
    ],
)
def test_a_misspelt_word_is_answered_with_the_nearest_one(arguments: list[str], suggestion: str) -> None:
    outcome = invoke(*arguments)
    assert outcome.status == 2
    assert outcome.out == ""
    assert suggestion in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [["compile"], ["compile", "r.py"], ["show", "ir"], ["diff", "a"], ["run", "--vcpus", "0"],
     ["compile", "small.py", "-o", "x", "--format", "xml"]],
)  # fmt: skip
def test_a_missing_or_impossible_argument_is_a_usage_error(arguments: list[str]) -> None:
    outcome = invoke(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    assert "Error:" in outcome.err


def test_both_console_scripts_are_the_same_program(tmp_path: Path) -> None:
    from importlib.metadata import entry_points

    scripts = {
        point.name: point.value for point in entry_points(group="console_scripts") if point.name in {"tdx", "tdxc"}
    }
    assert scripts == {"tdx": "tdxc.cli.__main__:main", "tdxc": "tdxc.cli.__main__:main"}
    assert process("--version", cwd=tmp_path).out == invoke("--version").out
