"""Single files that commands write, on a disk that takes nothing: a diagnostic, and not even an empty file."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import pytest
from support.commands import PROGRAM, invoke, process, project, state


def _no_space() -> None:
    """Let every write to a file fail, as on a full disk (Python ignores SIGXFSZ, so write(2) gives EFBIG)."""
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))


@pytest.mark.parametrize(
    "arguments",
    [
        ["init"],
        ["init", "--yaml"],
        ["lock", "small.py", "--lockfile", "tdx.lock"],
        ["show", "boot", "small.py", "--svg", "boot.svg"],
    ],
    ids=" ".join,
)
def test_nothing_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str]) -> None:
    project(tmp_path, monkeypatch)
    before = state(tmp_path)
    finished = subprocess.run(
        [*PROGRAM, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=60, preexec_fn=_no_space
    )
    assert finished.returncode == 3, finished.stderr
    assert "error[E_OUTPUT]" in finished.stderr
    assert state(tmp_path) == before


def test_a_device_is_written_to_and_not_replaced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project(tmp_path, monkeypatch)
    assert invoke("show", "boot", "small.py", "--svg", "/dev/null").status == 0
    assert Path("/dev/null").is_char_device()


def test_a_recipe_whose_name_is_not_utf8(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = project(tmp_path, monkeypatch)
    (folder / "small.py").rename(folder / "\udcff.py")
    outcome = process("compile", "\udcff.py", "-o", "out", "--format", "json", cwd=folder)
    assert outcome.status == 1
    assert [fault["code"] for fault in outcome.diagnostics()] == ["E_ENCODING"]


def test_the_commands_that_init_prints_are_quoted_for_a_shell(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert "tdxc check 'my image/recipe.py'" in invoke("init", "my image").out
