"""A mkosi that is played: what every such stand-in has in common, with nothing to carry between host and tool."""

from __future__ import annotations

from collections.abc import Sequence

from tdxc_runtime.backends.mkosi_tool import BakeFolders


class ToolInPlace:
    """The parts of a tool that works in the host's own folders and is never attached to a terminal."""

    def folders(self, folders: BakeFolders) -> BakeFolders:
        """The folders as the tool sees them."""
        return folders

    def send(self, folders: BakeFolders) -> None:
        """Nothing: it sees them already."""

    def fetch(self, folders: BakeFolders) -> None:
        """Nothing: what it makes is there already."""

    def attach(self, arguments: Sequence[str], folders: BakeFolders) -> int:
        """No test has a terminal."""
        raise AssertionError
