"""The types of the arguments of ``Build``: sources, toolchains and artifacts, each also as YAML writes it."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Mapping
from typing import Annotated

from tdxc import records
from tdxc.diagnostics import Code, SourceSpan
from tdxc.ir import Artifact, BuildSource, Toolchain

from tdx import _values as v
from tdx._declare import here
from tdx._kinds import Constraint, Problem, kind_of


def _inner_path(value: str) -> Problem | None:
    if value.startswith("/") or ".." in value.split("/"):
        return Problem(Code.E_PATH, f"{value!r} is not a path inside the build's folder")
    return None


def _artifact_source(value: str) -> Problem | None:
    if not value or posixpath.normpath(value) == ".":
        return Problem(Code.E_PATH, "is not a path inside the build's folder")
    return _inner_path(value)


def _output_path(value: str) -> Problem | None:
    plain = value[:-1] if value.endswith("/") and value != "/" else value
    return next(kind_of(v.GuestFile).problems(plain), None)


_NAME_ENDS = (".conf", ".tar", ".vmlinuz")
"""mkosi would take a folder with the first for a file, and has files of other builds and images with the others."""

BuildName = Annotated[
    str,
    Constraint(
        check=lambda value: (
            None
            if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", value) and not value.endswith(_NAME_ENDS)
            else Problem(
                Code.E_VALUE,
                f"{value!r} is not a name (letters, digits and '._-', not ending in '.conf', '.tar' or '.vmlinuz')",
            )
        ),
        noun="a name (letters, digits and '._-')",
        pattern="^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$",
    ),
]
Revision = Annotated[
    str,
    Constraint(
        check=lambda value: (
            None
            if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._/+-]{0,199}", value) and ".." not in value
            else Problem(Code.E_VALUE, f"{value!r} is not a commit, tag or branch")
        ),
        noun="a commit, tag or branch",
        pattern="^[A-Za-z0-9][A-Za-z0-9._/+-]{0,199}$",
    ),
]
Subfolder = Annotated[v.Line, Constraint(check=_inner_path, noun="a folder of the source")]
InnerPath = Annotated[v.Line, Constraint(check=_inner_path, noun="a path in the source")]
ArtifactSource = Annotated[v.Line, Constraint(check=_artifact_source, noun="a path in the build's folder")]
OutputPath = Annotated[
    str,
    Constraint(check=_output_path, noun="an absolute path in the image, a folder with '/' behind it", pattern="^/."),
]
Digest = Annotated[
    str,
    Constraint(
        check=lambda value: (
            None
            if re.fullmatch(r"[0-9a-f]{64}", value)
            else Problem(Code.E_VALUE, f"{value!r} is not a SHA-256", "write its 64 lower-case hex digits")
        ),
        noun="a SHA-256 in 64 lower-case hex digits",
        pattern="^[0-9a-f]{64}$",
    ),
]
ToolVersion = Annotated[
    str,
    Constraint(
        check=lambda value: (
            None
            if re.fullmatch(r"(?:[A-Za-z0-9][A-Za-z0-9.+~_-]{0,63})?", value)
            else Problem(Code.E_VALUE, f"{value!r} is not a version")
        ),
        noun="a version such as '1.24'",
        pattern="^(?:[A-Za-z0-9][A-Za-z0-9.+~_-]{0,63})?$",
    ),
]
OptionalName = Annotated[
    str,
    Constraint(
        check=lambda value: (
            None
            if re.fullmatch(r"(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,63})?", value)
            else Problem(Code.E_VALUE, f"{value!r} is not a name (letters, digits and '._-')")
        ),
        noun="a name (letters, digits and '._-')",
        pattern="^(?:[A-Za-z0-9_][A-Za-z0-9._-]{0,63})?$",
    ),
]
HostPaths = list[v.HostPath] | tuple[v.HostPath, ...]

_REMOTE = {"git": v.Uri, "rev": Revision, "tarball": v.Uri, "sha256": Digest, "subdir": Subfolder}
_REMOTE_FIX = "write {git: URL, rev: COMMIT} or {tarball: URL, sha256: DIGEST}, with subdir if it is not the top"
_OPTIONS = {"dest": v.GuestFile, "mode": v.Mode, "owner": v.UserName, "group": v.UserName}


def _fields(value: Mapping[str, object], known: Mapping[str, object], fix: str) -> Problem | None:
    for name, item in value.items():
        if name not in known:
            return Problem(Code.E_KEY, f"has the unknown key '{name}'", fix)
        for problem in kind_of(known[name]).problems(item):
            return Problem(problem.code, f"[{name!r}] {problem.text}", problem.fix or fix)
    return None


_PARAMETER = r"[?&;]([^=&;]*)=[^&;]"
_WORD = r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+"
_KEY_OF = "access|account|api|app|auth|client|deploy|license|private|secret|session|shared|ssh|storage|user"
_TELLTALE = rf".*(?:token|secret|password|passwd|credential)s?|(?:{_KEY_OF})?keys?|sig|signature|passphrase|pwd"
"""Words of parameters with a secret in them: 'signature' and 'apikey', not 'design' or 'monkey'."""

_SCHEMES = {"git": ("https", "http", "git", "file"), "tarball": ("https", "http", "file")}
_ACCESS = {
    "git": "hand it to `tdxc build` by git's variables GIT_CONFIG_COUNT, GIT_CONFIG_KEY_0 and GIT_CONFIG_VALUE_0",
    "tarball": "put the file where it can be had without, or unpack it into a folder of the recipe's",
}


def _address(kind: str, uri: str) -> Problem | None:
    """What is wrong with where a source comes from."""
    scheme, _, rest = uri.partition("://")
    if "@" in rest.partition("/")[0] or _holds_secret(rest):
        text = "holds a user name, password or token, which would be readable in the tree"
        return Problem(Code.E_SECRET, text, f"leave it out; {_ACCESS[kind]}")
    if scheme not in _SCHEMES[kind]:
        client = ", as there is neither an ssh client nor a key where it is fetched" if scheme == "ssh" else ""
        text = f"cannot be fetched by '{scheme}://'{client}"
        return Problem(Code.E_VALUE, text, f"write an address that begins with one of {', '.join(_SCHEMES[kind])}")
    if kind == "tarball" and rest.partition("?")[0].endswith(".zip"):
        return Problem(Code.E_VALUE, "is a zip archive", "give a tarball: tar with gzip, xz, bzip2 or zstd, or without")
    return None


def _holds_secret(rest: str) -> bool:
    """Whether a parameter's name says that its value is a secret, by whole words: ``access_token``, ``apiKey``."""
    words = (word for name in re.findall(_PARAMETER, rest) for word in re.findall(_WORD, name))
    return any(re.fullmatch(_TELLTALE, word.lower()) for word in words)


def _remote(value: Mapping[str, object]) -> Problem | None:
    if problem := _fields(value, _REMOTE, _REMOTE_FIX):
        return problem
    if {"git", "rev"} <= set(value) and not {"tarball", "sha256"} & set(value):
        kind = "git"
    elif {"tarball", "sha256"} <= set(value) and not {"git", "rev"} & set(value):
        kind = "tarball"
    else:
        return Problem(Code.E_VALUE, "is neither git with a rev nor a tarball with a sha256", _REMOTE_FIX)
    return _address(kind, str(value[kind]))


def _toolchain_tarball(value: Mapping[str, object]) -> Problem | None:
    if "git" in value or "subdir" in value:
        return Problem(Code.E_VALUE, "is not a tarball of a toolchain", "write tarball(URL, sha256=…)")
    return _remote(value)


def _artifact_options(value: Mapping[str, object]) -> Problem | None:
    fix = "write {dest: PATH}, with mode, owner and group as they are wanted"
    if "dest" not in value:
        return Problem(Code.E_VALUE, "has no dest", fix)
    return _fields(value, _OPTIONS, fix)


RemoteSource = Annotated[Mapping[str, str], Constraint(check=_remote, noun="git(url, rev=…) or tarball(url, sha256=…)")]
ToolchainTarball = Annotated[
    Mapping[str, str], Constraint(check=_toolchain_tarball, noun="tarball(url, sha256=…) with a toolchain")
]
ArtifactOptions = Annotated[
    Mapping[str, str | int], Constraint(check=_artifact_options, noun="artifact(dest, mode=…, owner=…)")
]
Artifacts = Mapping[ArtifactSource, v.GuestFile | ArtifactOptions]


@records.frozen
class Common:
    """The arguments that every kind of build takes."""

    name: str
    src: v.HostPath | Mapping[str, str] | None
    artifacts: Mapping[str, str | Mapping[str, str | int]] | None
    build_deps: v.Strings
    patches: HostPaths
    env: Mapping[str, str] | None
    test: str
    network: bool
    outside: bool


def toolchain(version: str, archive: Mapping[str, str] | None) -> Toolchain:
    """The toolchain that the arguments describe."""
    given = archive or {}
    return Toolchain(version=version, url=given.get("tarball", ""), sha256=given.get("sha256", ""), span=here())


def remote_source(src: object, span: SourceSpan) -> BuildSource:
    """The source that git() or tarball() describe; one of the recipe's folder is read later."""
    given = src if isinstance(src, Mapping) else {}
    return BuildSource(
        git=given.get("git", ""),
        rev=given.get("rev", ""),
        tarball=given.get("tarball", ""),
        sha256=given.get("sha256", ""),
        subdir=posixpath.normpath(given["subdir"]) if given.get("subdir") else "",
        span=span,
    )


def made_artifact(source: str, given: str | Mapping[str, str | int], span: SourceSpan, program: str = "") -> Artifact:
    """An artifact from its destination alone or with its options; a folder as destination gets the program."""
    options = {"dest": given} if isinstance(given, str) else given
    dest, mode = str(options["dest"]), options.get("mode")
    if dest.endswith("/") and program:
        dest += program
    return Artifact(
        source=source,
        dest=dest.rstrip("/"),
        mode=None if mode is None else v.mode_bits(mode),
        owner=str(options.get("owner", "root")),
        group=str(options.get("group", "root")),
        span=span,
    )
