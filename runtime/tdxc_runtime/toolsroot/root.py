"""The tools root: a Debian system in the user's cache that holds every tool a bake and a boot need.

Example::

    tools = ToolsRoot.ensure(progress=print)
    tools.run(["mkosi", "--version"], on_line=print)
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError

from tdxc_runtime.process import Bind, Completed, Confinement, LineCallback, rerunnable, run
from tdxc_runtime.toolsroot.apt_sources import find_mirror
from tdxc_runtime.toolsroot.cache import CACHE_VARIABLE, cache_folder
from tdxc_runtime.toolsroot.contents import DEFAULT_SUITE, contents_digest
from tdxc_runtime.toolsroot.make import Manifest, debian_architecture, find_damage, make_root, scratch_folder
from tdxc_runtime.toolsroot.userns import caller_id_map

Progress = Callable[[str], None]

_FORGOTTEN_S = 30 * 86400.0
_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED_ON = ("TERM", "LANG", "http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@attrs.frozen(kw_only=True)
class ToolsRoot:
    """A finished tools root that is locked against replacement for as long as this object lives.

    ``folder``: holds ``root/`` and ``manifest.json``. ``made``: whether this call made or repaired it.
    """

    folder: Path
    manifest: Manifest
    made: bool = False
    _lock: _Lock = attrs.field(eq=False, repr=False)

    @classmethod
    def ensure(
        cls,
        *,
        cache: Path | None = None,
        mirror: str = "",
        suite: str = DEFAULT_SUITE,
        progress: Progress | None = None,
    ) -> ToolsRoot:
        """The tools root of ``suite``: the one in the cache when it is whole, else a new one.

        ``mirror`` is used only when one has to be made. Two processes may call this at once: one makes it, the
        other waits. Raises DiagnosticError (E_BACKEND_UNAVAILABLE, E_BACKEND_EXECUTION).
        """
        tell = progress or _ignore
        folder = root_folder(cache or cache_folder(), suite)
        try:
            return cls._ensure(folder, suite, mirror, tell)
        except OSError as fault:
            raise DiagnosticError.of(
                Code.E_BACKEND_UNAVAILABLE,
                f"the tools root cannot be kept in {folder.parent}: {fault}",
                fix=f"make room or give yourself the right to write there, or set {CACHE_VARIABLE} to another folder",
            ) from fault

    @classmethod
    def _ensure(cls, folder: Path, suite: str, mirror: str, tell: Progress) -> ToolsRoot:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = _Lock.open(folder.with_suffix(".lock"))
        lock.share(tell)
        manifest, damage = _examine(folder)
        if manifest is not None:
            return cls(folder=folder, manifest=manifest, lock=lock)
        lock.exclude(tell)
        manifest, damage = _examine(folder)
        made = manifest is None
        if manifest is None:
            tell(_announcement(folder, suite, damage))
            log = folder.with_suffix(".log")
            log.write_bytes(b"")
            found = find_mirror(mirror)
            tell(
                f"packages come from {f'{found.uri}, {found.origin}' if found else 'the default mirror of mmdebstrap'}"
            )
            manifest = make_root(folder, suite=suite, mirror=found, log=log, on_line=_step_lines(tell))
            _remove_forgotten(folder)
        lock.share(tell)
        return cls(folder=folder, manifest=manifest, made=made, lock=lock)

    @classmethod
    def find(cls, *, cache: Path | None = None, suite: str = DEFAULT_SUITE) -> ToolsRoot | None:
        """The tools root of ``suite`` if there is a whole one; makes nothing and waits for nobody."""
        folder = root_folder(cache or cache_folder(), suite)
        manifest, _ = _examine(folder)
        if manifest is None:
            return None
        lock = _Lock.open(folder.with_suffix(".lock"))
        lock.share(_ignore)
        return cls(folder=folder, manifest=manifest, lock=lock)

    @property
    def root(self) -> Path:
        """The folder that becomes ``/``."""
        return self.folder / "root"

    def confinement(self, *, binds: Sequence[Bind] = (), devices: Sequence[str] = ()) -> Confinement:
        """The confinement that puts a command into this root, with the host's network files and ``binds``."""
        staging = self.folder.parent / "staging"
        staging.mkdir(exist_ok=True)
        return Confinement(
            namespaces=True,
            root=self.root,
            staging=staging,
            binds=(*_network_files(), *binds),
            devices=tuple(devices),
            id_map=caller_id_map(),
        )

    def environment(self, env: Mapping[str, str] | None = None) -> dict[str, str]:
        """The environment inside: the tools' own PATH, locale and proxies of the caller, and ``env``."""
        passed_on = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        return {"PATH": _PATH, "HOME": "/root", "LANG": "C.UTF-8", **passed_on, **(env or {})}

    def run(
        self,
        argv: Sequence[str],
        *,
        binds: Sequence[Bind] = (),
        devices: Sequence[str] = (),
        cwd: Path | None = None,
        env: Mapping[str, str] | None = None,
        on_line: LineCallback | None = None,
        log: Path | None = None,
        timeout_s: float | None = None,
        check: bool = True,
        capture: bool = False,
        umask: int = -1,
    ) -> Completed:
        """Run a command inside; see :func:`tdxc_runtime.process.run`. ``cwd`` is a path inside, ``/`` by default."""
        return run(
            argv,
            cwd=cwd or Path("/"),
            env=self.environment(env),
            on_line=on_line,
            log=log,
            timeout_s=timeout_s,
            check=check,
            capture=capture,
            umask=umask,
            confinement=self.confinement(binds=binds, devices=devices),
            rerun=rerunnable(_again(argv, binds, cwd)),
        )


def root_folder(cache: Path, suite: str) -> Path:
    """Where the tools root of a suite is or would be; the name changes with what it is to hold."""
    architecture = debian_architecture()
    return cache / "tools" / f"{suite}-{architecture}-{contents_digest(suite, architecture)}"


class _Lock:
    """A lock file: shared by those who use a root, exclusive to the one who makes it. Released with the process."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor

    @classmethod
    def open(cls, path: Path) -> _Lock:
        lock = cls(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644))
        os.utime(lock._descriptor)  # when the root was last used
        return lock

    def share(self, tell: Progress) -> None:
        self._take(fcntl.LOCK_SH, tell, "waiting for another process that is making the tools root")

    def exclude(self, tell: Progress) -> None:
        self._take(fcntl.LOCK_EX, tell, "waiting for other processes that use the tools root")

    def try_exclude(self) -> bool:
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def _take(self, kind: int, tell: Progress, waiting: str) -> None:
        try:
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except BlockingIOError:
            tell(waiting)
            fcntl.flock(self._descriptor, kind)

    def __del__(self) -> None:
        os.close(self._descriptor)


def _remove_forgotten(folder: Path) -> None:
    """Remove roots that were made by other versions and that nobody has used for a month."""
    for path in folder.parent.glob("*.lock"):
        with contextlib.suppress(FileNotFoundError):  # somebody else removes it
            old = path.with_suffix("")
            if old == folder or time.time() - path.stat().st_mtime < _FORGOTTEN_S:
                continue
            lock = _Lock.open(path)
            if old.is_dir() and lock.try_exclude():
                with scratch_folder(folder.parent, old.name) as scratch:
                    old.rename(scratch / "forgotten")
                path.unlink()
                path.with_suffix(".log").unlink(missing_ok=True)


def _examine(folder: Path) -> tuple[Manifest | None, str]:
    """The manifest of a root that is whole, else what is wrong with it (empty when there is none at all)."""
    try:
        manifest = Manifest.from_json((folder / "manifest.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, "its manifest is missing" if folder.exists() else ""
    except (OSError, ValueError) as fault:
        return None, f"its manifest cannot be read: {fault}"
    damage = find_damage(folder, manifest)
    return (None, damage) if damage else (manifest, "")


def _announcement(folder: Path, suite: str, damage: str) -> str:
    if damage:
        return f"repairing the tools root {folder.name}: {damage}"
    return f"making the tools root (Debian {suite}, once for this user, a minute or two) in {folder}"


def _again(argv: Sequence[str], binds: Sequence[Bind], cwd: Path | None) -> list[str]:
    """The command line that runs ``argv`` in the tools root again, by ``__main__.py`` of this package."""
    words = ["python3", "-m", "tdxc_runtime.toolsroot"]
    for bind in binds:
        option = "--bind" if bind.writable else "--bind-read-only"
        words += [option, str(bind.source), str(bind.target or bind.source)]
    if cwd:
        words += ["--cwd", str(cwd)]
    return [*words, "--", *argv]


def _network_files() -> tuple[Bind, ...]:
    """The host's name resolution and the authorities it trusts, links followed: they may lead to ``/run``."""
    found = []
    for name in ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl/certs/ca-certificates.crt"):
        source = Path(name).resolve()
        if source.is_file():
            found.append(Bind(source=source, target=Path(name)))
    return tuple(found)


def _step_lines(tell: Progress) -> LineCallback:
    """Pass on what mmdebstrap says it is doing, without its progress bars."""

    def on_line(line: str) -> None:
        if line.startswith("I: ") and not line.endswith("..."):
            return
        if line.startswith(("I: ", "E: ")):
            tell(line[3:])

    return on_line


def _ignore(_: str) -> None:
    return
