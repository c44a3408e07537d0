"""Variables that ``env=`` of a build may not set: the scripts, bash or the language's own steps need them as they are.

Sources: Bash Reference Manual, "Shell Variables" (what bash sets, makes readonly or obeys); cmd/go ("Environment
variables"); The Cargo Book ("Environment Variables", "Configuration"); .NET CLI ("Environment variables").
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tdxc.diagnostics import Code, Diagnostic
from tdxc.ir import Build, BuildLanguage

_SCRIPT_VARIABLES = frozenset(
    {"DESTDIR", "SRCDIR", "debug_shell", "downloads", "tdxc_offline", "toolchain_version", "work"}
)
"""What ``fetch.sh`` and ``build.sh`` of a build call their own things (see the mkosi emitter)."""

_SHELL_VARIABLE = (
    r"_|BASHOPTS|BASHPID|BASH(_.*)?|CDPATH|DIRSTACK|EPOCH(REALTIME|SECONDS)|EUID|EXECIGNORE|FUNCNAME|FUNCNEST|GLOBIGNORE"
    r"|GLOBSORT|GROUPS|HISTCMD|IFS|LINENO|OLDPWD|PIPESTATUS|POSIXLY_CORRECT|PPID|PWD|S?RANDOM|SECONDS|SHELLOPTS|SHLVL"
    r"|TMOUT|UID"
)

_FOLDER = ("is the folder where the steps of the build keep and find things", "leave it out")
_TARGET = ("changes where the program is made", "leave it out; output= says where it goes in the image")
_GO = ("chooses the toolchain", "say which with go_version= or toolchain=")
_RUST = ("chooses the compiler", "say which with toolchain=")
_LANGUAGE_VARIABLES: Mapping[BuildLanguage, Mapping[str, tuple[str, str]]] = {
    BuildLanguage.GO: {
        "CGO_ENABLED": ("says whether C is compiled too", "say so with cgo="),
        "GOCACHE": _FOLDER,
        "GOMODCACHE": _FOLDER,
        "GOPATH": _FOLDER,
        "GOROOT": _GO,
        "GOTOOLCHAIN": _GO,
    },
    BuildLanguage.RUST: {
        "CARGO_BUILD_RUSTC": _RUST,
        "CARGO_BUILD_TARGET": _TARGET,
        "CARGO_BUILD_TARGET_DIR": _TARGET,
        "CARGO_ENCODED_RUSTFLAGS": ("takes the place of the flags that keep paths out of the program", "use RUSTFLAGS"),
        "CARGO_HOME": _FOLDER,
        "CARGO_TARGET_DIR": _TARGET,
        "RUSTC": _RUST,
    },
    BuildLanguage.DOTNET: {"DOTNET_CLI_HOME": _FOLDER, "NUGET_PACKAGES": _FOLDER},
}
_COMPILERS = frozenset({"CC", "CXX"})


def check_variables(build: Build) -> Iterator[Diagnostic]:
    """E_VALUE for each variable of ``env=`` that would break the build's steps or go around its other arguments."""
    for name, _ in build.environment:
        if found := _reason(build, name):
            reason, fix = found
            message = f"build '{build.name}': env= cannot set {name}, which {reason}"
            yield Diagnostic(code=Code.E_VALUE, message=message, span=build.span, fix=fix)


def _reason(build: Build, name: str) -> tuple[str, str] | None:
    where = "leave it out"
    if build.language is BuildLanguage.SCRIPT:
        where = f"give it to the command of build_script that needs it: `env {name}=… COMMAND`"
    if name in _SCRIPT_VARIABLES:
        return "the scripts of the build use themselves", where
    if re.fullmatch(_SHELL_VARIABLE, name):
        return "means something to the shell that runs the steps", where
    if build.language is BuildLanguage.C and name in _COMPILERS and (build.toolchain.version or build.toolchain.url):
        return "would be used instead of the compiler that version= or toolchain= asks for", "keep one of the two"
    return _LANGUAGE_VARIABLES.get(build.language, {}).get(name)
