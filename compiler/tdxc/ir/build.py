"""Programs built from source into the image, and shell scripts that run while it is made."""

from __future__ import annotations

import enum

from tdxc import records
from tdxc.ir.blob import Blob
from tdxc.ir.node import Node


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


@records.frozen(kw_only=True)
class Artifact(Node):
    """What a build puts into the image: ``source`` relative to the build's folder, ``dest`` absolute in the image."""

    source: str
    dest: str


@records.frozen(kw_only=True)
class ScriptBuild(Node):
    """``Build.script``: any build system, by a shell script."""

    name: str
    build_script: str
    artifacts: tuple[Artifact, ...]
    source_files: tuple[SourceFile, ...] = ()
    build_deps: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()


@records.frozen(kw_only=True)
class EfiStub(Node):
    """A pinned systemd-boot-efi package for the UKI's stub; ``sha256`` (hex) is of the .deb file."""

    version: str
    sha256: str = ""
