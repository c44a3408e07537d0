"""``--format json``: one valid document for success, one object per line for diagnostics, and no word besides."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.commands import SMALL, invoke, project
from tdxc.cli.main import COMMANDS, tdxc
from tdxc.cli.show import ASPECTS

DIAGNOSTIC_KEYS = {"code", "severity", "message", "file", "line", "column", "notes", "fix"}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return project(tmp_path, monkeypatch)


def test_compile(folder: Path) -> None:
    outcome = invoke("compile", "small.py", "-o", "out", "--format", "json")
    summary = outcome.data()
    assert (outcome.status, outcome.err) == (0, "")
    assert summary.keys() == {"output", "recipe_digest", "written", "removed", "unchanged"}
    assert "mkosi.conf" in summary["written"]


def test_check_of_a_good_recipe(folder: Path) -> None:
    assert invoke("check", "small.py", "--format=json").data() == {
        "recipe": "small.py", "errors": 0, "warnings": 0, "diagnostics": [],
    }  # fmt: skip


def test_check_of_a_bad_recipe_gives_everything_in_one_document(folder: Path) -> None:
    outcome = invoke("check", "bad.py", "--format", "json")
    found = outcome.data()
    assert (outcome.status, outcome.err) == (1, "")
    assert (found["errors"], found["warnings"]) == (2, 0)
    assert [(d["code"], d["file"], d["line"], d["column"]) for d in found["diagnostics"]] == [
        ("E_KEY", "bad.py", 3, 7),
        ("E_PATH", "bad.py", 4, 1),
    ]
    assert all(d.keys() == DIAGNOSTIC_KEYS for d in found["diagnostics"])


@pytest.mark.parametrize(
    "arguments",
    [
        ["compile", "bad.py", "-o", "out", "--format", "json"],
        ["compile", "--format=json", "bad.py", "-o", "out"],
        ["build", "bad.py", "--emit-mkosi", "out", "--format", "json"],
        ["show", "ir", "bad.py", "--format", "json"],
        ["diff", "bad.py", "small.py", "--format", "json"],
    ],
)
def test_errors_are_one_object_per_line_on_standard_error(folder: Path, arguments: list[str]) -> None:
    outcome = invoke(*arguments)
    assert (outcome.status, outcome.out) == (1, "")
    assert [d["code"] for d in outcome.diagnostics()] == ["E_KEY", "E_PATH"]
    assert all(d.keys() == DIAGNOSTIC_KEYS for d in outcome.diagnostics())
    assert outcome.diagnostics()[0]["fix"] == "did you mean 'base'?"


@pytest.mark.parametrize(
    ("arguments", "message", "fix"),
    [
        (["check", "--format", "json"], "Missing argument 'RECIPE'.", "see `tdxc check --help`"),
        (["chek", "small.py", "--format=json"], "No such command 'chek'. Did you mean 'check'?", "see `tdxc --help`"),
        (["check", "--format=json", "small.py", "--strickt"], "'--strickt'", "see `tdxc check --help`"),
        (["compile", "small.py", "--format", "json"], "Missing option '-o' / '--output'", "see `tdxc compile --help`"),
        (["cache", "why", "--format", "json"], "name a build: `tdxc cache why BUILD`", "see `tdxc cache --help`"),
        (["completion", "--format", "json"], "'--format'", "see `tdxc completion --help`"),
        (["measure", "x", "--boot", "no", "--format=json"], "'no' is not one of", "see `tdxc measure --help`"),
    ],
)
def test_a_wrong_command_line_is_an_object_too(folder: Path, arguments: list[str], message: str, fix: str) -> None:
    outcome = invoke(*arguments)
    assert (outcome.status, outcome.out) == (2, "")
    [found] = outcome.diagnostics()
    assert found.keys() == DIAGNOSTIC_KEYS
    assert (found["code"], found["severity"], found["file"], found["fix"]) == ("E_USAGE", "error", None, fix)
    assert message in found["message"]


def test_a_wrong_command_line_is_usage_for_people(folder: Path) -> None:
    outcome = invoke("check", "small.py", "--strickt")
    assert (outcome.status, outcome.out) == (2, "")
    assert outcome.err.startswith("Usage: tdxc check [OPTIONS] RECIPE\n")


def test_warnings_are_objects_beside_the_document(folder: Path) -> None:
    (folder / "warns.py").write_text(SMALL + 'img.service("b", exec="/usr/bin/b", after=["apq.service"])\n')
    outcome = invoke("compile", "warns.py", "-o", "out", "--format", "json")
    assert outcome.data()["output"] == "out"
    assert [d["severity"] for d in outcome.diagnostics()] == ["warning"]
    assert [d["code"] for d in invoke("check", "warns.py", "--format", "json").data()["diagnostics"]] == [
        "W_UNKNOWN_UNIT"
    ]


def test_an_unknown_place_is_null(folder: Path) -> None:
    found = invoke("compile", "small.py", "-o", "small.py", "--format", "json").diagnostics()[0]
    assert (found["code"], found["file"], found["line"], found["column"]) == ("E_OUTPUT", None, None, None)


@pytest.mark.parametrize("aspect", [aspect for aspect in ASPECTS if aspect not in {"firmware", "size"}])
def test_every_aspect(folder: Path, aspect: str) -> None:
    outcome = invoke("show", aspect, "small.py", "--format", "json")
    assert (outcome.status, outcome.err) == (0, "")
    data = outcome.data()
    if aspect in {"ir", "authored"}:
        assert data["image"]["name"] == "small"
    else:
        assert data
        assert all(row.keys() == data[0].keys() for row in data)


def test_an_aspect_without_rows_is_an_empty_list(folder: Path) -> None:
    (folder / "bare.py").write_text('from tdx import Image\nimg = Image("bare")\n')
    assert invoke("show", "firewall", "bare.py", "--format", "json").data() == []
    assert invoke("show", "firewall", "bare.py").out == "(none)\n"


def test_diff(folder: Path) -> None:
    (folder / "other.py").write_text(SMALL.replace("ca-certificates", "jq"))
    outcome = invoke("diff", "small.py", "other.py", "--format", "json")
    assert outcome.status == 4
    assert [(c["kind"], c["place"]) for c in outcome.data()["changes"]] == [
        ("-", "packages[ca-certificates]"),
        ("+", "packages[jq]"),
    ]
    assert {"kind": "~", "path": "mkosi.conf"} in outcome.data()["files"]
    assert invoke("diff", "small.py", "small.py", "--format", "json").data() == {"changes": [], "files": []}


def test_doctor(folder: Path) -> None:
    outcome = invoke("doctor", "--format", "json")
    assert outcome.status in {0, 3}
    assert all(row.keys() == {"name", "status", "detail", "fix"} for row in outcome.data())
    assert (outcome.status == 3) == any(row["status"] == "fail" for row in outcome.data())


def test_lock(folder: Path) -> None:
    outcome = invoke("lock", "small.py", "--format", "json")
    assert outcome.data()["lockfile"] == "build/tdx.lock"
    assert invoke("lock", "small.py", "--check", "--format", "json").data() == outcome.data()


def test_passes(folder: Path) -> None:
    listed = invoke("passes", "--format", "json").data()
    timed = invoke("passes", "small.py", "--format", "json").data()
    assert [row["pass"] for row in listed] == [row["pass"] for row in timed]
    assert all(row["milliseconds"] is None for row in listed)
    assert all(row["milliseconds"] >= 0 for row in timed)


def test_explain(folder: Path) -> None:
    for arguments in (["E_PATH"], ["debloat", "small.py"]):
        found = invoke("explain", *arguments, "--format", "json").data()
        text = invoke("explain", *arguments).out
        assert found == {"topic": arguments[0], "explanation": text.removesuffix("\n")}
    unknown = invoke("explain", "E_PTAH", "--format", "json")
    assert [d["code"] for d in unknown.diagnostics()] == ["E_REFERENCE"]


def test_init(folder: Path) -> None:
    outcome = invoke("init", "new", "--format", "json")
    assert outcome.data()["recipe"] == "new/recipe.py"
    for command in outcome.data()["next"][:2]:
        assert invoke(*command.split()[1:]).status == 0
    again = invoke("init", "new", "--format", "json")
    assert [d["code"] for d in again.diagnostics()] == ["E_OUTPUT"]


def test_schema_is_json_by_itself(folder: Path) -> None:
    assert invoke("schema").data()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


def test_every_command_that_prints_results_knows_the_option() -> None:
    import click

    without = {"run", "schema", "completion"}
    for name in COMMANDS:
        command = tdxc.get_command(click.Context(tdxc), name)
        assert command is not None
        assert any("--format" in parameter.opts for parameter in command.params) == (name not in without), name


def test_text_is_utf8_and_not_escaped(folder: Path) -> None:
    (folder / "bad.py").write_text('from tdx import Image\nimg = Image("x")\nimg.file("/ünï", contents="x")\n')
    line = invoke("compile", "bad.py", "-o", "out", "--format", "json").err.splitlines()[0]
    assert json.loads(line)["line"] == 3
    assert "\\u00" not in line
