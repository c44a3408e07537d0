"""Where a bake works: its folders, its package sources, and the mkosi that runs there."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import attrs

from tdxc_runtime.backends.base import BakeRequest
from tdxc_runtime.backends.mkosi_tool import BakeFolders, MkosiInRoot, MkosiTool, version_tuple
from tdxc_runtime.backends.package_sources import TreeSources, cached_suites, read_summary, write_sandbox_tree
from tdxc_runtime.builds.packages import METADATA_CACHE, METADATA_KEY, share_lists
from tdxc_runtime.toolsroot.apt_sources import Mirror
from tdxc_runtime.toolsroot.cache import cache_folder

_OWN_METADATA = (27,)
"""The first mkosi that keeps the lists of packages apart from the package cache."""


@attrs.frozen(kw_only=True)
class Workplace:
    """Everything that mkosi needs besides the tree. ``mirror``: the one that was written down, if any."""

    tool: MkosiTool
    folders: BakeFolders
    profiles: tuple[str, ...]
    offline: bool
    sources: TreeSources
    mirror: Mirror | None

    @property
    def seen(self) -> BakeFolders:
        """The folders as mkosi sees them."""
        return self.tool.folders(self.folders)

    @property
    def is_here(self) -> bool:
        """Whether mkosi works on our own files, rather than on copies in a virtual machine."""
        return self.seen.scratch == self.folders.scratch or isinstance(self.tool, MkosiInRoot)

    def arguments(self, *more: str) -> list[str]:
        """The command line of a build, without ``mkosi`` itself; ``more`` goes before the verb."""
        seen = self.seen
        return [
            *tree_arguments(seen.tree, self.profiles),
            f"--output-directory={seen.output}",
            f"--workspace-directory={seen.work}",
            f"--package-cache-directory={seen.packages}",
            *self._metadata_arguments(),
            f"--sandbox-tree={seen.sandbox}",
            *(["--cache-only=always"] if self.offline else []),
            *more,
            "build",
        ]

    def _metadata_arguments(self) -> list[str]:
        """Where a mkosi that would throw the lists of packages away keeps them; older ones have no such setting."""
        if version_tuple(self.tool.version) < _OWN_METADATA:
            return []
        return [f"--cache-directory={self.seen.packages / METADATA_CACHE}", f"--cache-key={METADATA_KEY}"]


def prepare_workplace(request: BakeRequest, tool: MkosiTool, scratch: Path) -> Workplace:
    """Make the folders of a bake below ``scratch`` and in the cache, and write down where its packages come from.

    Raises DiagnosticError: E_BACKEND_EXECUTION when mkosi does not understand the tree, E_VALUE for a bad mirror.
    """
    cache = request.cache or cache_folder()
    folders = BakeFolders(
        tree=request.tree,
        scratch=scratch,
        packages=cache / "packages",
        build=cache / "build" / hashlib.sha256(os.fsencode(request.tree)).hexdigest()[:16],
    )
    folders.create()
    share_lists(folders.packages)
    seen = tool.folders(folders)
    tool.send(folders)
    summary = tool.run([*tree_arguments(seen.tree, request.profiles), "--json", "summary"], folders, capture=True)
    sources = read_summary(summary.stdout, tree_inside=seen.tree, tree=folders.tree)
    has_suite = cached_suites(folders.packages) if request.offline else None
    tools_etc = tool.root.root / "etc" if isinstance(tool, MkosiInRoot) else None
    mirror = write_sandbox_tree(folders.sandbox, sources, request.mirror, has_suite=has_suite, tools_etc=tools_etc)
    return Workplace(
        tool=tool,
        folders=folders,
        profiles=request.profiles,
        offline=request.offline,
        sources=sources,
        mirror=mirror,
    )


def tree_arguments(tree: Path, profiles: tuple[str, ...]) -> list[str]:
    """The arguments that choose a tree and the profiles of it."""
    return ["--directory", str(tree), *(f"--profile={name}" for name in profiles)]
