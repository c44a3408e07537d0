"""A build that fails while mkosi makes all images at once, as where no package source can be asked beforehand."""

from __future__ import annotations

import json
import shlex
from collections.abc import Sequence
from pathlib import Path

import attrs
import pytest
from support.played_tool import ToolInPlace
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.backends.base import BakeRequest
from tdxc_runtime.backends.engine import bake_with
from tdxc_runtime.backends.mkosi_tool import BakeFolders
from tdxc_runtime.process import Bind, Completed, LineCallback

SUMMARY: dict[str, object] = {
    "Distribution": "debian",
    "Release": "trixie",
    "Repositories": [],
    "Mirror": "https://m.example/debian",
    "LocalMirror": None,
    "Seed": "84ecb3f1-a580-4caf-aa8b-ea8375cbb856",
    "SandboxTrees": [],
}


@attrs.frozen
class FailingTool(ToolInPlace):
    """A mkosi beside which there is no apt, and which prints some lines and fails."""

    printed: tuple[str, ...]
    version: str = "25.3"
    description: str = "played"

    def run_beside(self, argv: Sequence[str], binds: Sequence[Bind]) -> Completed | None:
        return None

    def run(
        self,
        arguments: Sequence[str],
        folders: BakeFolders,
        *,
        on_line: LineCallback | None = None,
        log: Path | None = None,
        capture: bool = False,
        check: bool = True,
    ) -> Completed:
        if capture:
            summary = json.dumps({"Images": [SUMMARY]}).encode()
            return Completed(argv=("mkosi",), status=0, seconds=0.0, stdout=summary)
        for line in self.printed:
            if on_line:
                on_line(line)
        return Completed(argv=("mkosi",), status=1, seconds=0.0, lines=self.printed[-3:], log=log)


def failure(tmp_path: Path, *printed: str) -> tuple[Code, str, str]:
    tree = tmp_path / "tree"
    (tree / ".tdxc").mkdir(parents=True)
    (tree / "mkosi.conf").touch()
    build = {"profiles": [], "language": "c", "network": False, "packages": [], "inputs": {}}
    (tree / ".tdxc/builds.json").write_text(json.dumps({"format": 1, "builds": {"tool": build}}))
    request = BakeRequest(
        tree=tree, output=tmp_path / "out", cache=tmp_path / "cache", recipe="my recipe.py", log=tmp_path / "log"
    )
    with pytest.raises(DiagnosticError) as raised:
        bake_with(lambda: FailingTool(printed), request)
    (found,) = raised.value.diagnostics
    assert found.notes[-1].message == f"the whole log is in {tmp_path}/log"
    assert printed[-1] in [note.message for note in found.notes]
    assert not (tmp_path / "out").exists()
    return found.code, found.message, found.fix


BUILDING = ("‣ Building build-tool image", "‣  Running build script x", "‣ build tool: compiling")


def test_the_build_and_the_way_into_it_are_named(tmp_path: Path) -> None:
    code, message, fix = failure(tmp_path, *BUILDING, *map(str, range(500)), '‣ "x" returned 2.')
    assert (code, message) == (Code.E_BUILD, "build 'tool': mkosi failed with exit status 1 while compiling")
    assert fix.endswith(": " + shlex.join(["tdxc", "build", "my recipe.py", "--debug-shell", "tool"]))


def test_a_failure_of_the_image_itself_is_not_put_on_a_build(tmp_path: Path) -> None:
    code, message, _ = failure(tmp_path, *BUILDING, "‣ Building node image", "‣  Installing Debian", "E: no space")
    assert code is Code.E_BACKEND_EXECUTION
    assert "Installing Debian" in message
