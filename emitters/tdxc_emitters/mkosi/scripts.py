"""Scripts that a recipe brings: shell text for a phase of the build, and builds from source.

mkosi runs a script beside the image, with the tools of the build host; ours that belong inside begin by running
themselves again through ``mkosi-chroot`` (mkosi(1), "Scripts"), where the image is ``/`` and the tree ``$SRCDIR``.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from tdxc import quoting
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import Artifact, Distribution, ResolvedImage, Script, ScriptBuild, ScriptPhase
from tdxc.tree import FileTree, Origin, TreeBuilder, TreeFile

from tdxc_emitters.mkosi.paths import image_path
from tdxc_emitters.mkosi.project import Phase, PhaseScript, origin_of
from tdxc_emitters.mkosi.templates import read_template

_FIRST_RANK = 20
"""Recipe scripts come behind those that complete the root file system, and before debloat and clean-up."""

_INSIDE_PHASES = frozenset({ScriptPhase.PREPARE, ScriptPhase.BUILD, ScriptPhase.POSTINST})

_BUILD_ROOT = "/var/lib/tdxc-build"
"""Where sources are built: one path on every host, as compilers write it into what they make. It lies in the overlay
that mkosi throws away after the build scripts."""


def recipe_scripts(image: ResolvedImage) -> tuple[PhaseScript, ...]:
    """One script for each script node of the image, in the order of the recipe within each phase."""
    shell = _shell(image)
    ranks: dict[ScriptPhase, int] = {}
    found = []
    for script in image.scripts:
        rank = ranks.setdefault(script.phase, _FIRST_RANK)
        ranks[script.phase] += 1
        found.append(_recipe_script(script, rank, shell))
    return tuple(found)


def build_scripts(image: ResolvedImage) -> tuple[PhaseScript, ...]:
    """One build script, with its sources under ``src/NAME/``, for each build of the image."""
    return tuple(_build_script(image, build, 10 + index) for index, build in enumerate(image.builds))


def slug(name: str, fallback: str) -> str:
    """A name as part of a file name: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or fallback


def _shell(image: ResolvedImage) -> str:
    return "sh" if image.base.distribution is Distribution.ALPINE else "bash"


def _recipe_script(script: Script, rank: int, shell: str) -> PhaseScript:
    inside = script.phase in _INSIDE_PHASES
    what = slug(script.name, "run")
    place = "inside the image" if inside else "beside the image ($BUILDROOT)"
    attachments, body = FileTree(), script.text
    if script.text.startswith("#!"):
        path = f"scripts/recipe/{rank:02}-{script.phase.value}-{what}"
        text = script.text if script.text.endswith("\n") else script.text + "\n"
        attachments = FileTree({path: TreeFile.text(text, executable=True, origin=origin_of(script))})
        body = f'"$layer/{path}"'
    return PhaseScript(
        phase=Phase(script.phase.value),
        rank=rank,
        what=what,
        purpose=f"Run '{script.name}' of the recipe {place}.",
        body=body,
        inside=inside,
        shell=shell if inside else "bash",
        attachments=attachments,
        origin=origin_of(script, "a script of the recipe"),
    )


def _build_script(image: ResolvedImage, build: ScriptBuild, rank: int) -> PhaseScript:
    name = slug(build.name, "build")
    source = f"src/{name}"
    return PhaseScript(
        phase=Phase.BUILD,
        rank=rank,
        what=name,
        purpose=f"Build '{build.name}' from {source} and install what it makes.",
        body="\n".join(_build_body(image, build, source, f"{_BUILD_ROOT}/{name}")),
        inside=True,
        shell=_shell(image),
        attachments=_sources(build, source),
        origin=origin_of(build, "built from source"),
    )


def _build_body(image: ResolvedImage, build: ScriptBuild, source: str, folder: str) -> Iterator[str]:
    yield read_template("build_head.sh").rstrip("\n")
    yield f'prepare_source "$layer/{source}" {folder}'
    yield f"cd {folder}"
    for name, value in build.environment:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise DiagnosticError.of(Code.E_EMIT, f"{name!r} is no name for an environment variable", build.span)
        yield f"export {name}={quoting.shell_word(value, span=build.span)}"
    yield ""
    yield "("
    yield build.build_script.strip("\n")
    yield ")"
    yield ""
    for artifact in build.artifacts:
        yield f"install_artifact {quoting.shell_words(_install(image, artifact, folder), span=artifact.span)}"


def _install(image: ResolvedImage, artifact: Artifact, folder: str) -> tuple[str, str]:
    """Source and destination as absolute paths; a destination that ends in a slash keeps the source's name."""
    source = posixpath.normpath(posixpath.join(folder, artifact.source))
    if not source.startswith(f"{folder}/") and source != folder:
        raise DiagnosticError.of(
            Code.E_EMIT, f"artifact {artifact.source!r} lies outside of the build's folder", artifact.span
        )
    merged = image.base.distribution is not Distribution.ALPINE
    dest = "/" + image_path(artifact.dest, artifact.span, merged_usr=merged)
    return source, dest + ("/" if artifact.dest.endswith("/") else "")


def _sources(build: ScriptBuild, source: str) -> FileTree:
    builder = TreeBuilder()
    for file in build.source_files:
        origin = Origin(span=file.span if file.span.file else build.span, cause=f"source of '{build.name}'")
        builder.add(
            f"{source}/{file.path}", TreeFile(data=file.content.data, executable=file.executable, origin=origin)
        )
    return builder.build()
