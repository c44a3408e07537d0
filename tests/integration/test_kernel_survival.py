"""The survival check against the real Kconfig of trixie's kernel: what cannot be is named, everything else survives.

The recipe asks for all that fragments of ours exist for, and for three things that cannot be; the build ends at the
check, before anything of the kernel is compiled.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest
from support.commands import PROGRAM, ROOT

pytestmark = pytest.mark.integration

SECONDS = 1200


@pytest.fixture(scope="module")
def outcome(tmp_path_factory: pytest.TempPathFactory) -> tuple[int, str, list[str]]:
    """Exit status, what the user sees, and the kernel's own lines of the log."""
    folder: Path = tmp_path_factory.mktemp("survival")
    command = [*PROGRAM, "build", str(ROOT / "tests/recipes/kernels.py"), "--log", "bake.log", "--verbose"]
    finished = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS)
    seen = finished.stdout + finished.stderr
    return (
        finished.returncode,
        seen,
        [line[line.index("kernel: ") :] for line in seen.splitlines() if "kernel: " in line],
    )


def test_the_build_fails_before_it_compiles_and_says_why(outcome: tuple[int, str, list[str]]) -> None:
    status, seen, _ = outcome
    assert status == 1
    assert "error[E_BUILD]" in seen
    assert "'kernel'" in seen
    assert "  CC  " not in seen


def test_each_impossible_option_is_named_with_its_unmet_dependency(outcome: tuple[int, str, list[str]]) -> None:
    lines = outcome[2]
    at = lines.index("kernel: error: CONFIG_SND_HDA_INTEL=y was asked for, and is n")
    assert lines[at + 1 : at + 4] == [
        "kernel:   asked for: the recipe asks for it",
        "kernel:   CONFIG_SND_HDA_INTEL needs SOUND [=n]",
        "kernel:   CONFIG_SND_HDA_INTEL needs SND [=n]",
    ]
    assert "kernel:   fix: set what it needs in config=, or leave CONFIG_SND_HDA_INTEL out" in lines
    assert "kernel:   CONFIG_NO_SUCH_OPTION is no option of this kernel" in lines


def test_a_default_that_the_recipe_displaces_is_named_with_the_way_to_give_it_up(
    outcome: tuple[int, str, list[str]],
) -> None:
    lines = outcome[2]
    assert "kernel:   CONFIG_KERNEL_ZSTD is one of a choice, of which KERNEL_GZIP is set" in lines
    assert any('give it up with config={"KERNEL_ZSTD": "n"}' in line for line in lines)


def test_everything_else_survives(outcome: tuple[int, str, list[str]]) -> None:
    found = {match[1] for line in outcome[2] if (match := re.match(r"kernel: error: CONFIG_(\w+)=", line))}
    assert found == {"SND_HDA_INTEL", "NO_SUCH_OPTION", "KERNEL_ZSTD"}
    assert not [line for line in outcome[2] if line.startswith("kernel: note:")]
