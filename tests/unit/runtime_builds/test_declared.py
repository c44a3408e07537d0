"""What a compiled tree says of its builds, and a shell for one of them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from support.commands import ROOT
from tdxc import driver
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.builds import cache_key, read_builds
from tdxc_runtime.builds.debug_shell import find_build
from tdxc_runtime.builds.declared import DECLARATION, DeclaredBuild

ENTRY: dict[str, Any] = {"profiles": [], "language": "go", "network": False, "packages": ["gcc"], "inputs": {"a": "1"}}


def declare(tree: Path, text: str) -> None:
    (tree / DECLARATION).parent.mkdir(parents=True, exist_ok=True)
    (tree / DECLARATION).write_text(text, encoding="utf-8")


def test_a_tree_without_a_declaration_has_no_builds(tmp_path: Path) -> None:
    assert read_builds(tmp_path, ()) == ()


def test_builds_of_profiles_count_when_one_of_them_is_chosen(tmp_path: Path) -> None:
    builds = {"base": ENTRY, "dev": {**ENTRY, "profiles": ["dev", "test"]}, "gcp": {**ENTRY, "profiles": ["gcp"]}}
    declare(tmp_path, json.dumps({"format": 1, "builds": builds}))
    assert [build.name for build in read_builds(tmp_path, ())] == ["base"]
    assert [build.name for build in read_builds(tmp_path, ("test",))] == ["base", "dev"]
    assert [build.name for build in read_builds(tmp_path, ("dev", "gcp"))] == ["base", "dev", "gcp"]


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        '{"format": 2, "builds": {}}',
        '{"format": 1, "builds": []}',
        '{"format": 1, "builds": {"a": {}}}',
        json.dumps({"format": 1, "builds": {"a": {**ENTRY, "inputs": []}}}),
        json.dumps({"format": 1, "builds": {"a": {**ENTRY, "packages": "gcc"}}}),
    ],
)
def test_a_damaged_declaration_is_refused(tmp_path: Path, text: str) -> None:
    declare(tmp_path, text)
    with pytest.raises(DiagnosticError) as raised:
        read_builds(tmp_path, ())
    assert raised.value.diagnostics[0].code is Code.E_BACKEND_EXECUTION


def declared(recipe: Path, folder: Path) -> dict[str, DeclaredBuild]:
    compilation = driver.compile_image(driver.load_recipe(str(recipe)).image)
    driver.write_compilation(compilation, folder)
    return {build.name: build for build in read_builds(folder, ())}


def test_a_recipe_says_the_same_wherever_it_lies_and_in_whatever_order(tmp_path: Path) -> None:
    """Blank lines, another folder, another image and other builds beside: the keys stay. A flag: one key changes."""
    builds = ROOT / "examples/builds"
    head = "from tdx import Build, Image\nimg = Image('{}', base='debian/trixie')\n"
    go = "Build.go(name='hello-go', src={!r}, output='/usr/bin/hello-go', outside=True{})"
    rust = f"Build.rust(name='hello-rust', src={str(builds / 'hello-rust')!r}, output='/usr/bin/r', outside=True)"
    source = str(builds / "hello-go")
    variants = {
        "one": head.format("one") + f"img.build({go.format(source, '')})\n",
        "two": "\n\n" + head.format("two") + f"img.install('jq')\nimg.build({rust}, {go.format(source, '')})\n",
        "flag": head.format("one") + f"img.build({go.format(source, ', ldflags=' + repr('-X main.a=b'))})\n",
    }
    keys = {}
    for name, text in variants.items():
        folder = tmp_path / name
        folder.mkdir()
        (folder / "recipe.py").write_text(text)
        keys[name] = cache_key(declared(folder / "recipe.py", folder / "out")["hello-go"].inputs)
    assert keys["one"] == keys["two"]
    assert keys["flag"] != keys["one"]


@pytest.mark.parametrize(
    ("rev", "moving"), [("v1.2", "v1.2"), ("0a" * 20, ""), ("0a" * 32, ""), ("0a" * 19, "0a" * 19)]
)
def test_a_branch_or_tag_in_a_recipe_is_a_moving_source(tmp_path: Path, rev: str, moving: str) -> None:
    source = f"git('https://example.com/x.git', rev={rev!r})"
    (tmp_path / "recipe.py").write_text(
        "from tdx import Build, Image, git\nimg = Image('node', base='debian/trixie')\n"
        f"img.build(Build.go(name='node', src={source}, output='/usr/bin/node'))\n"
    )
    assert declared(tmp_path / "recipe.py", tmp_path / "out")["node"].moving_source == moving


def test_the_build_of_a_shell_has_to_exist() -> None:
    builds = (DeclaredBuild(name="hello-go"), DeclaredBuild(name="hello-c"))
    assert find_build(builds, "hello-c") is builds[1]
    for given, name, words in ((builds, "helo-go", "did you mean 'hello-go'"), ((), "x", "name one of its builds")):
        with pytest.raises(DiagnosticError) as raised:
            find_build(given, name)
        assert raised.value.diagnostics[0].code is Code.E_REFERENCE
        assert words in raised.value.diagnostics[0].fix
