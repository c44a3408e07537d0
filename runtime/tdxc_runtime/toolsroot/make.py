"""Makes a tools root with mmdebstrap: into a temporary sibling, synced, described by a manifest, renamed into place."""

from __future__ import annotations

import json
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError

from tdxc_runtime.process import Confinement, LineCallback, run, start
from tdxc_runtime.toolsroot.apt_options import (
    DEBIAN_KEYRING,
    host_apt_options,
    render_apt_options,
    sources_text,
)
from tdxc_runtime.toolsroot.apt_sources import Mirror
from tdxc_runtime.toolsroot.contents import LEFT_OUT, PACKAGES, SENTINELS
from tdxc_runtime.toolsroot.userns import caller_id_map, cleanup_id_map

MANIFEST_FORMAT = 1

_NOT_FETCHED = re.compile(
    r"Failed to fetch https?:|Hash Sum mismatch|File has unexpected size|Temporary failure resolv"
)
"""What apt says, after tries of its own, of a network or a mirror that may do in a moment."""


@attrs.frozen(kw_only=True)
class Manifest:
    """What a tools root is made of.

    ``packages``: name to version, of everything installed. ``sentinels``: path to (size in bytes, mtime in
    nanoseconds) of the files that are checked on each use. ``mirror``: where the packages came from, empty for
    mmdebstrap's own default.
    """

    suite: str
    architecture: str
    mirror: str
    packages: dict[str, str]
    sentinels: dict[str, tuple[int, int]]

    def to_json(self) -> str:
        """Stable text."""
        return json.dumps({"format": MANIFEST_FORMAT, **attrs.asdict(self)}, indent=1, sort_keys=True) + "\n"

    @classmethod
    def from_json(cls, text: str) -> Manifest:
        """Read it back; ValueError when it is not one of ours."""
        try:
            words = json.loads(text)
            if words.pop("format") != MANIFEST_FORMAT:
                raise ValueError("unknown format")
            sentinels = {path: (int(size), int(mtime)) for path, (size, mtime) in words.pop("sentinels").items()}
            return cls(sentinels=sentinels, **words)
        except (KeyError, TypeError, AttributeError) as fault:
            raise ValueError(f"not a manifest: {fault}") from fault


def debian_architecture() -> str:
    """This machine's architecture as Debian spells it."""
    machine = platform.machine()
    return {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)


@contextmanager
def scratch_folder(parent: Path, name: str) -> Iterator[Path]:
    """A hidden temporary folder in ``parent`` that is deleted at the end of the block, even when we are killed.

    A guard process waits beside us and deletes the folder when we are gone.
    """
    parent.mkdir(parents=True, exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=f".{name}.", suffix=".partial", dir=parent))
    with start(["sleep", "infinity"], confinement=Confinement(cleanup=(folder,), id_map=cleanup_id_map())):
        yield folder


def make_root(
    destination: Path, *, suite: str, mirror: Mirror | None, log: Path, on_line: LineCallback | None = None
) -> Manifest:
    """Make the tools root at ``destination`` (``root/`` and ``manifest.json`` in it), replacing a broken one.

    Raises DiagnosticError: E_BACKEND_UNAVAILABLE when mmdebstrap or the archive's keys are missing,
    E_BACKEND_EXECUTION when mmdebstrap fails.
    """
    _require_tools()
    with scratch_folder(destination.parent, destination.name) as scratch:
        scratch.chmod(0o755)
        made = scratch / "made"
        try:
            _bootstrap(scratch, made, suite, mirror, log, on_line)
        except DiagnosticError:
            if not _NOT_FETCHED.search(log.read_text(encoding="utf-8", errors="replace")):
                raise
            if on_line:
                on_line("E: packages could not be fetched: once more")
            made = scratch / "made-again"
            _bootstrap(scratch, made, suite, mirror, log, on_line)
        manifest = describe_root(made / "root", suite, mirror.uri if mirror else "")
        (made / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
        os.sync()  # a root that a power cut left half written would pass the cheap check
        if destination.exists():
            destination.rename(scratch / "broken")
        made.rename(destination)
    return manifest


def _bootstrap(
    scratch: Path, made: Path, suite: str, mirror: Mirror | None, log: Path, on_line: LineCallback | None
) -> None:
    """Run mmdebstrap into ``made``/root."""
    (made / "root").mkdir(parents=True)
    confinement = Confinement(namespaces=True, id_map=caller_id_map())
    argv = _mmdebstrap_argv(scratch, made / "root", suite, mirror)
    run(argv, log=log, on_line=on_line, umask=0o022, confinement=confinement)


def describe_root(root: Path, suite: str, mirror: str) -> Manifest:
    """The manifest of a root, from its dpkg database; E_BACKEND_EXECUTION when a tool is missing in it."""
    missing = [name for name in SENTINELS if not (root / name).is_file()]
    if missing:
        raise DiagnosticError.of(
            Code.E_BACKEND_EXECUTION,
            f"the tools root made from suite {suite!r} lacks {', '.join(missing)}",
            fix="check that the mirror carries the whole suite, component main",
        )
    return Manifest(
        suite=suite,
        architecture=debian_architecture(),
        mirror=mirror,
        packages=installed_packages((root / "var/lib/dpkg/status").read_text(encoding="utf-8")),
        sentinels={name: _size_and_time(root / name) for name in SENTINELS},
    )


def installed_packages(status: str) -> dict[str, str]:
    """Package names and versions out of dpkg's status file (deb822, Debian Policy section 5)."""
    found: dict[str, str] = {}
    name = ""
    for line in status.splitlines():
        if line.startswith("Package: "):
            name = line.removeprefix("Package: ")
        elif line.startswith("Version: "):
            found[name] = line.removeprefix("Version: ")
    return dict(sorted(found.items()))


def find_damage(folder: Path, manifest: Manifest) -> str:
    """The first sentinel that is not as the manifest says, or an empty string; a few microseconds a file."""
    for name, expected in manifest.sentinels.items():
        try:
            if _size_and_time(folder / "root" / name) != expected:
                return f"{name} has changed"
        except OSError:
            return f"{name} is missing"
    return ""


def _size_and_time(path: Path) -> tuple[int, int]:
    status = path.stat()
    return status.st_size, status.st_mtime_ns


def _require_tools() -> None:
    # Any keyring since bookworm's will do: trixie's and sid's Release files are signed with bookworm's key as well.
    if shutil.which("mmdebstrap") is None:
        raise DiagnosticError.of(
            Code.E_BACKEND_UNAVAILABLE,
            "mmdebstrap is not installed, and the tools root is made with it",
            fix="run `apt-get install mmdebstrap` (Debian 12 or later, Ubuntu 22.04 or later)",
        )
    if not DEBIAN_KEYRING.is_file():
        raise DiagnosticError.of(
            Code.E_BACKEND_UNAVAILABLE,
            f"the keys that sign Debian's archive are not installed ({DEBIAN_KEYRING})",
            fix="run `apt-get install debian-archive-keyring`",
        )


def _mmdebstrap_argv(scratch: Path, target: Path, suite: str, mirror: Mirror | None) -> list[str]:
    """The command line; what could hold a password (sources, proxies) goes into files."""
    options = scratch / "apt.conf"
    options.touch(mode=0o600)
    check_dates = {} if suite != "sid" else {"Acquire::Check-Valid-Until": "false"}
    # unprivileged, apt's own user could not reach a cache inside a private home
    sandbox_user = {} if os.geteuid() == 0 else {"APT::Sandbox::User": "root"}
    # mmdebstrap runs the host's apt, which can read the host's own logins where they are
    logins = {"Dir::Etc::netrc": "/etc/apt/auth.conf", "Dir::Etc::netrcparts": "/etc/apt/auth.conf.d"}
    text = render_apt_options({**host_apt_options(), **check_dates, **sandbox_user, **logins})
    options.write_text(text, encoding="utf-8")
    argv = [
        "mmdebstrap",
        "--mode=root",
        "--format=directory",
        "--variant=apt",
        f"--include={','.join(PACKAGES)}",
        f"--keyring={DEBIAN_KEYRING}",
        f"--aptopt={options}",
        "--dpkgopt=force-unsafe-io",
        *(f"--dpkgopt=path-exclude={pattern}" for pattern in LEFT_OUT),
        # the options may hold a password, and mmdebstrap would leave its copy of them in the root
        '--customize-hook=rm -f "$1/etc/apt/apt.conf.d/99mmdebstrap"',
        # mount points for files of the host
        '--customize-hook=rm -f "$1/etc/resolv.conf" "$1/etc/hosts" && touch "$1/etc/resolv.conf" "$1/etc/hosts"',
        suite,
        str(target),
    ]
    if mirror is not None:
        sources = scratch / "mirror.sources"
        sources.touch(mode=0o600)
        sources.write_text(sources_text(mirror, suite), encoding="utf-8")
        argv.append(str(sources))
    return argv
