"""Goldens: what a reviewer sees of each example. ``make golden`` rewrites them; CI never does."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from syrupy.assertion import SnapshotAssertion
from tdx.modules import _guest
from tdxc import driver
from tdxc.ir import Blob, SourceFile
from tdxc.ir.printer import print_ir
from tdxc.render import render_diagnostics
from tdxc.tree import FileTree, TreeFile

from .tree_snapshot import GOLDEN, TreeSnapshot, read_tree, write_tree_files

ROOT = GOLDEN.parent
EXAMPLES = ROOT / "examples"
RECIPES = sorted(
    path.relative_to(EXAMPLES).as_posix().removesuffix(".py").removesuffix("/recipe")
    for path in (*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*/recipe.py"))
    if path.name != "__init__.py"
)


def recipe_path(name: str, suffix: str) -> Path:
    flat = EXAMPLES / f"{name}{suffix}"
    return flat if flat.exists() else EXAMPLES / name / f"recipe{suffix}"


def reviewed(recipe: Path) -> FileTree:
    """The compiled tree without its bookkeeping, the IR before and after the passes, and all warnings."""
    compilation = driver.compile_image(driver.load_recipe(str(recipe)).image)
    tree = FileTree({path: entry for path, entry in compilation.tree.entries.items() if not path.startswith(".tdxc/")})
    resolved = (compilation.compiled.image, *compilation.compiled.variants)
    return tree.merge(
        FileTree(
            {
                "ir/authored.ir": TreeFile.text(print_ir(compilation.authored)),
                **{
                    f"ir/resolved{''.join('-' + p for p in image.profiles)}.ir": TreeFile.text(print_ir(image))
                    for image in resolved
                },
                "ir/ir.json": TreeFile.text(compilation.tree.text(".tdxc/ir.json")),
                "diagnostics.txt": TreeFile.text(_without_places(render_diagnostics(compilation.diagnostics))),
            }
        )
    )


STAND_IN = (
    SourceFile(path="go.mod", content=Blob.of_text("module tdxvm/guest\n\ngo 1.24.0\n")),
    SourceFile(path="main.go", content=Blob.of_text("package main\n\nfunc main() {}\n")),
)


@pytest.fixture(autouse=True)
def sources_of_the_guest(monkeypatch: pytest.MonkeyPatch) -> None:
    """No golden holds the program that runs in the guest: its changes are reviewed where it stands."""
    monkeypatch.setattr(_guest, "program_sources", lambda: STAND_IN)


def _without_places(text: str) -> str:
    """Codes and sentences only: a blank line added to a recipe must change no golden."""
    return "".join(f"{line.partition(': ')[2]}\n" for line in text.splitlines() if "[W_" in line)


@pytest.mark.parametrize("name", RECIPES)
def test_tree_is_as_reviewed(name: str, snapshot: SnapshotAssertion) -> None:
    tree = reviewed(recipe_path(name, ".py"))
    assert tree == snapshot(name=name, extension_class=TreeSnapshot)


@pytest.mark.parametrize("name", RECIPES)
def test_yaml_twin_yields_the_identical_tree(name: str) -> None:
    assert reviewed(recipe_path(name, ".yaml")) == reviewed(recipe_path(name, ".py"))


def test_every_golden_has_its_example() -> None:
    assert {path.name for path in GOLDEN.iterdir()} == set(RECIPES)


def test_no_golden_names_a_recipe_file_or_line() -> None:
    for path in GOLDEN.rglob("*"):
        if path.is_file() and not path.is_symlink():
            text = path.read_text(encoding="utf-8")
            assert not any(f"{name}{suffix}" in text for name in RECIPES for suffix in (".py", ".yaml")), path


def test_read_and_write_of_golden_folders_are_inverse(tmp_path: Path) -> None:
    tree = reviewed(recipe_path("qemu_basic", ".py"))
    write_tree_files(tree, tmp_path / "x")
    assert read_tree(tmp_path / "x") == tree


SURROUNDINGS = [
    {"PYTHONHASHSEED": "0", "TZ": "UTC", "LC_ALL": "C"},
    {"PYTHONHASHSEED": "4711", "TZ": "Pacific/Auckland", "LC_ALL": "C.UTF-8"},
    {"PYTHONHASHSEED": "99", "TZ": "America/St_Johns", "LC_ALL": "POSIX", "HOME": "/nonexistent"},
]


@pytest.mark.parametrize("name", ["multi_profile_cloud", "qemu_basic"])
def test_compile_is_the_same_in_all_surroundings(name: str, tmp_path: Path) -> None:
    trees = []
    for number, (variables, umask) in enumerate(zip(SURROUNDINGS, (0o022, 0o077, 0o002), strict=True)):
        folder = tmp_path / f"folder {number}"
        folder.mkdir()
        command = [sys.executable, "-m", "tdxc.cli", "compile", str(recipe_path(name, ".py")), "-o", "out"]
        subprocess.run(
            command, cwd=folder, env={**os.environ, **variables}, umask=umask, check=True, capture_output=True
        )
        trees.append(read_tree(folder / "out"))
    assert trees[0] == trees[1] == trees[2]
