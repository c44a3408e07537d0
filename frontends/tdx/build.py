"""Build: programs that are built from source into the image."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan
from tdxc.ir import Artifact, Blob, BuildLanguage, SourceFile, Toolchain
from tdxc.ir import Build as BuildNode

from tdx import _builds as b
from tdx import _values as v
from tdx._declare import describes, here
from tdx._source import read_file, read_folder


@describes
def git(url: v.Uri, *, rev: b.Revision, subdir: b.Subfolder = "") -> b.RemoteSource:
    """A git repository as a build's source; ``rev`` is a full commit where the build shall be the same tomorrow."""
    return {"git": url, "rev": rev} | ({"subdir": subdir} if subdir else {})


@describes
def tarball(url: v.Uri, *, sha256: b.Digest, subdir: b.Subfolder = "") -> b.RemoteSource:
    """A tar archive as a build's source or toolchain, verified by its SHA-256."""
    return {"tarball": url, "sha256": sha256} | ({"subdir": subdir} if subdir else {})


@describes
def artifact(
    dest: v.GuestFile, *, mode: v.Mode | None = None, owner: v.UserName = "root", group: v.UserName = "root"
) -> b.ArtifactOptions:
    """Where an artifact goes in the image, with the mode and the owner of its files."""
    given: dict[str, str | int] = {"dest": dest, "owner": owner, "group": group}
    return given | ({"mode": mode} if mode is not None else {})


@records.frozen
class Build:
    """A build as a recipe describes it; made by one of the methods below, used by ``image.build``."""

    _node: BuildNode
    _src: str | None
    _patches: tuple[str, ...]
    _outside: bool

    @classmethod
    @describes
    def go(
        cls,
        name: b.BuildName,
        *,
        src: v.HostPath | b.RemoteSource,
        output: b.OutputPath | b.ArtifactOptions,
        go_version: b.ToolVersion = "",
        toolchain: b.ToolchainTarball | None = None,
        package: v.Line = "",
        tags: v.Strings = (),
        ldflags: v.Line = "",
        cgo: bool = False,
        artifacts: b.Artifacts | None = None,
        build_deps: v.PackageNames = (),
        patches: b.HostPaths = (),
        env: v.Environment | None = None,
        test: v.Text = "",
        network: bool = False,
        outside: bool = False,
    ) -> Build:
        """A Go program; ``package`` is the one to build (the source's own by default), ``output`` where it goes.

        Modules come by ``go.sum``. The program is static, stripped and holds no path of the build; ``cgo=True`` links
        it with C. ``go_version`` is the distribution's or that of ``toolchain``.
        """
        given = b.Common(name, src, artifacts, build_deps, patches, env, test, network, outside)
        node = _node(given, BuildLanguage.GO, b.toolchain(go_version, toolchain), output, name)
        return _made(cls, given, records.evolve(node, package=package, features=tuple(tags), ldflags=ldflags, cgo=cgo))

    @classmethod
    @describes
    def rust(
        cls,
        name: b.BuildName,
        *,
        src: v.HostPath | b.RemoteSource,
        output: b.OutputPath | b.ArtifactOptions,
        toolchain: b.ToolVersion | b.ToolchainTarball = "",
        version: b.ToolVersion = "",
        features: v.Strings = (),
        package: b.OptionalName = "",
        program: b.OptionalName = "",
        artifacts: b.Artifacts | None = None,
        build_deps: v.PackageNames = (),
        patches: b.HostPaths = (),
        env: v.Environment | None = None,
        test: v.Text = "",
        network: bool = False,
        outside: bool = False,
    ) -> Build:
        """A Rust program; ``package`` is the crate of a workspace, ``program`` the binary (the build's name if not).

        Crates come by ``Cargo.lock``. ``toolchain`` is a version of the distribution's Rust, or a tarball of one,
        of which ``version`` says what ``rustc`` shall answer.
        """
        given = b.Common(name, src, artifacts, build_deps, patches, env, test, network, outside)
        text, archive = (toolchain, None) if isinstance(toolchain, str) else (version, toolchain)
        if text and version and text != version:
            message = f"the build '{name}' asks for the toolchain {text} and for the version {version}"
            raise DiagnosticError.of(Code.E_CONFLICT, message, here(), fix="give one of them")
        chosen = b.toolchain(text or version, archive)
        node = _node(given, BuildLanguage.RUST, chosen, output, program or package or name)
        return _made(cls, given, records.evolve(node, package=package, features=tuple(features)))

    @classmethod
    @describes
    def dotnet(
        cls,
        name: b.BuildName,
        *,
        src: v.HostPath | b.RemoteSource,
        project: b.InnerPath,
        output: b.OutputPath | b.ArtifactOptions,
        sdk_version: b.ToolVersion = "",
        toolchain: b.ToolchainTarball | None = None,
        self_contained: bool = True,
        artifacts: b.Artifacts | None = None,
        build_deps: v.PackageNames = (),
        patches: b.HostPaths = (),
        env: v.Environment | None = None,
        test: v.Text = "",
        network: bool = False,
        outside: bool = False,
    ) -> Build:
        """A .NET project, published into the folder ``output``; by default with the runtime that it needs.

        Packages come by ``packages.lock.json``. The SDK is the distribution's, one of a declared repository, or
        ``toolchain``.
        """
        given = b.Common(name, src, artifacts, build_deps, patches, env, test, network, outside)
        node = _node(given, BuildLanguage.DOTNET, b.toolchain(sdk_version, toolchain), output, name)
        system = "self-contained" if self_contained else "framework-dependent"
        return _made(cls, given, records.evolve(node, package=posixpath.normpath(project), system=system))

    @classmethod
    @describes
    def c(
        cls,
        name: b.BuildName,
        *,
        src: v.HostPath | b.RemoteSource,
        output: b.OutputPath | b.ArtifactOptions | None = None,
        system: Literal["cmake", "meson", "configure", "make"] | None = None,
        options: v.Strings = (),
        version: b.ToolVersion = "",
        toolchain: b.ToolchainTarball | None = None,
        ldflags: v.Line = "",
        artifacts: b.Artifacts | None = None,
        build_deps: v.PackageNames = (),
        patches: b.HostPaths = (),
        env: v.Environment | None = None,
        test: v.Text = "",
        network: bool = False,
        outside: bool = False,
    ) -> Build:
        """A C or C++ program by CMake, Meson, a configure script or make; ``options`` go to its configuration.

        ``output`` is where the program of the build's name goes, ``artifacts`` name files of the source's folder
        (CMake and Meson build in ``build/`` there).
        """
        given = b.Common(name, src, artifacts, build_deps, patches, env, test, network, outside)
        node = _node(given, BuildLanguage.C, b.toolchain(version, toolchain), output, name)
        return _made(cls, given, records.evolve(node, system=system or "", options=tuple(options), ldflags=ldflags))

    @classmethod
    @describes
    def script(
        cls,
        name: b.BuildName,
        *,
        build_script: v.ShellText,
        artifacts: b.Artifacts,
        src: v.HostPath | b.RemoteSource | None = None,
        build_deps: v.PackageNames = (),
        patches: b.HostPaths = (),
        env: v.Environment | None = None,
        test: v.Text = "",
        network: bool = False,
        outside: bool = False,
    ) -> Build:
        """Any build system, by shell text that runs in a copy of ``src``.

        ``artifacts`` maps what the build leaves in its folder to where it goes in the image: name the file or folder
        itself. ``build_deps`` are the packages of its environment, which holds little else.
        """
        given = b.Common(name, src, artifacts, build_deps, patches, env, test, network, outside)
        node = _node(given, BuildLanguage.SCRIPT, b.toolchain("", None), None, name)
        return _made(cls, given, records.evolve(node, build_script=build_script))

    def freeze(self, root: Path) -> BuildNode:
        """The IR node, with the source folder and the patches read; raises E_PATH or E_LIMIT."""
        node = self._node
        if self._src is not None:
            files = tuple(
                SourceFile(path=s.name, content=Blob.of(s.data), executable=s.executable, span=self._span)
                for s in read_folder(root, self._src, outside=self._outside, span=self._span)
            )
            node = records.evolve(node, source=records.evolve(node.source, files=files))
        patches = tuple(self._patch(root, number, path) for number, path in enumerate(self._patches, 1))
        return records.evolve(node, patches=patches)

    def _patch(self, root: Path, number: int, path: str) -> SourceFile:
        source = read_file(root, path, outside=self._outside, span=self._span)
        name = f"{number:02}-{posixpath.basename(source.name)}"
        return SourceFile(path=name, content=Blob.of(source.data), span=self._span)

    @property
    def _span(self) -> SourceSpan:
        return self._node.span


def _node(
    given: b.Common,
    language: BuildLanguage,
    toolchain: Toolchain,
    output: str | Mapping[str, str | int] | None,
    program: str,
) -> BuildNode:
    """What all languages have in common; raises E_VALUE for a build that leaves nothing."""
    span = here()
    artifacts: list[Artifact] = []
    if output is not None:
        artifacts.append(b.made_artifact("", output, span, program if language is not BuildLanguage.DOTNET else ""))
    for source, dest in sorted((given.artifacts or {}).items()):
        artifacts.append(b.made_artifact(posixpath.normpath(source), dest, span))
    if not artifacts:
        raise DiagnosticError.of(
            Code.E_VALUE, f"the build '{given.name}' has no artifacts", span, fix="name what it makes"
        )
    return BuildNode(
        name=given.name,
        language=language,
        source=b.remote_source(given.src, span),
        toolchain=toolchain,
        artifacts=tuple(artifacts),
        build_deps=tuple(given.build_deps),
        environment=tuple(sorted((given.env or {}).items())),
        program=program,
        test=given.test,
        network=given.network,
        span=span,
    )


def _made(cls: type[Build], given: b.Common, node: BuildNode) -> Build:
    src = None if given.src is None or isinstance(given.src, Mapping) else str(given.src)
    return cls(node, src, tuple(map(str, given.patches)), given.outside)
