"""The scripts of a build from source, as a reviewer reads them: what is fetched, what runs, what is installed."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterable, Iterator

from tdxc import quoting
from tdxc.ir import BUILD_ROOT, Artifact, BuildLanguage, ResolvedBuild

from tdxc_emitters.mkosi.templates import read_template

_TITLES = {BuildLanguage.GO: "Go", BuildLanguage.RUST: "Rust", BuildLanguage.DOTNET: ".NET SDK"}
_FUNCTIONS = {
    "download": "download",
    "unpack": "unpack",
    "fetch_git": "git",
    "fetch_modules": "modules",
    "fetch_crates": "crates",
    "need_lock": "lock",
    "check_version": "version",
}
"""The shell functions that steps may call, and their templates."""

_FIRST_WORD = re.compile(r"^ *(\w+)", re.MULTILINE)
_DOWNLOADING = {"download", "fetch_git", "fetch_modules", "fetch_crates"}
_ENTER = """\
if [[ ${container:-} != mkosi ]]; then
%s
    exec mkosi-chroot env -i container=mkosi DESTDIR="$DESTDIR" "$CHROOT_SCRIPT" "$@"
fi"""

_ENTER_SHELL = """\
    # The mark of `tdxc build --debug-shell`: a shell where it would compile, and nothing is kept of what it does.
    if [[ -e /etc/tdxc/debug-shell ]]; then
        mkosi-chroot env -i container=mkosi TERM="${{TERM:-dumb}}" debug_shell=yes {name}="${name}" \\
            "$CHROOT_SCRIPT" "$@" || true
        exit 77
    fi"""

_SHOWN = ' "${shown[@]}"'
_IN_ENVIRONMENT = 'env -i container=mkosi SRCDIR="$SRCDIR" "$CHROOT_SCRIPT" "$@"'
_SHELL = "[[ -z ${debug_shell-} ]] || exec bash -i"


def fetch_text(build: ResolvedBuild, epoch: int) -> str:
    """``fetch.sh``: sources, patches, toolchain and dependencies, each verified; with the network."""
    steps = [
        *_toolchain(build),
        *_source(build),
        f"cd {_word(build, _source_folder(build))}",
        *_steps(build, "fetching its dependencies", build.fetch),
        *((_SHELL, *_compile(build)) if build.network else ()),
    ]
    also = " It also compiles, as the recipe leaves the network on for that." if build.network else ""
    purpose = f"Get what build '{build.name}' is made of, and verify it. mkosi leaves the network on here.{also}"
    fetches = build.network or bool(build.fetch or build.toolchain.url or not build.source.is_local)
    offered = not build.network and not _DOWNLOADING.isdisjoint(_called(steps))
    return _text(
        [
            *_head(purpose),
            "# mkosi prepares the image first and then the build environment, which alone is meant.",
            "[[ ${1-} == build ]] || exit 0",
            f"work={_word(build, _work(build))}",
            "if [[ ${container:-} != mkosi ]]; then",
            *((read_template("build_network.sh"),) if fetches else ()),
            *((_ENTER_SHELL.format(name="SRCDIR"),) if build.network else ()),
            *((read_template("build_offer.sh"),) if offered else ()),
            f"    exec mkosi-chroot{_SHOWN if offered else ''} {_IN_ENVIRONMENT}",
            "fi",
            "umask 022",
            "",
            *_functions(steps),
            *(("# shellcheck source=/dev/null", '. "$work/network"', "") if fetches else ()),
            *_environment(build, epoch),
            'mkdir -p "$HOME" "$work/cache" "$work/out"',
            *steps,
            *(("", 'rm -f "$work/network" "$work/ca-certificates.crt"') if fetches else ()),
        ]
    )


def _called(steps: Iterable[str]) -> tuple[str, ...]:
    """The functions of ours that the steps call."""
    first_words = {*_FIRST_WORD.findall("\n".join(steps))}
    return tuple(name for name in _FUNCTIONS if name in first_words)


def _functions(steps: Iterable[str]) -> Iterator[str]:
    called = _called(steps)
    for template in (*(("downloads",) if _DOWNLOADING & {*called} else ()), *(_FUNCTIONS[name] for name in called)):
        yield read_template(f"build_{template}.sh")
        yield ""


def build_text(build: ResolvedBuild, epoch: int, artifacts: Iterable[tuple[Artifact, str]]) -> str:
    """``build.sh``: compile, test and install, without the network; artifacts come with their places in the image."""
    done = "Install what build '{}' has made in fetch.sh." if build.network else "Compile build '{}' and install it."
    return _text(
        [
            *_head(f"{done.format(build.name)} This step has no network."),
            f"work={_word(build, _work(build))}",
            _ENTER % _ENTER_SHELL.format(name="DESTDIR"),
            "",
            read_template("build_install.sh"),
            *(("", read_template("build_list.sh")) if any(map(_is_given, build.artifacts)) else ()),
            *_environment(build, epoch),
            f"cd {_word(build, _source_folder(build))}",
            _SHELL,
            *(() if build.network else _compile(build)),
            "",
            "# Artifacts: where the build left them, and where they go in the image.",
            _told(build, "installing its artifacts"),
            *(line for artifact, dest in artifacts for line in _install(build, artifact, dest)),
        ]
    )


def collect_text(build: ResolvedBuild) -> str:
    """``collect.sh``: only the artifacts stay of the environment."""
    purpose = f"Keep what build '{build.name}' installed, and nothing of the environment it was built in."
    return _text([*_head(purpose), read_template("build_collect.sh")])


def pack_text(build: ResolvedBuild, name: str, epoch: int) -> str:
    """``pack.sh``: the archive again with its entries sorted."""
    purpose = "Write the archive of artifacts anew in the order of names: mkosi's is in the order of the disk."
    archive = f"archive=$OUTPUTDIR/{_word(build, f'{name}.tar')}"
    return _text([*_head(purpose), archive, f"epoch={epoch}", read_template("build_pack.sh")])


def _head(purpose: str) -> Iterator[str]:
    yield "#!/bin/bash"
    yield f"# {quoting.shell_comment(purpose)}"
    yield "set -euo pipefail"


def _text(lines: Iterable[str]) -> str:
    return "\n".join(line.rstrip("\n") if line else "" for line in lines).rstrip("\n") + "\n"


def _work(build: ResolvedBuild) -> str:
    return f"{BUILD_ROOT}/{build.name}"


def _source_folder(build: ResolvedBuild) -> str:
    return posixpath.normpath(posixpath.join(_work(build), "source", build.source.subdir))


def _word(build: ResolvedBuild, value: str) -> str:
    return quoting.shell_word(value, span=build.span)


def _environment(build: ResolvedBuild, epoch: int) -> Iterator[str]:
    """All variables that a step sees; HOME and its like can be overridden by the recipe."""
    fixed = {
        "HOME": f"{_work(build)}/home",
        "LC_ALL": "C.UTF-8",
        "SOURCE_DATE_EPOCH": str(epoch),
        "TMPDIR": "/var/tmp",  # noqa: S108 - mkosi's own, on a disk rather than in memory
        "TZ": "UTC",
    }
    for name, value in sorted({**fixed, **dict(build.environment)}.items()):
        yield f"export {quoting.environment_name(name, span=build.span)}={_word(build, value)}"
    yield ""


def _toolchain(build: ResolvedBuild) -> Iterator[str]:
    toolchain = build.toolchain
    if toolchain.url:
        archive = f"{_work(build)}/toolchain.archive"
        home = f"{_work(build)}/toolchain"
        yield ""
        yield "# The toolchain, from a pinned archive; Rust's brings an installer."
        yield _told(build, "fetching its toolchain")
        yield f"download {_words(build, toolchain.url, toolchain.sha256, archive)}"
        yield f"unpack {_words(build, archive, home)}"
        installer = f"{home}/install.sh"
        options = (f"--prefix={home}", "--without=rust-docs", "--disable-ldconfig")
        yield f"if [[ -x {_word(build, installer)} ]]; then"
        yield f"    {_words(build, installer, *options)}"
        yield "fi"
    if build.version_command:
        yield _told(build, "checking the version of its toolchain")
        title = _TITLES.get(build.language, "GCC")
        yield f"toolchain_version=$({build.version_command})"
        yield f'check_version {_words(build, title, toolchain.version)} "$toolchain_version"'


def _source(build: ResolvedBuild) -> Iterator[str]:
    source, target = build.source, f"{_work(build)}/source"
    yield ""
    yield _told(build, "laying out its source" if source.is_local else "fetching its source")
    if source.git:
        yield f"fetch_git {_words(build, source.git, source.rev, target)}"
    elif source.tarball:
        archive = f"{_work(build)}/source.archive"
        yield f"download {_words(build, source.tarball, source.sha256, archive)}"
        yield f"unpack {_words(build, archive, target)}"
    else:
        yield f"mkdir {_word(build, target)}"
        if source.files:
            folder = _word(build, f"mkosi.images/build-{build.name}/src")
            yield f'cp -R "$SRCDIR"/{folder}/. {_word(build, target)}'
            yield f"find {_word(build, target)} -type f ! -perm -u+x -exec chmod 0644 {{}} +"
            yield f"find {_word(build, target)} \\( -type d -o -perm -u+x \\) -exec chmod 0755 {{}} +"
    for patch in build.patches:
        path = _word(build, f"mkosi.images/build-{build.name}/patches/{patch.path}")
        yield _told(build, f"applying the patch {patch.path}")
        options = "--strip=1 --forward --fuzz=0 --no-backup-if-mismatch"
        yield f'patch --directory={_word(build, target)} {options} < "$SRCDIR"/{path}'
    yield f'find {_word(build, target)} -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {{}} +'


def _compile(build: ResolvedBuild) -> Iterator[str]:
    yield from _steps(build, "compiling", build.compile)
    yield from _steps(build, "testing", build.test)


def _told(build: ResolvedBuild, step: str) -> str:
    """A line of the log that begins a step, marked as mkosi marks its own."""
    return f"echo {_word(build, f'‣ build {build.name}: {step}')}"


def _steps(build: ResolvedBuild, step: str, text: str) -> Iterator[str]:
    """Shell text in a subshell of its own, so that it can change folder and options as it likes."""
    if text:
        yield ""
        yield _told(build, step)
        yield "("
        yield text.strip("\n")
        yield ")"


def _install(build: ResolvedBuild, artifact: Artifact, dest: str) -> Iterator[str]:
    source = posixpath.join(_work(build), artifact.source)
    mode = (f"{artifact.mode:04o}",) if artifact.mode is not None else ()
    yield f"install_artifact {quoting.shell_words((source, dest, *mode), span=artifact.span)}"
    if _is_given(artifact):
        yield f"list_artifact {quoting.shell_words((source, dest, build.name), span=artifact.span)}"


def _is_given(artifact: Artifact) -> bool:
    return (artifact.owner, artifact.group) != ("root", "root")


def _words(build: ResolvedBuild, *values: str) -> str:
    return quoting.shell_words(values, span=build.span)
