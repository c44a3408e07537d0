"""Type checkers see the DSL's real signatures: a right recipe passes ``mypy --strict``, a wrong one does not."""

from __future__ import annotations

from pathlib import Path

from mypy import api

ROOT = Path(__file__).resolve().parents[3]

WRONG = """\
from tdx import Image, Kernel
from tdx.policy import Policy

img = Image("x")
img.service("app", exec="/usr/bin/app", restrat="always")
img.service("app", exec="/usr/bin/app", restart="allways")
img.install(7)
img.docs = "no"
img.kernal = None
img.instal("curl")
Kernel.tdx(version=6)
Policy(network_mode="of")
img.bake(forzen=True)
name: int = img.name
"""


def test_mypy_finds_each_mistake_of_a_recipe_and_none_in_the_examples(tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.py"
    wrong.write_text(WRONG)
    examples = [str(path) for path in sorted((ROOT / "examples").glob("*.py"))]
    output, errors, _status = api.run(
        ["--strict", "--config-file", str(ROOT / "pyproject.toml"), "--no-pretty", str(wrong), *examples]
    )
    assert errors == ""
    lines = [line.split(":")[:2] for line in output.splitlines() if ": error:" in line]
    assert [int(line) for file, line in lines if file.endswith("wrong.py")] == list(range(5, 15))
    assert not [file for file, _line in lines if "examples" in file], output
