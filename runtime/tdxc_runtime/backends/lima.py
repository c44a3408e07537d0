"""The Lima engine: the same bake in a Lima virtual machine, where Nix brings mkosi; for macOS and for Linux.

The tree goes in with ``limactl copy`` and the output comes out the same way, so that mkosi works on the machine's own
disk. NOT TRIED: no machine with Lima was at hand when this was written. What is tested is every command line; their
meaning is from Lima's documentation (``limactl create``, ``start``, ``copy``, ``shell``; template syntax of Lima 1.1).
"""

from __future__ import annotations

import json
import re
import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError

from tdxc_runtime.backends.base import BakeOutput, BakeRequest
from tdxc_runtime.backends.engine import bake_with
from tdxc_runtime.backends.mkosi_tool import BakeFolders, MkosiTool
from tdxc_runtime.backends.nix import SHELL_FOLDER, develop_argv, version_in
from tdxc_runtime.process import Bind, Completed, LineCallback, run, start

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(GiB|MiB)")
_WORKPLACE = Path("/var/tmp/tdxvm")  # noqa: S108 - a path inside the virtual machine, which is ours alone
_FLAKE = f"path:{_WORKPLACE}/nix_shell"
_TEMPLATE = """\
base: template:debian-13
mounts: []
containerd: {system: false, user: false}
provision:
- mode: system
  script: |
    #!/bin/sh
    set -eu
    apt-get update
    apt-get install -y --no-install-recommends nix-setup-systemd
"""


@attrs.frozen(kw_only=True)
class LimaBackend:
    """Runs mkosi in the Lima machine ``instance``, made on first use with that many CPUs, memory and disk.

    ``memory`` and ``disk`` are sizes such as ``12GiB``.
    """

    name: str = "lima"
    instance: str = "tdxvm"
    cpus: int = 4
    memory: str = "8GiB"
    disk: str = "100GiB"

    def bake(self, request: BakeRequest) -> BakeOutput:
        """See :func:`tdxc_runtime.backends.engine.bake_with`."""
        return bake_with(lambda: self._find_tool(request), request)

    def debug_shell(self, request: BakeRequest, build: str) -> None:
        """See :func:`tdxc_runtime.builds.debug_shell.open_debug_shell`."""
        from tdxc_runtime.builds.debug_shell import open_debug_shell

        open_debug_shell(lambda: self._find_tool(request), request, build)

    def _find_tool(self, request: BakeRequest) -> MkosiTool:
        if shutil.which("limactl") is None:
            raise DiagnosticError.of(
                Code.E_BACKEND_UNAVAILABLE,
                "the Lima backend needs the program limactl, which is not on PATH",
                fix="install Lima (`brew install lima`), or use LocalLinuxBackend on Linux",
            )
        status = instance_status(run(["limactl", "list", "--format", "json"], capture=True).stdout, self.instance)
        if not status:
            with tempfile.TemporaryDirectory() as folder:
                template = Path(folder) / "tdxvm.yaml"
                template.write_text(_TEMPLATE, encoding="ascii")
                run(self.create_argv(template), on_line=request.progress)
        if status != "Running":
            run(["limactl", "start", "--tty=false", self.instance], on_line=request.progress)
        run(shell_argv(self.instance, ["mkdir", "-p", str(_WORKPLACE)]))
        run(copy_argv(str(SHELL_FOLDER), f"{self.instance}:{_WORKPLACE}/"))
        asked = shell_argv(self.instance, develop_argv(_FLAKE, ["mkosi", "--version"]))
        return LimaMkosi(instance=self.instance, version=version_in(run(asked, capture=True).stdout.decode()))

    def create_argv(self, template: Path) -> list[str]:
        """The command line that makes the machine."""
        sizes = [f"--cpus={self.cpus}", f"--memory={gibibytes(self.memory):g}", f"--disk={gibibytes(self.disk):g}"]
        return ["limactl", "create", "--tty=false", f"--name={self.instance}", *sizes, str(template)]


@attrs.frozen(kw_only=True)
class LimaMkosi:
    """The mkosi inside a Lima machine."""

    instance: str
    version: str

    @property
    def description(self) -> str:
        """The machine by name."""
        return f"Lima machine {self.instance}"

    def folders(self, folders: BakeFolders) -> BakeFolders:
        """Fixed folders on the machine's own disk."""
        del folders
        return BakeFolders(
            tree=_WORKPLACE / "tree",
            scratch=_WORKPLACE / "scratch",
            packages=_WORKPLACE / "packages",
            build=_WORKPLACE / "build",
        )

    def send(self, folders: BakeFolders) -> None:
        """Start from empty folders and copy tree and sandbox tree in."""
        seen = self.folders(folders)
        for argv in self.send_argvs(folders, seen):
            run(argv)

    def send_argvs(self, folders: BakeFolders, seen: BakeFolders) -> list[list[str]]:
        """The command lines of :meth:`send`."""
        made = [seen.work, seen.output, seen.packages, seen.build]
        return [
            shell_argv(self.instance, ["sudo", "rm", "-rf", str(seen.tree), str(seen.scratch)]),
            shell_argv(self.instance, ["mkdir", "-p", *map(str, made)]),
            copy_argv(str(folders.tree), f"{self.instance}:{seen.tree}"),
            copy_argv(str(folders.sandbox), f"{self.instance}:{seen.sandbox}"),
        ]

    def fetch(self, folders: BakeFolders) -> None:
        """Copy the output out."""
        seen = self.folders(folders)
        run(shell_argv(self.instance, ["sudo", "chmod", "-R", "a+rX", str(seen.output)]))
        run(copy_argv(f"{self.instance}:{seen.output}/.", str(folders.output)))

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
        """Run mkosi as root of the machine."""
        argv = shell_argv(self.instance, self._command(arguments, folders))
        return run(argv, on_line=on_line, log=log, capture=capture, check=check)

    def attach(self, arguments: Sequence[str], folders: BakeFolders) -> int:
        """Run mkosi on our own terminal."""
        argv = shell_argv(self.instance, self._command(arguments, folders))
        with start(argv, interactive=True) as running:
            return running.finish()

    def run_beside(self, argv: Sequence[str], binds: Sequence[Bind]) -> Completed | None:
        """Nothing: the machine does not see our folders."""
        return None

    def _command(self, arguments: Sequence[str], folders: BakeFolders) -> list[str]:
        temporary = f"TMPDIR={self.folders(folders).work}"
        return ["sudo", "env", temporary, *develop_argv(_FLAKE, ["mkosi", *arguments])]


def shell_argv(instance: str, command: Sequence[str]) -> list[str]:
    """The command line that runs ``command`` in the machine, in its root folder."""
    return ["limactl", "shell", "--workdir", "/", instance, *command]


def copy_argv(source: str, target: str) -> list[str]:
    """The command line that copies a folder in or out; ``instance:path`` names a place in the machine."""
    return ["limactl", "copy", "--recursive", source, target]


def gibibytes(size: str) -> float:
    """``12GiB`` or ``512MiB`` as a number of GiB; raises DiagnosticError (E_VALUE) for anything else."""
    match = _SIZE.fullmatch(size.strip())
    if not match:
        raise DiagnosticError.of(Code.E_VALUE, f"{size!r} is not a size", fix="write it like '12GiB'")
    return float(match[1]) / (1 if match[2] == "GiB" else 1024)


def instance_status(listing: bytes, instance: str) -> str:
    """The status of a machine in ``limactl list --format json`` (one object a line); empty when it is not there."""
    for line in listing.decode("utf-8", "replace").splitlines():
        try:
            words = json.loads(line)
        except ValueError:
            continue
        if isinstance(words, dict) and words.get("name") == instance:
            return str(words.get("status", ""))
    return ""
