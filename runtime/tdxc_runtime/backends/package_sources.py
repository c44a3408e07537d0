"""Where the packages of a bake come from when the tree itself does not say.

mkosi writes its own list of archives unless a sandbox tree holds ``/etc/apt/sources.list.d/mkosi.sources``. That list
includes archives that mirrors do not carry (debug symbols, security updates), so a bake through a mirror brings its
own.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

import attrs
from tdxc.diagnostics import Code, DiagnosticError

from tdxc_runtime.toolsroot.apt_options import (
    DEBIAN_KEYRING,
    fetchable,
    host_apt_credentials,
    host_apt_options,
    render_apt_options,
    sources_text,
)
from tdxc_runtime.toolsroot.apt_sources import Mirror, find_mirror

SOURCES_PATH = Path("etc/apt/sources.list.d/mkosi.sources")
_KEYRINGS = {"debian": str(DEBIAN_KEYRING), "ubuntu": "/usr/share/keyrings/ubuntu-archive-keyring.gpg"}

_SNAPSHOT_FOLDERS = {"debian": "archive/debian"}
"""Where a snapshot service keeps the archive, if not in a folder of the distribution's name."""


@attrs.frozen(kw_only=True)
class TreeSources:
    """What a tree says of its packages, out of ``mkosi --json summary``.

    ``declared``: it names its own sources. ``seed``: what identifiers of its disks are derived from. ``suites``:
    further suites that it takes packages from without naming a source (``rules/suites``, one a line). ``snapshot``: the
    time at which it wants the archive (``mkosi.snapshot``), for which it names no source either. ``architecture``: in
    systemd's spelling. ``sandbox_trees``: the tree's own, each a folder of this machine and its place in the sandbox.
    """

    distribution: str
    release: str
    components: tuple[str, ...]
    declared: bool
    seed: uuid.UUID
    suites: tuple[str, ...] = ()
    snapshot: str = ""
    architecture: str = "x86-64"
    sandbox_trees: tuple[tuple[Path, str], ...] = ()


def read_summary(summary: bytes, *, tree_inside: Path, tree: Path) -> TreeSources:
    """Read mkosi's summary of the main image (the last one it lists).

    Raises DiagnosticError (E_BACKEND_EXECUTION) when this is not a summary.
    """
    try:
        image = json.loads(summary)["Images"][-1]
        trees = [Path(entry["Source"]) for entry in image["SandboxTrees"]]
        declares = bool(image.get("Mirror") or image.get("LocalMirror") or image.get("Snapshot"))
        return TreeSources(
            distribution=image["Distribution"],
            release=image["Release"],
            components=("main", *image["Repositories"]),
            seed=uuid.UUID(image["Seed"]),
            declared=declares or any(_has_sources(path, tree_inside, tree) for path in trees),
            suites=_read_suites(tree, image.get("Profiles") or []),
            snapshot=_read_snapshot(tree),
            architecture=image.get("Architecture") or "x86-64",
            sandbox_trees=tuple(
                (_on_host(Path(entry["Source"]), tree_inside, tree), entry.get("Target") or "")
                for entry in image["SandboxTrees"]
            ),
        )
    except (ValueError, KeyError, IndexError, TypeError) as fault:
        raise DiagnosticError.of(
            Code.E_BACKEND_EXECUTION,
            f"mkosi's summary of {tree} cannot be read: {fault}",
            fix="run `tdxc doctor`: this mkosi may be too new or too old",
        ) from fault


def cached_suites(packages: Path) -> Callable[[str, str], bool]:
    """Whether an archive's suite is among the lists of a package cache, for bakes that may not ask the network."""

    def has_suite(uri: str, suite: str) -> bool:
        # apt names a list after its URI, without the scheme and with underscores for slashes
        stem = uri.partition("://")[2].strip("/").replace("/", "_")
        return (packages / f"lib/apt/lists/{stem}_dists_{suite}_InRelease").is_file()

    return has_suite


def write_sandbox_tree(
    sandbox: Path,
    sources: TreeSources,
    mirror_option: str,
    *,
    has_suite: Callable[[str, str], bool] | None = None,
    tools_etc: Path | None = None,
) -> Mirror | None:
    """Fill the generated sandbox tree: the host's network options and logins for archives always, package sources
    where the tree has none.

    ``has_suite``: see :func:`~tdxc_runtime.toolsroot.apt_options.sources_text`; by default it asks the network.
    ``tools_etc``: the ``/etc`` of the tools root, whose mirror will do where the host's apt names none of the image's
    distribution, as on Ubuntu: the root has just been made from it.
    Returns the mirror that was written down, if any. The files may hold passwords and are for us alone.
    """
    options = host_apt_options()
    if options:
        _write_private(sandbox / "etc/apt/apt.conf.d/50build-host", render_apt_options(options))
    for credentials in host_apt_credentials():
        name = "50build-host.conf" if credentials.name == "auth.conf" else credentials.name
        _write_private(sandbox / "etc/apt/auth.conf.d" / name, credentials.read_text("utf-8"))
    at_snapshot = bool(sources.snapshot and mirror_option)
    if (sources.declared and not at_snapshot) or sources.distribution not in _KEYRINGS:
        return None
    if at_snapshot:
        mirror_option = snapshot_uri(mirror_option, sources.snapshot, sources.distribution)
    mirror = find_mirror(mirror_option, distribution=sources.distribution)
    if mirror is None and tools_etc is not None:
        mirror = find_mirror(distribution=sources.distribution, environ={}, etc=tools_etc)
    if mirror is None:
        return None
    keyring = _KEYRINGS[sources.distribution]
    if mirror.signed_by and mirror.signed_by != keyring and Path(mirror.signed_by).is_file():
        keyring = f"/etc/apt/keyrings/{Path(mirror.signed_by).name}"
        copied = sandbox / keyring[1:]
        copied.parent.mkdir(parents=True, exist_ok=True)
        copied.write_bytes(Path(mirror.signed_by).read_bytes())
    text = sources_text(
        attrs.evolve(mirror, signed_by=keyring),
        sources.release,
        components=sources.components,
        further=sources.suites,
        has_suite=has_suite or _answers(options),
    )
    _write_private(sandbox / SOURCES_PATH, text)
    return mirror


def snapshot_uri(mirror: str, snapshot: str, distribution: str) -> str:
    """The address of the archive at a time: below ``mirror``, or below a snapshot service given without a path."""
    uri = mirror.rstrip("/")
    if snapshot in uri.split("/"):
        return uri
    folder = "" if urlsplit(uri).path.strip("/") else f"/{_SNAPSHOT_FOLDERS.get(distribution, distribution)}"
    return f"{uri}{folder}/{snapshot}"


def _read_snapshot(tree: Path) -> str:
    path = tree / "mkosi.snapshot"
    return path.read_text(encoding="utf-8").strip() if path.is_file() else ""


def _read_suites(tree: Path, profiles: Sequence[str]) -> tuple[str, ...]:
    found: dict[str, None] = {}
    for layer in (tree, *(tree / "mkosi.profiles" / profile for profile in profiles)):
        path = layer / "rules/suites"
        lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
        found |= dict.fromkeys(line for line in lines if line and not line.startswith("#"))
    return tuple(found)


def _answers(options: Mapping[str, str]) -> Callable[[str, str], bool]:
    return lambda uri, suite: fetchable(f"{uri.rstrip('/')}/dists/{suite}/InRelease", options)


def _has_sources(path: Path, tree_inside: Path, tree: Path) -> bool:
    return (_on_host(path, tree_inside, tree) / SOURCES_PATH).is_file()


def _on_host(path: Path, tree_inside: Path, tree: Path) -> Path:
    return tree / path.relative_to(tree_inside) if path.is_relative_to(tree_inside) else path


def _write_private(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_text(text, encoding="utf-8")
