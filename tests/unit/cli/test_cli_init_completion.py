"""``tdxc init`` and ``tdxc completion``: what a newcomer runs first."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import invoke, state
from tdxc.cli.main import COMMANDS


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(("flags", "name"), [((), "recipe.py"), (("--yaml",), "recipe.yaml")])
def test_the_first_recipe_compiles_without_a_warning(flags: tuple[str, ...], name: str) -> None:
    created = invoke("init", "my-image", *flags)
    assert (created.status, created.err) == (0, "")
    assert f"wrote my-image/{name}" in created.out
    assert invoke("check", f"my-image/{name}").out == f"my-image/{name}: no errors, no warnings\n"
    assert invoke("compile", f"my-image/{name}", "-o", "out").status == 0


def test_both_forms_are_the_same_image() -> None:
    invoke("init", "a/same")
    invoke("init", "b/same", "--yaml")
    assert invoke("diff", "a/same/recipe.py", "b/same/recipe.yaml").out == "no change\n"


def test_every_command_that_init_prints_works() -> None:
    lines = invoke("init", "x").out.splitlines()[1:]
    for line in lines:
        program, *arguments = line.split()
        assert program == "tdxc"
        if arguments[0] != "build":
            assert invoke(*arguments).status == 0


def test_nothing_is_overwritten(folder: Path) -> None:
    (folder / "recipe.py").write_text("mine")
    before = state(folder)
    outcome = invoke("init")
    assert outcome.status == 3
    assert "error[E_OUTPUT]: 'recipe.py' exists" in outcome.err
    assert state(folder) == before


@pytest.mark.parametrize(
    ("folder_name", "image"), [("My Image", "my-image"), ("Über_Prover.v2", "ber-prover-v2"), ("---", "image")]
)
def test_the_image_is_named_after_the_folder(folder_name: str, image: str) -> None:
    assert invoke("init", "--", folder_name).status == 0
    assert f'Image("{image}"' in Path(folder_name, "recipe.py").read_text()


@pytest.mark.parametrize("name", ["A", "a b", '"', "-x", ""])
def test_an_impossible_name_is_refused(name: str) -> None:
    outcome = invoke("init", "x", "--name", name)
    assert outcome.status == 1
    assert "error[E_VALUE]" in outcome.err
    assert not Path("x").exists()


def test_a_folder_that_cannot_be_made_is_a_diagnostic(folder: Path) -> None:
    (folder / "file").write_text("x")
    outcome = invoke("init", "file/sub")
    assert outcome.status == 3
    assert "error[E_OUTPUT]" in outcome.err


@pytest.mark.parametrize("program", ["tdxc", "tdx"])
def test_bash_completes_commands_and_options(folder: Path, program: str) -> None:
    (folder / "completion").write_text(invoke("completion", "bash", "--program", program).out)
    words = ["com", "compile --mk"]
    calls = [
        f"COMP_WORDS=(PROGRAM {line}); COMP_CWORD={len(line.split())}; _PROGRAM_completion PROGRAM" for line in words
    ]
    shown = "printf '%s\\n' \"${COMPREPLY[@]}\""
    script = "; ".join(["set -eu; source ./completion; complete -p PROGRAM", *(f"{call}; {shown}" for call in calls)])
    finished = subprocess.run(
        ["bash", "-c", script.replace("PROGRAM", program)],
        cwd=folder,
        env={**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"},
        capture_output=True,
        text=True,
    )
    assert (finished.returncode, finished.stderr) == (0, "")
    assert {"compile", "completion", "--mkosi-override"} <= set(finished.stdout.split())


@pytest.mark.parametrize("shell", ["zsh", "fish"])
def test_other_shells_get_a_script_that_they_can_parse(folder: Path, shell: str) -> None:
    outcome = invoke("completion", shell)
    assert outcome.status == 0
    assert "_TDXC_COMPLETE" in outcome.out
    (folder / "completion").write_text(outcome.out)
    if shutil.which(shell):
        subprocess.run([shell, "-n", "completion"], cwd=folder, check=True)


def test_completion_offers_every_command(folder: Path) -> None:
    from click.shell_completion import ShellComplete
    from tdxc.cli.main import tdxc

    offered = ShellComplete(tdxc, {}, "tdxc", "_TDXC_COMPLETE").get_completions([], "")
    assert [item.value for item in offered] == list(COMMANDS)
