"""Which packages the environment of a build would hold: apt is asked and installs nothing.

apt runs beside mkosi's own, with the sources, keys and pins of the bake but folders of its own, and an empty dpkg
database. Its lists are fetched once for all builds of a bake, into a package cache that mkosi then uses as it is
(``--cache-only=metadata``), so that what was resolved is what gets installed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol
from urllib.parse import unquote

import attrs
from tdxc.diagnostics import Code, DiagnosticError, Note

from tdxc_runtime.process import Bind, Completed, describe_status

ESSENTIAL = ("?essential", "base-files")
"""What mkosi installs first into every Debian or Ubuntu root (``distributions/debian.py`` of 25.3 and 27.1)."""

LISTS = "lib/apt/lists"
ARCHIVES = "cache/apt/archives"
"""Where a package cache of mkosi has apt's lists and the downloaded packages."""

METADATA_CACHE, METADATA_KEY = "mkosi", "lists"
"""The ``CacheDirectory=`` and ``CacheKey=`` of mkosi 27 and newer: a folder in the package cache, see share_lists()."""

NO_ARCHIVES = "nothing"
"""An empty folder in the place of the downloaded packages."""

_INSIDE = Path("/tdxvm/apt")
_ETC = Path("/etc/apt")
_SHOWN_LINES = 15
_URI_LINE = re.compile(r"'(?P<uri>[^']*)' (?P<file>\S+) (?P<size>\d+) SHA256:(?P<sha256>[0-9a-f]{64})")
_DEB_NAME = re.compile(r"(?P<name>[^_]+)_(?P<version>[^_]+)_(?P<architecture>[^_]+)\.deb")
_DEBIAN_NAMES = {"x86-64": "amd64", "arm64": "arm64"}


class AptShell(Protocol):
    """Runs a command where apt is, with ``binds`` in sight; never raises for a command that fails."""

    def __call__(self, argv: Sequence[str], binds: Sequence[Bind]) -> Completed | None:
        """The finished command, with its standard output kept; None where there is no apt."""
        ...


@attrs.frozen(kw_only=True)
class PackageIndex:
    """What the archives of a bake offer at one moment; made by :func:`update_index`.

    ``folder``: apt's lists and downloaded packages, laid out as a package cache of mkosi. ``etc``: an ``/etc/apt``.
    ``architecture``: in Debian's spelling.
    """

    folder: Path
    etc: Path
    architecture: str
    shell: AptShell

    def resolve(self, packages: Sequence[str]) -> dict[str, str]:
        """Everything that installing ``packages`` into an empty root brings: name to ``VERSION sha256:DIGEST``.

        Raises DiagnosticError (E_BUILD) with apt's words when they cannot be installed.
        """
        # apt names no package that it has downloaded already, so it must not see those
        nothing = f"Dir::Cache::Archives={_INSIDE / NO_ARCHIVES}"
        completed = self.run_apt(["-o", nothing, "install", "--print-uris", "-qq", *ESSENTIAL, *packages])
        if completed.status:
            raise _apt_failure(completed, f"the packages {', '.join(packages)} cannot be installed together")
        found = parse_uris(completed.stdout.decode("utf-8", "replace"))
        missing = [name for name in packages if not _is_among(name, found)]
        if missing:
            raise DiagnosticError.of(
                Code.E_BUILD,
                f"apt does not say which package it would install for {', '.join(missing)}",
                fix="name packages themselves, not names that several packages provide",
            )
        return found

    def run_apt(self, arguments: Sequence[str]) -> Completed:
        """Run apt-get in this index's folders."""
        binds = [Bind(source=self.folder, target=_INSIDE, writable=True), Bind(source=self.etc, target=_ETC)]
        completed = self.shell(["apt-get", *_options(self.architecture), *arguments], binds)
        if completed is None:
            raise DiagnosticError.of(Code.E_BACKEND_UNAVAILABLE, "there is no apt where mkosi runs")
        return completed


def update_index(
    shared: Path, folder: Path, etc: Path, architecture: str, shell: AptShell, *, offline: bool = False
) -> PackageIndex:
    """Fill ``folder`` from the package cache that all bakes share, and bring its lists up to date unless ``offline``.

    Files are linked, and copied where ``folder`` is on another disk. Other bakes may fetch other lists meanwhile
    without a change here. Raises DiagnosticError (E_BACKEND_EXECUTION) with apt's words when the lists
    cannot be had.
    """
    for name in (LISTS, ARCHIVES):
        _link_files(shared / name, folder / name)
        (folder / name / "partial").mkdir(exist_ok=True)
    for name in ("log", "lib/dpkg", f"{NO_ARCHIVES}/partial"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    (folder / "lib/dpkg/status").touch()
    share_lists(folder)
    index = PackageIndex(folder=folder, etc=etc, architecture=debian_name(architecture), shell=shell)
    if not offline:
        completed = index.run_apt(["update", "--error-on=any"])
        if completed.status:
            raise _apt_failure(completed, "the lists of packages cannot be fetched", Code.E_BACKEND_EXECUTION)
    return index


def share_lists(packages: Path) -> None:
    """Have mkosi 27 and newer keep and find apt's lists in the package cache, as older ones do.

    They look in ``CACHE_DIRECTORY/KEY.metadata.cache``, and refuse ``--cache-only=`` without such a folder
    (``sync_repository_metadata`` and ``check_inputs`` of mkosi 27.1).
    """
    folder = packages / METADATA_CACHE
    folder.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        (folder / f"{METADATA_KEY}.metadata.cache").symlink_to("..")


def give_back(folder: Path, shared: Path) -> None:
    """Keep for later bakes what was downloaded into ``folder``."""
    for name in (LISTS, ARCHIVES):
        _link_files(folder / name, shared / name)


def _link_files(source: Path, target: Path) -> None:
    """Link the files of one folder into another; what is there is replaced, what vanishes meanwhile is left out."""
    target.mkdir(parents=True, exist_ok=True)
    for path in source.iterdir() if source.is_dir() else ():
        if path.is_file() and path.name != "lock" and not path.name.startswith("."):  # of another bake, not yet whole
            beside = target / f".{path.name}.{os.getpid()}"
            with contextlib.suppress(FileNotFoundError):
                beside.unlink(missing_ok=True)
                link_file(path, beside)
                beside.replace(target / path.name)
                # rename(2) does nothing when both names are links of one file already
                beside.unlink(missing_ok=True)


def link_file(source: Path, target: Path) -> None:
    """Link a file, or copy it where links to it cannot be made; raises OSError as linking and copying do."""
    try:
        target.hardlink_to(source)
    except OSError as fault:
        # another disk, or a file of another user (fs.protected_hardlinks of proc_sys_fs(5))
        if fault.errno not in {errno.EXDEV, errno.EPERM}:
            raise
        shutil.copy2(source, target)


def debian_name(architecture: str) -> str:
    """An architecture of systemd's naming as Debian spells it."""
    return _DEBIAN_NAMES.get(architecture, architecture)


def _is_among(wanted: str, found: Mapping[str, str]) -> bool:
    """Whether a package as apt takes it (``name``, ``name=version``, ``name/suite``, ``name:arch``) was found."""
    return re.split(r"[=/:]", wanted, maxsplit=1)[0] in found


def parse_uris(text: str) -> dict[str, str]:
    """``apt-get --print-uris`` as package name to ``VERSION sha256:DIGEST``; other architectures as ``name:arch``.

    Raises DiagnosticError (E_BACKEND_EXECUTION) for a line without a SHA-256: an unsigned or outdated archive.
    """
    found: dict[str, str] = {}
    for line in filter(None, text.splitlines()):
        match = _URI_LINE.fullmatch(line.strip())
        names = _DEB_NAME.fullmatch(unquote(match["file"])) if match else None
        if match is None or names is None:
            raise DiagnosticError.of(
                Code.E_BACKEND_EXECUTION,
                f"apt names a package without version or SHA-256: {line}",
                fix="use an archive whose index has SHA-256 digests",
            )
        found[names["name"]] = f"{names['version']} sha256:{match['sha256']}"
    return dict(sorted(found.items()))


def apt_folder(trees: Sequence[tuple[Path, str]], target: Path) -> Path:
    """Lay sandbox trees (folder on this machine, place in the sandbox) over each other; the ``/etc/apt`` of the result.

    ``target`` must not exist. It may hold logins, and is for us alone.
    """
    target.mkdir(mode=0o700)
    for source, place in trees:
        if source.is_dir():
            laid = target / place.strip("/")
            shutil.copytree(source, laid, symlinks=True, dirs_exist_ok=True)
    target.chmod(0o700)  # copying a tree gives its mode as well
    etc = target / "etc/apt"
    for name in ("sources.list.d", "preferences.d", "apt.conf.d"):
        (etc / name).mkdir(parents=True, exist_ok=True)
    return etc


def _options(architecture: str) -> list[str]:
    """mkosi's own options where they bear on what is chosen, and our folders."""
    settings: Mapping[str, object] = {
        "APT::Architecture": architecture,
        "APT::Architectures": architecture,
        "APT::Install-Recommends": "false",
        "APT::Sandbox::User": "root",
        "Acquire::AllowReleaseInfoChange": "true",
        "Acquire::Check-Valid-Until": "false",
        "Acquire::ForceHash": "SHA256",
        "Acquire::Languages": "none",
        "Dir::Cache": _INSIDE / "cache/apt",
        "Dir::Log": _INSIDE / "log",
        "Dir::State": _INSIDE / "lib/apt",
        "Dir::State::Status": _INSIDE / "lib/dpkg/status",
        "pkgCacheGen::ForceEssential": ",",
    }
    return [word for name, value in settings.items() for word in ("-o", f"{name}={value}")]


def _apt_failure(completed: Completed, what: str, code: Code = Code.E_BUILD) -> DiagnosticError:
    return DiagnosticError.of(
        code,
        f"{what}: apt-get {describe_status(completed.status)}",
        notes=tuple(Note(message=line) for line in completed.lines[-_SHOWN_LINES:]),
        fix="correct the names, or name a mirror and suites that have them",
    )
