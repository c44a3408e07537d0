"""What the real mkosi of a tools root makes of a tree: its configuration as data, and its warnings."""

from __future__ import annotations

import functools
import json
import tempfile
from pathlib import Path
from typing import Any

import attrs
from tdxc.tree import FileTree
from tdxc.writer import write_tree
from tdxc_runtime.process import Bind
from tdxc_runtime.toolsroot import ToolsRoot

INSIDE = Path("/mnt/tree")


@functools.cache
def tools_root(suite: str) -> ToolsRoot:
    """The tools root of a suite, made at most once a test session."""
    return ToolsRoot.ensure(suite=suite)


@attrs.frozen(kw_only=True)
class Summary:
    """The main image's settings by mkosi's names, those of the builds, and all that mkosi printed beside them."""

    image: dict[str, Any]
    complaints: tuple[str, ...]
    builds: dict[str, dict[str, Any]] = attrs.field(factory=dict)

    def paths(self, setting: str) -> list[str]:
        """A list of paths, relative to the tree."""
        entries = self.image.get(setting) or []
        sources = [entry["Source"] if isinstance(entry, dict) else entry for entry in entries]
        return [str(Path(source).relative_to(INSIDE)) for source in sources]


def summarise(tree: FileTree, suite: str, profiles: tuple[str, ...] = ()) -> Summary:
    """Write the tree and let mkosi read it; fails the test when mkosi refuses it."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name) / "tree"
        write_tree(tree, folder)
        completed = tools_root(suite).run(
            ["mkosi", "--directory", str(INSIDE), *(f"--profile={p}" for p in profiles), "--json", "summary"],
            binds=[Bind(source=folder, target=INSIDE)],
            check=False,
            capture=True,
            timeout_s=120,
        )
    assert completed.status == 0, completed.lines
    images = json.loads(completed.stdout)["Images"]
    builds = {image["Output"]: image for image in images[:-1]}
    return Summary(image=images[-1], complaints=completed.lines, builds=builds)
