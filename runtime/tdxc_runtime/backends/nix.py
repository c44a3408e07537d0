"""The Nix engine: the same bake with the mkosi of a Nix development shell.

The shell is described by ``nix_shell/flake.nix`` beside this module. NOT TRIED: no machine with Nix was at hand when
this was written. What is tested is the command line; the shell itself (its package names, and whether mkosi finds
Debian's keys in it) is written from Nixpkgs' documentation.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Sequence
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError

from tdxc_runtime.backends.base import BakeOutput, BakeRequest
from tdxc_runtime.backends.engine import bake_with
from tdxc_runtime.backends.mkosi_tool import HostMkosi, MkosiTool
from tdxc_runtime.process import run

SHELL_FOLDER = Path(__file__).parent / "nix_shell"
"""The flake whose default development shell holds mkosi."""


@attrs.frozen(kw_only=True)
class NixBackend:
    """Runs mkosi through ``nix develop``. ``flake``: another flake reference with mkosi in its default shell."""

    name: str = "nix"
    flake: str = f"path:{SHELL_FOLDER}"

    def bake(self, request: BakeRequest) -> BakeOutput:
        """See :func:`tdxc_runtime.backends.engine.bake_with`."""
        return bake_with(self._find_tool, request)

    def debug_shell(self, request: BakeRequest, build: str) -> None:
        """See :func:`tdxc_runtime.builds.debug_shell.open_debug_shell`."""
        from tdxc_runtime.builds.debug_shell import open_debug_shell

        open_debug_shell(self._find_tool, request, build)

    def _find_tool(self) -> MkosiTool:
        require_nix()
        prefix = tuple(develop_argv(self.flake, ()))
        said = run([*prefix, "mkosi", "--version"], capture=True).stdout.decode("utf-8", "replace")
        return HostMkosi(version=version_in(said), description=f"nix develop {self.flake}", prefix=prefix)


def develop_argv(flake: str, command: Sequence[str]) -> list[str]:
    """The command line that runs ``command`` in a flake's development shell, whatever the user's Nix settings."""
    return ["nix", "--extra-experimental-features", "nix-command flakes", "develop", flake, "--command", *command]


def require_nix() -> None:
    """E_BACKEND_UNAVAILABLE unless ``nix`` is on PATH."""
    if shutil.which("nix") is None:
        raise DiagnosticError.of(
            Code.E_BACKEND_UNAVAILABLE,
            "the Nix backend needs the program nix, which is not on PATH",
            fix="install Nix (`apt-get install nix-setup-systemd` on Debian), or use LocalLinuxBackend",
        )


def version_in(text: str) -> str:
    """The version number in what ``mkosi --version`` prints; empty when there is none."""
    match = re.search(r"\b(\d+(?:\.\d+)*)", text)
    return match[1] if match else ""
