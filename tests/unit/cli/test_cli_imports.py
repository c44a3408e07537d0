"""What commands import: start-up is most of a small compile's time, and the compiler must not need the runtime."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import BAD, BASIC, EXAMPLES, SMALL

PROBE = """
import sys
from tdxc.cli.boundary import run
from tdxc.cli.main import tdxc
status = run(tdxc, sys.argv[1:])
with open("modules", "w") as file:
    file.write("\\n".join(sys.modules))
sys.exit(status)
"""

LIBRARIES = {"lark", "jinja2", "cattrs", "rich", "ruamel", "cryptography", "platformdirs", "pefile", "hypothesis"}


def imported(folder: Path, *arguments: str, status: int = 0) -> set[str]:
    """Every module that a command leaves in ``sys.modules``, and each of their packages."""
    finished = subprocess.run([sys.executable, "-c", PROBE, *arguments], cwd=folder, capture_output=True, text=True)
    assert finished.returncode == status, finished.stderr
    names = (folder / "modules").read_text().split("\n")
    return {name for full in names for name in (full, full.partition(".")[0])}


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["--version"]])
def test_help_imports_click_and_little_else(tmp_path: Path, arguments: list[str]) -> None:
    modules = imported(tmp_path, *arguments)
    assert not modules & (LIBRARIES | {"attr", "attrs", "tdx", "tdxc_emitters", "tdxc_runtime", "tdxc.ir"})


def test_help_of_a_command_imports_no_heavy_library(tmp_path: Path) -> None:
    for name in ("compile", "build", "run", "show", "doctor"):
        modules = imported(tmp_path, name, "--help")
        assert not modules & (LIBRARIES | {"tdx", "tdxc_emitters", "tdxc_runtime"}), name


def test_compile_imports_only_what_the_recipe_needs(tmp_path: Path) -> None:
    modules = imported(tmp_path, "compile", str(BASIC), "-o", "out")
    assert not modules & (LIBRARIES | {"tdxc_runtime", "tdxc.bake", "tdx.yaml"})


def test_compile_makes_no_class_with_attrs(tmp_path: Path) -> None:
    """attrs generates and compiles code for each class, a fifth of a compile in all; see tdxc.records."""
    modules = imported(tmp_path, "compile", str(EXAMPLES / "full_api.py"), "-o", "out")
    assert not modules & {"attr", "attrs"}


def test_a_second_compile_imports_nothing_that_writes(tmp_path: Path) -> None:
    imported(tmp_path, "compile", str(BASIC), "-o", "out")
    modules = imported(tmp_path, "compile", str(BASIC), "-o", "out")
    assert not modules & (LIBRARIES | {"tdxc_runtime", "ctypes", "shutil", "tempfile"})


def test_compile_imports_jinja2_for_a_template_alone(tmp_path: Path) -> None:
    (tmp_path / "recipe.py").write_text(SMALL + 'img.template("/etc/x", content="{{ a }}", vars={"a": 1})\n')
    modules = imported(tmp_path, "compile", "recipe.py", "-o", "out")
    assert "jinja2" in modules
    assert not modules & ((LIBRARIES - {"jinja2"}) | {"tdxc_runtime"})


def test_compile_of_yaml_imports_its_parser_alone(tmp_path: Path) -> None:
    modules = imported(tmp_path, "compile", str(BASIC.with_suffix(".yaml")), "-o", "out")
    assert "ruamel" in modules
    assert not modules & ((LIBRARIES - {"ruamel"}) | {"tdxc_runtime"})


def test_a_diagnosed_recipe_needs_no_library_to_be_reported(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text(BAD)
    modules = imported(tmp_path, "compile", "bad.py", "-o", "out", status=1)
    assert not modules & (LIBRARIES | {"tdxc_emitters", "tdxc_runtime"})
