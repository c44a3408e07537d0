"""What a local source has to hold for its language, so that a wrong folder is told when compiling and not when baking.

And what it must not: files of an earlier build.

Sources: go.dev/ref/mod ("go.mod files", "go.sum files", "Workspaces"); The Cargo Book ("The Manifest Format"); MSBuild
command-line reference (a folder with one project or solution file).
"""

from __future__ import annotations

import posixpath
import re

from tdxc.diagnostics import Code, DiagnosticError, Note
from tdxc.ir import Build, BuildLanguage, SourceFile
from tdxc.passes.builds.recipe import file_paths, file_text, has_file

_DOTNET_PROJECTS = (".csproj", ".fsproj", ".vbproj", ".sln", ".slnx")
_SHOWN = 3


def check_project(build: Build) -> None:
    """Raise DiagnosticError (E_BUILD) when a local source is no project of the language, or has been built in."""
    if build.source.is_local and build.language in _CHECKS:
        _CHECKS[build.language](build)


def needs_go_sum(build: Build) -> bool:
    """Whether a local module requires others that come from elsewhere, which only ``go.sum`` pins."""
    required: set[str] = set()
    replaced: set[str] = set()
    for verb, rest in _go_mod_lines(file_text(build, "go.mod")):
        words = [word.strip('"`') for word in rest.split()]
        if verb == "require" and words:
            required.add(words[0])
        elif verb == "replace" and "=>" in words[1:-1] and words[words.index("=>") + 1].startswith(("./", "../", "/")):
            replaced.add(words[0])
    return bool(required - replaced)


def _go_mod_lines(text: str) -> list[tuple[str, str]]:
    """Each line of a ``go.mod`` as its verb, which a block gives to all of its lines, and what follows it."""
    found = []
    block = ""
    for line in (line.partition("//")[0].strip() for line in text.splitlines()):
        if line == ")":
            block = ""
        elif block:
            found.append((block, line))
        elif opened := re.fullmatch(r"([a-z]+)\s*\(", line):
            block = opened[1]
        elif line:
            verb, _, rest = line.partition(" ")
            found.append((verb, rest))
    return found


def _check_go(build: Build) -> None:
    if not (has_file(build, "go.mod") or has_file(build, "go.work")):
        raise _no_project(build, "go.mod", _folders(build, "go.mod"), "make it with `go mod init MODULE` there")
    package = posixpath.normpath(build.package or ".")
    folder = "" if package == "." else f"{package}/"
    here = any(_is_go_file(path, folder) for path in file_paths(build))
    relative = package == "." or build.package.startswith("./")
    if here and not relative:
        raise DiagnosticError.of(
            Code.E_BUILD,
            f"build '{build.name}': to Go, '{build.package}' is a package of its standard library",
            build.source.span,
            fix=f"name the folder of the source: package='./{package}'",
        )
    if relative and not here:
        where = f"in {build.package}" if folder else "beside its go.mod"
        others = sorted(f"./{path}" if path else "." for path in _main_packages(build))
        raise DiagnosticError.of(
            Code.E_BUILD,
            f"build '{build.name}': the source has no Go files {where}, so there is no program to build",
            build.source.span,
            fix=f"name the folder of its program: package='{others[0]}'"
            + (f" (or {', '.join(others[1:_SHOWN])})" if others[1:] else "")
            if others
            else "name the folder of its program, such as package='./cmd/NAME'",
        )


def _is_go_file(path: str, folder: str) -> bool:
    """Whether ``path`` is a file of the Go package in ``folder`` (empty, or ending in a slash)."""
    rest = path.removeprefix(folder)
    return path.startswith(folder) and "/" not in rest and rest.endswith(".go") and not rest.endswith("_test.go")


def _main_packages(build: Build) -> set[str]:
    """The folders of a local source with a file that says ``package main``."""
    return {
        posixpath.dirname(file.path)
        for file in build.source.files
        if file.path.endswith(".go")
        and not file.path.startswith("vendor/")
        and re.search(rb"^package main\b", file.content.data, re.MULTILINE)
    }


def _check_rust(build: Build) -> None:
    if not has_file(build, "Cargo.toml"):
        raise _no_project(build, "Cargo.toml", _folders(build, "Cargo.toml"), "make it with `cargo init` there")


def _check_dotnet(build: Build) -> None:
    _check_leftovers(build)
    project = build.package
    if project.endswith(("proj", ".sln", ".slnx")):
        if not has_file(build, project):
            raise _no_dotnet_project(build, f"has no {project}")
        return
    folder = "" if project in {"", "."} else f"{project}/"
    below = {path.removeprefix(folder) for path in file_paths(build) if path.startswith(folder)}
    found = [name for name in below if name.endswith(_DOTNET_PROJECTS) and "/" not in name]
    if not found:
        raise _no_dotnet_project(build, f"has no project file in {project or '.'}")
    if len(found) > 1:
        names = ", ".join(sorted(found))
        raise DiagnosticError.of(
            Code.E_BUILD,
            f"build '{build.name}': {project or '.'} has several project files: {names}",
            build.source.span,
            fix=f"name one of them: project='{posixpath.join(folder, min(found))}'",
        )


def _no_dotnet_project(build: Build, lacks: str) -> DiagnosticError:
    there = sorted(file.path for file in build.source.files if file.path.endswith(_DOTNET_PROJECTS))
    return DiagnosticError.of(
        Code.E_BUILD,
        f"build '{build.name}': the source {lacks}, so there is nothing to publish",
        build.source.span,
        fix=f"name the project: project='{there[0]}'" if there else "point src= at the folder that holds the project",
    )


def _folders(build: Build, name: str) -> list[str]:
    """The folders of a local source that have a file of that name, the outermost first."""
    paths = [file.path for file in build.source.files if posixpath.basename(file.path) == name]
    return sorted((posixpath.dirname(path) for path in paths), key=lambda path: (path.count("/"), path))


def _no_project(build: Build, name: str, others: list[str], make: str) -> DiagnosticError:
    fix = f"point src= at the folder that holds it, or {make}"
    if others:
        fix = f"point src= at its folder '{others[0]}', which has one"
    return DiagnosticError.of(
        Code.E_BUILD,
        f"build '{build.name}': the source has no {name}, so it is no {_KINDS[build.language]}",
        build.source.span,
        fix=fix,
    )


def _check_leftovers(build: Build) -> None:
    """Refuse what an earlier build has left in a source: with all times made equal, it would count as up to date."""
    paths = {file.path for file in build.source.files}
    found = [file.path for file in build.source.files if _is_leftover(build, file, paths)]
    if found:
        more = f" and {len(found) - 1} more" if len(found) > 1 else ""
        raise DiagnosticError.of(
            Code.E_BUILD,
            f"build '{build.name}': the source holds what an earlier build left there: {min(found)}{more}",
            build.source.span,
            notes=(Note(message="it would be taken as it is instead of being built from this source"),),
            fix="remove it, as with `make clean`, or build in a folder outside of src=",
        )


def _is_leftover(build: Build, file: SourceFile, paths: set[str]) -> bool:
    if build.language is BuildLanguage.DOTNET:
        return f"/{file.path}".endswith("/obj/project.assets.json")
    stem, _, suffix = file.path.rpartition(".")
    if suffix in _OBJECTS:
        return any(f"{stem}.{source}" in paths for source in _COMPILED)
    if build.language is BuildLanguage.C and file.path in {build.program, f"build/{build.program}"}:
        return file.content.data.startswith(b"\x7fELF")
    return file.path in {"CMakeCache.txt", "build/CMakeCache.txt", "build/meson-private/coredata.dat"}


_OBJECTS = frozenset({"o", "lo", "obj"})
_COMPILED = ("c", "cc", "cpp", "cxx", "C", "S", "s")
_CHECKS = {
    BuildLanguage.GO: _check_go,
    BuildLanguage.RUST: _check_rust,
    BuildLanguage.DOTNET: _check_dotnet,
    BuildLanguage.C: _check_leftovers,
    BuildLanguage.SCRIPT: _check_leftovers,
}
_KINDS = {BuildLanguage.GO: "Go module", BuildLanguage.RUST: "Rust package"}
