"""Programs built from source into the image, and shell scripts that run while it is made."""

from __future__ import annotations

import enum

from tdxc import records
from tdxc.ir.blob import Blob
from tdxc.ir.node import Node
from tdxc.ir.rootfs import Package

BUILD_ROOT = "/var/lib/tdxc-build"
"""Where everything is built, each build in a folder of its name: one path on every host, as compilers write it into
what they make. It lies in the overlay that mkosi throws away."""


class ScriptPhase(enum.StrEnum):
    """When mkosi runs a script (mkosi(1), "Scripts")."""

    PREPARE = "prepare"
    BUILD = "build"
    POSTINST = "postinst"
    FINALIZE = "finalize"
    POSTOUTPUT = "postoutput"


@records.frozen(kw_only=True)
class Script(Node):
    """Shell text that runs in one phase of the build, inside the image unless the phase runs outside of it."""

    phase: ScriptPhase
    name: str
    text: str


@records.frozen(kw_only=True)
class SourceFile(Node):
    """A file of a source folder: path relative to the folder, content, and whether it is executable."""

    path: str
    content: Blob
    executable: bool = False


class BuildLanguage(enum.StrEnum):
    """What a build is written in, and so which toolchain it needs and how it is run."""

    GO = "go"
    RUST = "rust"
    DOTNET = "dotnet"
    C = "c"
    SCRIPT = "script"
    KERNEL = "kernel"


@records.frozen(kw_only=True)
class BuildSource(Node):
    """What a build starts from: ``files`` of the recipe's folder, a ``git`` repository at ``rev``, or a ``tarball``.

    ``subdir`` is the folder in it that the build runs in, ``sha256`` (hex) that of the tarball.
    """

    files: tuple[SourceFile, ...] = ()
    git: str = ""
    rev: str = ""
    tarball: str = ""
    sha256: str = ""
    subdir: str = ""

    @property
    def is_local(self) -> bool:
        """Whether everything is in the recipe's folder, so that it can be looked at while compiling."""
        return not (self.git or self.tarball)


@records.frozen(kw_only=True)
class Toolchain(Node):
    """The compiler that a build asks for: ``version`` is the beginning of what it says of itself, empty for any.

    ``url`` and ``sha256`` (hex) are of a tarball with it; without, it is a package of the distribution.
    """

    version: str = ""
    url: str = ""
    sha256: str = ""


@records.frozen(kw_only=True)
class Artifact(Node):
    """What a build puts into the image: ``source`` relative to the build's folder, ``dest`` absolute in the image.

    In an authored build an empty ``source`` is what the toolchain makes. ``mode`` None keeps 0755 for programs and
    0644 for other files; for a folder, mode and owner hold for each file in it.
    """

    source: str
    dest: str
    mode: int | None = None
    owner: str = "root"
    group: str = "root"


@records.frozen(kw_only=True)
class Build(Node):
    """A program to build from source, as the recipe says it.

    ``package`` is what of the source is built (a Go package, a crate, a .NET project), ``program`` the name of what
    comes out; ``features`` are Cargo's or Go's build tags, ``system`` is how C is built, ``options`` are arguments of
    its configuration. ``test`` is shell text; ``network`` leaves the network on while compiling.
    """

    name: str
    language: BuildLanguage
    source: BuildSource
    toolchain: Toolchain
    artifacts: tuple[Artifact, ...]
    build_deps: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    patches: tuple[SourceFile, ...] = ()
    package: str = ""
    program: str = ""
    features: tuple[str, ...] = ()
    options: tuple[str, ...] = ()
    ldflags: str = ""
    cgo: bool = False
    system: str = ""
    build_script: str = ""
    test: str = ""
    network: bool = False


@records.frozen(kw_only=True)
class ResolvedBuild(Node):
    """A build with everything decided: ``packages`` is its whole environment, sorted, beside what every root has.

    ``fetch``, ``compile`` and ``test`` are shell text that runs in the source's folder: ``fetch`` with the network and
    before the others, which have none unless ``network``. ``version_command`` prints the toolchain's version. Sources
    of artifacts are relative to the build's own folder, which holds ``source/``, ``toolchain/`` and ``out/``.
    """

    name: str
    language: BuildLanguage
    source: BuildSource
    toolchain: Toolchain
    artifacts: tuple[Artifact, ...]
    packages: tuple[Package, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    patches: tuple[SourceFile, ...] = ()
    version_command: str = ""
    fetch: str = ""
    compile: str = ""
    test: str = ""
    network: bool = False


@records.frozen(kw_only=True)
class EfiStub(Node):
    """A pinned systemd-boot-efi package for the UKI's stub; ``sha256`` (hex) is of the .deb file.

    ``package`` is that file where the recipe brings it; without, the package comes from the package sources.
    """

    version: str
    sha256: str = ""
    package: Blob | None = None
