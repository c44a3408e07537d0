"""The local engine: bakes a compiled tree with the mkosi of this machine or of the tools root."""

from __future__ import annotations

from pathlib import Path

import attrs

from tdxc_runtime.backends.base import BakeOutput, BakeRequest, Progress
from tdxc_runtime.backends.engine import bake_with
from tdxc_runtime.backends.mkosi_tool import MkosiTool, find_mkosi
from tdxc_runtime.toolsroot.contents import DEFAULT_SUITE


@attrs.frozen(kw_only=True)
class LocalBackend:
    """Runs mkosi on this machine. ``suite``: Debian suite of the tools root, should one be needed."""

    name: str = "local"
    suite: str = DEFAULT_SUITE

    def bake(self, request: BakeRequest) -> BakeOutput:
        """See :func:`tdxc_runtime.backends.engine.bake_with`."""
        return bake_with(lambda: self._find_tool(request), request)

    def debug_shell(self, request: BakeRequest, build: str) -> None:
        """See :func:`tdxc_runtime.builds.debug_shell.open_debug_shell`."""
        from tdxc_runtime.builds.debug_shell import open_debug_shell

        open_debug_shell(lambda: self._find_tool(request), request, build)

    def _find_tool(self, request: BakeRequest) -> MkosiTool:
        return find_mkosi(cache=request.cache, mirror=request.mirror, progress=request.progress, suite=self.suite)


def bake(
    tree: Path,
    output: Path,
    *,
    profiles: tuple[str, ...] = (),
    mirror: str = "",
    cache: Path | None = None,
    log: Path | None = None,
    progress: Progress | None = None,
    on_line: Progress | None = None,
    suite: str = DEFAULT_SUITE,
) -> BakeOutput:
    """Bake the mkosi tree ``tree`` into the folder ``output`` with the local engine.

    For the arguments see :class:`~tdxc_runtime.backends.base.BakeRequest`, for the errors
    :func:`~tdxc_runtime.backends.engine.bake_with`.
    """
    request = BakeRequest(
        tree=tree,
        output=output,
        profiles=profiles,
        mirror=mirror,
        cache=cache,
        log=log,
        progress=progress,
        on_line=on_line,
    )
    return LocalBackend(suite=suite).bake(request)
