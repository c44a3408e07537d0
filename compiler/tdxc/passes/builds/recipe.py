"""What the languages have in common: the pieces that a build's shell text is made of.

All text here ends up in ``fetch.sh`` and ``build.sh`` of a build, which define ``need_lock``, ``fetch_modules`` and
``fetch_crates`` (see the mkosi emitter).
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator

from tdxc import quoting, records
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import BUILD_ROOT, Artifact, Build

SYSTEM_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_PATCHED = re.compile(rb"^\+\+\+ [^/\s]+/(\S+)", re.MULTILINE)


@records.frozen
class Recipe:
    """How one language is built: ``output`` is where what it makes lies, relative to the build's folder."""

    fetch: str = ""
    compile: str = ""
    version_command: str = ""
    packages: tuple[str, ...] = ()
    environment: tuple[tuple[str, str], ...] = ()
    appended: tuple[tuple[str, str], ...] = ()
    output: str = ""


def folder(name: str) -> str:
    """The build's own folder, which holds ``source/``, ``toolchain/``, ``out/`` and what the tools cache."""
    return f"{BUILD_ROOT}/{name}"


def word(build: Build, value: str) -> str:
    """One word of shell."""
    return quoting.shell_word(value, span=build.span)


def words(build: Build, *values: str) -> str:
    """Words of shell."""
    return quoting.shell_words(values, span=build.span)


def command(*parts: str) -> str:
    """A command over several lines: each part is one or more words that are already quoted; empty ones go."""
    return " \\\n    ".join(part for part in parts if part)


def has_file(build: Build, path: str) -> bool:
    """Whether a local source has a file, by its path relative to the folder that the build runs in."""
    wanted = posixpath.normpath(path)
    return any(found == wanted for found in file_paths(build))


def file_paths(build: Build) -> Iterator[str]:
    """The paths of a local source's files, and those that its patches may add (``patch -p1`` drops the first part)."""
    for file in build.source.files:
        yield file.path
    for patch in build.patches:
        for path in _PATCHED.findall(patch.content.data):
            yield path.decode("utf-8", "replace")


def file_text(build: Build, path: str) -> str:
    """The text of a local source's file; empty when there is none."""
    for file in build.source.files:
        if file.path == posixpath.normpath(path):
            return file.content.data.decode("utf-8", "replace")
    return ""


def missing_lock(build: Build, path: str, make: str) -> DiagnosticError:
    """The error for a source whose dependencies nothing pins."""
    return DiagnosticError.of(
        Code.E_BUILD,
        f"build '{build.name}': the source has no {path}, so nothing pins its dependencies",
        build.source.span,
        fix=f"make it with `{make}` in the source's folder, and keep it under version control",
    )


def need_lock(build: Build, path: str, make: str) -> str:
    """The same check as shell text, for a source that is fetched while baking."""
    return f"need_lock {words(build, path, make)}"


def merged_environment(build: Build, recipe: Recipe, path: str) -> tuple[tuple[str, str], ...]:
    """The environment of all steps: the language's own, the recipe's over it, flags of both one after the other."""
    found = {"PATH": path, **dict(recipe.environment)}
    own = dict(build.environment)
    for name, value in recipe.appended:
        found[name] = f"{value} {own.pop(name)}" if own.get(name) else value
    return tuple(sorted((found | own).items()))


def placed_artifacts(build: Build, recipe: Recipe) -> tuple[Artifact, ...]:
    """The artifacts with their sources relative to the build's folder. Raises E_PATH for one outside of it."""
    placed = []
    inside = posixpath.join("source", build.source.subdir)
    for artifact in build.artifacts:
        source = posixpath.normpath(posixpath.join(inside, artifact.source)) if artifact.source else recipe.output
        if source != "source" and not source.startswith(("source/", "out/")):
            raise DiagnosticError.of(
                Code.E_PATH,
                f"build '{build.name}': artifact '{artifact.source}' lies outside of the build's folder",
                artifact.span,
                fix="name a path inside of the source's folder",
            )
        placed.append(records.evolve(artifact, source=source))
    return tuple(placed)


def path_of(build: Build, offer_folder: str) -> str:
    """The PATH of all steps: the toolchain before what the distribution has."""
    if build.toolchain.url:
        home = f"{folder(build.name)}/toolchain"
        return f"{home}/bin:{home}:{SYSTEM_PATH}"
    return f"{offer_folder}:{SYSTEM_PATH}" if offer_folder else SYSTEM_PATH
