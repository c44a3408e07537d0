"""The examples: both forms of each are one image and one tree, and the quickstart's verbs do what they say."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tdx._load import load_recipe
from tdxc import driver
from tdxc.ir import AuthoredImage, codec
from tdxc.tree import FileTree

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = ROOT / "examples"
PYTHON = sorted(EXAMPLES.glob("*.py"))


def _compiled(image: AuthoredImage) -> FileTree:
    tree = driver.compile_image(image).tree
    return FileTree({path: tree[path] for path in tree if not path.startswith(".tdxc/")})


def test_every_example_exists_in_both_forms() -> None:
    assert [path.stem for path in PYTHON] == [path.stem for path in sorted(EXAMPLES.glob("*.yaml"))]
    assert {"qemu_basic", "quickstart", "full_api", "multi_profile_cloud", "nethermind_tdx"} <= {p.stem for p in PYTHON}


@pytest.mark.parametrize("path", PYTHON, ids=lambda path: path.stem)
def test_both_forms_are_one_image_and_one_tree(path: Path) -> None:
    python, yaml = load_recipe(path), load_recipe(path.with_suffix(".yaml"))
    assert python.image == yaml.image
    assert codec.digest(python.image) == codec.digest(yaml.image)
    assert python.backend == yaml.backend
    assert _compiled(python.image) == _compiled(yaml.image)


def test_moving_lines_of_a_recipe_changes_no_reviewed_file(tmp_path: Path) -> None:
    text = (EXAMPLES / "qemu_basic.py").read_text()
    (tmp_path / "other_name").write_text("\n\n# a comment\n" + text.replace("img.install", "\nimg.install"))
    moved, original = load_recipe(tmp_path / "other_name").image, load_recipe(EXAMPLES / "qemu_basic.py").image
    assert moved.span != original.span
    assert _compiled(moved) == _compiled(original)


def _digest(folder: Path, **environment: str) -> str:
    program = (
        "import sys; from tdx._load import load_recipe; from tdxc.ir.codec import digest;"
        "print(digest(load_recipe(sys.argv[1]).image))"
    )
    return subprocess.run(
        [sys.executable, "-c", program, str(EXAMPLES / "full_api.py")],
        cwd=folder, env=os.environ | environment, capture_output=True, text=True, check=True, timeout=120,
    ).stdout  # fmt: skip


def test_digest_depends_on_nothing_but_the_recipe(tmp_path: Path) -> None:
    first = _digest(ROOT, PYTHONHASHSEED="1", TZ="UTC", LC_ALL="C")
    assert first == _digest(tmp_path, PYTHONHASHSEED="2", TZ="Asia/Tokyo", LC_ALL="C.UTF-8")


def _run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "recipe.py"], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


def test_frozen_bake_refuses_when_the_recipe_changed(tmp_path: Path) -> None:
    quickstart = (EXAMPLES / "quickstart.py").read_text()
    without_bake = quickstart.replace("result = img.bake(frozen=True)", "")
    (tmp_path / "recipe.py").write_text(without_bake)
    done = _run(tmp_path)
    assert (done.returncode, done.stdout) == (0, ""), done.stderr
    assert (tmp_path / "build" / "mkosi" / "mkosi.conf").is_file()
    changed = quickstart.replace('"jq")', '"jq", "less")').replace("img.lock()", "")
    (tmp_path / "recipe.py").write_text(changed)
    done = _run(tmp_path)
    assert done.returncode == 4
    assert "error[E_LOCKFILE]: the lockfile does not fit the recipe" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "build" / "output").exists()
