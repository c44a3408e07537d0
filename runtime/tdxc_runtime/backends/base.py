"""What every backend takes and returns, as data."""

from __future__ import annotations

import enum
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import attrs
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError

from tdxc_runtime.builds.declared import BuildRecord
from tdxc_runtime.toolsroot.apt_sources import Mirror

Progress = Callable[[str], None]

RECORD_NAME = "bake.json"
"""The file in an output folder that says what a bake put there, and that the folder is one of ours."""


class ArtifactKind(enum.StrEnum):
    """What an output file is, by its name as mkosi and our post-output scripts give it."""

    UKI = "uki"
    KERNEL = "kernel"
    INITRD = "initrd"
    DISK_RAW = "disk-raw"
    DISK_QCOW2 = "disk-qcow2"
    DISK_VHD = "disk-vhd"
    ARCHIVE = "archive"
    PACKAGE_MANIFEST = "package-manifest"
    CHECKSUMS = "checksums"
    OTHER = "other"


_BY_SUFFIX: tuple[tuple[str, ArtifactKind], ...] = (
    (".efi", ArtifactKind.UKI),
    (".vmlinuz", ArtifactKind.KERNEL),
    (".initrd", ArtifactKind.INITRD),
    (".qcow2", ArtifactKind.DISK_QCOW2),
    (".vhd", ArtifactKind.DISK_VHD),
    (".raw", ArtifactKind.DISK_RAW),
    (".manifest", ArtifactKind.PACKAGE_MANIFEST),
    (".SHA256SUMS", ArtifactKind.CHECKSUMS),
    (".tar", ArtifactKind.ARCHIVE),
    (".tar.gz", ArtifactKind.ARCHIVE),
    (".tar.zst", ArtifactKind.ARCHIVE),
    (".cpio", ArtifactKind.ARCHIVE),
    (".cpio.zst", ArtifactKind.ARCHIVE),
)


TARGET_KINDS = {
    "qemu": ArtifactKind.DISK_QCOW2,
    "azure": ArtifactKind.DISK_VHD,
    "gcp": ArtifactKind.ARCHIVE,
}
"""The kind of file that is deployed on each platform."""


def target_kind(target: str) -> ArtifactKind:
    """What is deployed on a platform; raises DiagnosticError (E_DEPLOYMENT) for one that is not known."""
    if target not in TARGET_KINDS:
        raise DiagnosticError.of(
            Code.E_DEPLOYMENT, f"there is no output target '{target}'", fix=f"use one of: {', '.join(TARGET_KINDS)}"
        )
    return TARGET_KINDS[target]


def artifact_kind(name: str) -> ArtifactKind:
    """The kind of a file, by the end of its name."""
    return next((kind for suffix, kind in _BY_SUFFIX if name.endswith(suffix)), ArtifactKind.OTHER)


@attrs.frozen(kw_only=True)
class Artifact:
    """A file that a bake made. ``sha256`` is hexadecimal."""

    path: Path
    kind: ArtifactKind
    size_bytes: int
    sha256: str


@attrs.frozen(kw_only=True)
class Durations:
    """Seconds of each part of a bake: getting the tools ready, mkosi itself, hashing and publishing."""

    tools_s: float
    mkosi_s: float
    publish_s: float


@attrs.frozen(kw_only=True)
class BakeOutput:
    """A finished bake. ``mirror`` is None where the tree names its own package sources, or nothing named any.

    ``tools`` says which mkosi ran: the host's, or a tools root by name. ``builds``: the image's source builds.
    ``diagnostics``: warnings.
    """

    folder: Path
    artifacts: tuple[Artifact, ...]
    log: Path
    mirror: Mirror | None
    mkosi_version: str
    tools: str
    durations: Durations
    builds: tuple[BuildRecord, ...] = ()
    diagnostics: tuple[Diagnostic, ...] = ()

    def of_kind(self, kind: ArtifactKind) -> tuple[Artifact, ...]:
        """The artifacts of one kind."""
        return tuple(artifact for artifact in self.artifacts if artifact.kind is kind)

    @property
    def package_manifest(self) -> Path | None:
        """mkosi's JSON list of the installed packages, where the tree asks for one."""
        return next((artifact.path for artifact in self.of_kind(ArtifactKind.PACKAGE_MANIFEST)), None)


class Backend(Protocol):
    """Runs mkosi on a compiled tree; the three engines differ only in where mkosi comes from."""

    @property
    def name(self) -> str:
        """How logs call it."""
        ...

    def bake(self, request: BakeRequest) -> BakeOutput:
        """Bake ``request``; raises DiagnosticError (E_BACKEND_UNAVAILABLE, E_BACKEND_EXECUTION, E_OUTPUT)."""
        ...

    def debug_shell(self, request: BakeRequest, build: str) -> None:
        """Open a shell in the environment of a source build; raises DiagnosticError (E_REFERENCE, E_BUILD)."""
        ...


@attrs.frozen(kw_only=True)
class BakeRequest:
    """What to bake: a compiled tree, the folder to make, and how.

    ``mirror`` is used where the tree names no package sources. ``offline``: cached packages only. ``targets``: the
    platforms (keys of :data:`TARGET_KINDS`) to make a disk for. ``log`` defaults to a file in the cache. ``progress``
    gets one sentence for each step, ``on_line`` every line of the log. ``finish`` is called with the folder that holds
    all artifacts and with the source builds of the image, before artifacts are hashed and published, to add to them.
    ``recipe``: how messages name the recipe. ``environment``: variables for the scripts of the image itself.
    """

    tree: Path
    output: Path
    profiles: tuple[str, ...] = ()
    mirror: str = ""
    offline: bool = False
    finish: Callable[[Path, tuple[BuildRecord, ...]], None] | None = None
    targets: tuple[str, ...] = ()
    cache: Path | None = None
    log: Path | None = None
    progress: Progress | None = None
    on_line: Progress | None = None
    recipe: str = "RECIPE"
    environment: tuple[tuple[str, str], ...] = ()


def collect_artifacts(folder: Path) -> tuple[Artifact, ...]:
    """Every regular file below ``folder`` (symbolic links are other names of the same), each read once."""
    files = sorted(path for path in folder.rglob("*") if path.is_file() and not path.is_symlink())
    return tuple(_describe(path) for path in files if path.name != RECORD_NAME)


def record_text(artifacts: tuple[Artifact, ...], folder: Path, *, mkosi_version: str, tools: str, mirror: str) -> str:
    """The record of a bake: canonical JSON without times, so that equal bakes have equal records."""
    entries = [
        {
            "path": str(artifact.path.relative_to(folder)),
            "kind": artifact.kind.value,
            "size": artifact.size_bytes,
            "sha256": artifact.sha256,
        }
        for artifact in artifacts
    ]
    words = {"format": 1, "artifacts": entries, "mkosi": mkosi_version, "tools": tools, "mirror": mirror}
    return json.dumps(words, indent=1, sort_keys=True) + "\n"


def _describe(path: Path) -> Artifact:
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        size = file.tell()
    return Artifact(path=path, kind=artifact_kind(path.name), size_bytes=size, sha256=digest.hexdigest())
