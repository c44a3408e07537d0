"""A shell in the environment of a build: its sources, its fetched dependencies, its tools, and no network.

The build runs as in a bake, up to the moment at which it would compile. A marker in the generated sandbox tree, which
only the part of a build script beside the environment can see, has the script start a shell there instead.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError, nearest

from tdxc_runtime.backends.base import BakeRequest
from tdxc_runtime.backends.engine import check_tree
from tdxc_runtime.backends.mkosi_tool import MkosiTool
from tdxc_runtime.backends.workplace import prepare_workplace
from tdxc_runtime.builds.declared import DeclaredBuild, read_builds
from tdxc_runtime.builds.fetch_settings import write_fetch_settings
from tdxc_runtime.builds.run import alone_arguments
from tdxc_runtime.process import describe_status, stop_on_signals
from tdxc_runtime.toolsroot.cache import cache_folder
from tdxc_runtime.toolsroot.make import scratch_folder

MARKER = Path("etc/tdxc/debug-shell")
"""Where build scripts look for it, in the sandbox."""

SHELL_LEFT = 77
"""The status with which a build script says that somebody has left the shell that it started."""


def open_debug_shell(find_tool: Callable[[], MkosiTool], request: BakeRequest, name: str) -> None:
    """Open a shell in the environment of the build ``name`` on our own terminal; returns when it is left.

    Nothing is built and nothing is kept. Raises DiagnosticError: E_REFERENCE for a build that the variant does not
    have, E_BUILD when its environment cannot be made.
    """
    request = attrs.evolve(request, tree=request.tree.absolute())
    check_tree(request.tree)
    build = find_build(read_builds(request.tree, request.profiles), name)
    cache = request.cache or cache_folder()
    with stop_on_signals(), scratch_folder(cache, "debug-shell") as scratch:
        workplace = prepare_workplace(request, find_tool(), scratch)
        write_fetch_settings(workplace.folders.sandbox, offline=request.offline)
        marker = workplace.folders.sandbox / MARKER
        marker.parent.mkdir(parents=True, exist_ok=True)
        marker.write_text(f"{build.name}\n", encoding="utf-8")
        workplace.tool.send(workplace.folders)
        if request.progress:
            request.progress(f"making the environment of build {name}; leave its shell with `exit`")
        status = workplace.tool.attach(alone_arguments(workplace, name), workplace.folders)
    if status != SHELL_LEFT:
        raise DiagnosticError.of(
            Code.E_BUILD,
            f"build '{name}': its environment cannot be made: mkosi {describe_status(status)}",
            fix="mend what the lines above name",
        )


def find_build(builds: tuple[DeclaredBuild, ...], name: str) -> DeclaredBuild:
    """The build of that name; raises DiagnosticError (E_REFERENCE) that names those there are."""
    for build in builds:
        if build.name == name:
            return build
    names = [build.name for build in builds]
    close = nearest(name, names)
    there = f"it has {', '.join(names)}" if names else "it has no source builds"
    raise DiagnosticError.of(
        Code.E_REFERENCE,
        f"the image has no build '{name}': {there}",
        fix=f"did you mean '{close}'?" if close else "name one of its builds; --profile chooses those of a profile",
    )
