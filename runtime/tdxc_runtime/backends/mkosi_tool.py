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
from typing import Protocol

import attrs

from tdxc_runtime.process import Bind, Completed, Confinement, LineCallback, run, start
from tdxc_runtime.toolsroot.cache import cache_folder
from tdxc_runtime.toolsroot.contents import DEFAULT_SUITE, EXPECTED_VERSIONS
from tdxc_runtime.toolsroot.root import Progress, ToolsRoot
from tdxc_runtime.toolsroot.userns import caller_id_map

MINIMUM_VERSION = (25,)
_UMASK = 0o022
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
        names = {str(getattr(inside, name)): str(getattr(self, name)) for name in attrs.fields_dict(BakeFolders)}
        # in one go: what the user calls a folder may hold an inside name (a clone's own tdxvm/build)
        return re.sub("|".join(re.escape(name) for name in names), lambda found: names[found[0]], line)


INSIDE = BakeFolders(
    tree=Path("/tdxvm/tree"),
    scratch=Path("/tdxvm/scratch"),
    packages=Path("/tdxvm/packages"),
    build=Path("/tdxvm/build"),
)


class MkosiTool(Protocol):
    """A mkosi that can be run, wherever it is."""

    @property
    def version(self) -> str:
        """Its version, as it says."""
        ...

    @property
    def description(self) -> str:
        """Where it is, for logs and records."""
        ...

    def folders(self, folders: BakeFolders) -> BakeFolders:
        """The folders of a bake as this mkosi sees them."""
        ...

    def send(self, folders: BakeFolders) -> None:
        """Bring tree and sandbox tree to where this mkosi runs."""
        ...

    def fetch(self, folders: BakeFolders) -> None:
        """Bring the output from where this mkosi runs."""
        ...

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
        """Run it with ``arguments``; nothing of it outlives us (see :mod:`tdxc_runtime.process`)."""
        ...

    def attach(self, arguments: Sequence[str], folders: BakeFolders) -> int:
        """Run it on our own terminal, and return its exit status."""
        ...

    def run_beside(self, argv: Sequence[str], binds: Sequence[Bind]) -> Completed | None:
        """Run another tool where this mkosi finds its own, such as apt, with its output kept; None where we cannot."""
        ...


class OnThisMachine:
    """The part of :class:`MkosiTool` that is the same wherever mkosi sees our own files."""

    def send(self, folders: BakeFolders) -> None:
        """Nothing to bring."""

    def fetch(self, folders: BakeFolders) -> None:
        """Nothing to bring."""


@attrs.frozen(kw_only=True)
class HostMkosi(OnThisMachine):
    """A mkosi run as the command ``prefix`` + ``mkosi``, with the host's own paths."""

    version: str
    description: str = "mkosi of the host"
    prefix: tuple[str, ...] = ()

    def folders(self, folders: BakeFolders) -> BakeFolders:
        """As they are."""
        return folders

    def attach(self, arguments: Sequence[str], folders: BakeFolders) -> int:
        """Run it on our own terminal."""
        environment = {**os.environ, "TMPDIR": str(folders.work)}
        confinement = Confinement(namespaces=os.geteuid() == 0)
        argv = [*self.prefix, "mkosi", *arguments]
        with start(argv, env=environment, interactive=True, umask=_UMASK, confinement=confinement) as running:
            return running.finish()

    def run_beside(self, argv: Sequence[str], binds: Sequence[Bind]) -> Completed | None:
        """Run a tool of the host in a root of its own, where ``binds`` can lie over the host's folders."""
        if self.prefix:
            return None
        staging = cache_folder() / "staging"
        staging.mkdir(parents=True, exist_ok=True)
        confinement = Confinement(
            namespaces=True, root=Path("/"), staging=staging, binds=tuple(binds), id_map=caller_id_map()
        )
        return run([*argv], capture=True, check=False, umask=_UMASK, confinement=confinement)

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
        """Run it; as root in namespaces of its own. Unprivileged, mkosi makes its own user namespace."""
        return run(
            [*self.prefix, "mkosi", *arguments],
            env={**os.environ, "TMPDIR": str(folders.work)},
            on_line=on_line,
            log=log,
            capture=capture,
            check=check,
            umask=_UMASK,
            confinement=Confinement(namespaces=os.geteuid() == 0),
        )


@attrs.frozen(kw_only=True)
class MkosiInRoot(OnThisMachine):
    """The mkosi of a tools root, where the folders have the names of :data:`INSIDE`."""

    root: ToolsRoot

    @property
    def version(self) -> str:
        """The packaged version without Debian's revision."""
        return self.root.manifest.packages["mkosi"].split("-")[0]

    @property
    def description(self) -> str:
        """The root by name."""
        return f"tools root {self.root.folder.name}"

    def folders(self, folders: BakeFolders) -> BakeFolders:
        """Fixed names."""
        del folders
        return INSIDE

    def attach(self, arguments: Sequence[str], folders: BakeFolders) -> int:
        """Run it inside, on our own terminal."""
        environment = self.root.environment({"TMPDIR": str(INSIDE.work)})
        confinement = self.root.confinement(binds=folders.binds(INSIDE))
        argv = ["mkosi", *arguments]
        with start(
            argv, cwd=Path("/"), env=environment, interactive=True, umask=_UMASK, confinement=confinement
        ) as running:
            return running.finish()

    def run_beside(self, argv: Sequence[str], binds: Sequence[Bind]) -> Completed | None:
        """Run a tool of the root."""
        return self.root.run(argv, binds=binds, capture=True, check=False, umask=_UMASK)

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
        """Run it inside."""
        return self.root.run(
            ["mkosi", *arguments],
            binds=folders.binds(INSIDE),
            # mkosi unpacks gigabytes where TMPDIR says: into the scratch folder, which is deleted in any case
            env={"TMPDIR": str(INSIDE.work)},
            on_line=on_line,
            log=log,
            capture=capture,
            check=check,
            umask=_UMASK,
        )


def find_mkosi(*, cache: Path | None, mirror: str, progress: Progress | None, suite: str = DEFAULT_SUITE) -> MkosiTool:
    """The host's mkosi if it is new enough and has its companions, else the tools root's (made if need be)."""
    version = usable_host_mkosi()
    if suite == DEFAULT_SUITE and version:
        return HostMkosi(version=version)
    return MkosiInRoot(root=ToolsRoot.ensure(cache=cache, mirror=mirror, suite=suite, progress=progress))


def usable_host_mkosi() -> str:
    """The version of the host's mkosi when it is new enough and has its companions; else empty."""
    version = host_mkosi_version()
    usable = version_tuple(version) >= MINIMUM_VERSION and all(map(shutil.which, _COMPANIONS))
    return version if usable else ""


def tool_versions(cache: Path | None = None) -> dict[str, str]:
    """The versions of the tools that the local backend would use now, for a lockfile: of mkosi, and systemd's major.

    The latter decides what the boot stub measures. Before a tools root is made, what its suite is known to hold.
    """
    host = usable_host_mkosi()
    root = None if host else ToolsRoot.find(cache=cache)
    if root is None:
        return {**EXPECTED_VERSIONS, **({"mkosi": host} if host else {})}
    packages = root.manifest.packages
    return {"mkosi": packages["mkosi"].split("-")[0], "systemd": packages["systemd"].split(".")[0]}


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
