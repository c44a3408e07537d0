"""Which mkosi to run and how: the host's when it will do, otherwise the one in the tools root.

In the tools root the folders of a bake have fixed names (:data:`INSIDE`), so that no host path with a space, colon or
comma in it meets mkosi's list syntax or overlayfs' option syntax, and none can leak into an image.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import attrs

from tdxc_runtime.process import Bind, Completed, Confinement, LineCallback, run
from tdxc_runtime.toolsroot.root import Progress, ToolsRoot

MINIMUM_VERSION = (25,)
_COMPANIONS = ("apt-get", "dpkg", "ukify", "systemd-repart", "zstd", "cpio")


@attrs.frozen(kw_only=True)
class BakeFolders:
    """The folders that mkosi works with: the tree, which a bake never changes, and three that it writes to.

    ``scratch`` is one folder because mkosi renames what it has made from its workspace to its output.
    """

    tree: Path
    scratch: Path
    packages: Path
    build: Path

    @property
    def output(self) -> Path:
        """Where mkosi leaves its artifacts."""
        return self.scratch / "output"

    @property
    def work(self) -> Path:
        """mkosi's workspace and temporary files."""
        return self.scratch / "work"

    @property
    def sandbox(self) -> Path:
        """The generated sandbox tree: package sources and network options."""
        return self.scratch / "sandbox"

    def create(self) -> None:
        """Create all that a bake writes to."""
        for folder in (self.output, self.work, self.sandbox, self.packages, self.build):
            folder.mkdir(parents=True, exist_ok=True)

    def binds(self, inside: BakeFolders) -> tuple[Bind, ...]:
        """Each folder at its place in the tools root."""
        return tuple(
            Bind(source=getattr(self, name), target=getattr(inside, name), writable=name != "tree")
            for name in attrs.fields_dict(BakeFolders)
        )

    def on_host(self, line: str, inside: BakeFolders) -> str:
        """A line of output with the inside names of folders put back to what the user calls them."""
        for name in attrs.fields_dict(BakeFolders):
            line = line.replace(str(getattr(inside, name)), str(getattr(self, name)))
        return line


INSIDE = BakeFolders(
    tree=Path("/tdxvm/tree"),
    scratch=Path("/tdxvm/scratch"),
    packages=Path("/tdxvm/packages"),
    build=Path("/tdxvm/build"),
)


@attrs.frozen(kw_only=True)
class MkosiTool:
    """A mkosi that can be run: on the host when ``root`` is None, else inside that tools root."""

    version: str
    root: ToolsRoot | None = None

    @property
    def description(self) -> str:
        """Where it is, for logs and records."""
        return f"tools root {self.root.folder.name}" if self.root else "mkosi of the host"

    def folders(self, folders: BakeFolders) -> BakeFolders:
        """The folders as this mkosi sees them."""
        return INSIDE if self.root else folders

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
        """Run mkosi with ``arguments``; nothing of it outlives us (see :mod:`tdxc_runtime.process`)."""
        # mkosi unpacks gigabytes where TMPDIR says (else /var/tmp): keep them where a bake's scratch is deleted
        temporary = {"TMPDIR": str(self.folders(folders).work)}
        if self.root is not None:
            return self.root.run(
                ["mkosi", *arguments],
                env=temporary,
                binds=folders.binds(INSIDE),
                on_line=on_line,
                log=log,
                capture=capture,
                check=check,
                umask=0o022,
            )
        # Unprivileged, mkosi makes its own user namespace; a PID namespace around it would need another.
        return run(
            ["mkosi", *arguments],
            env={**os.environ, **temporary},
            on_line=on_line,
            log=log,
            capture=capture,
            check=check,
            umask=0o022,
            confinement=Confinement(namespaces=os.geteuid() == 0),
        )


def find_mkosi(*, cache: Path | None, mirror: str, progress: Progress | None, suite: str = "trixie") -> MkosiTool:
    """The host's mkosi if it is new enough and has its companions, else the tools root's (made if need be)."""
    version = host_mkosi_version()
    if suite == "trixie" and version_tuple(version) >= MINIMUM_VERSION and all(map(shutil.which, _COMPANIONS)):
        return MkosiTool(version=version)
    root = ToolsRoot.ensure(cache=cache, mirror=mirror, suite=suite, progress=progress)
    return MkosiTool(version=root.manifest.packages["mkosi"].split("-")[0], root=root)


def host_mkosi_version() -> str:
    """What the mkosi on PATH says its version is; empty when there is none or it does not run."""
    if shutil.which("mkosi") is None:
        return ""
    try:
        answer = subprocess.run(["mkosi", "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(r"\b(\d+(?:\.\d+)*)", answer.stdout) if answer.returncode == 0 else None
    return match[1] if match else ""


def version_tuple(version: str) -> tuple[int, ...]:
    """Numbers to compare; ``25.3~devel`` counts as 25.3, nothing as an empty tuple."""
    return tuple(int(number) for number in re.findall(r"\d+", version.split("~", maxsplit=1)[0]))
