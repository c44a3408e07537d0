"""Build: programs that are built from source into the image."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan
from tdxc.ir import Artifact, Blob, ScriptBuild, SourceFile

from tdx import _values as v
from tdx._declare import describes, here
from tdx._kinds import Constraint, Problem
from tdx._source import read_folder


def _artifact_source(value: str) -> Problem | None:
    if value.startswith("/") or posixpath.normpath(value) in {".", ".."} or ".." in value.split("/"):
        return Problem(Code.E_PATH, "is not a path inside the build's folder")
    return None


ArtifactSource = Annotated[v.Line, Constraint(check=_artifact_source, noun="a path in the build's folder")]


@records.frozen
class Build:
    """A build as a recipe describes it; made by :meth:`script`, used by ``image.build``."""

    _node: ScriptBuild
    _src: str | None
    _outside: bool

    @classmethod
    @describes
    def script(
        cls,
        name: v.StepName,
        *,
        build_script: v.ShellText,
        artifacts: Mapping[ArtifactSource, v.GuestPath],
        src: v.HostPath | None = None,
        build_deps: v.PackageNames = (),
        environment: v.Environment | None = None,
        outside: bool = False,
    ) -> Build:
        """Any build system, by shell text that runs in a copy of ``src``.

        ``artifacts`` maps what the build leaves in its folder to where it goes in the image; a destination that ends
        with ``/`` is not meant: name the file or folder itself. ``build_deps`` are packages of the build alone.
        """
        span = here()
        if not artifacts:
            raise DiagnosticError.of(
                Code.E_VALUE, f"the build '{name}' has no artifacts", span, fix="name what it makes"
            )
        node = ScriptBuild(
            name=name,
            build_script=build_script,
            artifacts=tuple(
                Artifact(source=posixpath.normpath(source), dest=dest, span=span)
                for source, dest in sorted(artifacts.items())
            ),
            build_deps=tuple(build_deps),
            environment=tuple(sorted((environment or {}).items())),
            span=span,
        )
        return cls(node, None if src is None else str(src), outside)

    def freeze(self, root: Path) -> ScriptBuild:
        """The IR node, with the source folder read; raises E_PATH or E_LIMIT."""
        if self._src is None:
            return self._node
        sources = read_folder(root, self._src, outside=self._outside, span=self._span)
        files = tuple(
            SourceFile(path=source.name, content=Blob.of(source.data), executable=source.executable, span=self._span)
            for source in sources
        )
        return records.evolve(self._node, source_files=files)

    @property
    def _span(self) -> SourceSpan:
        return self._node.span
