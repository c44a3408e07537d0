"""What a caller who is not root needs to enter a tools root, and what to do when it is missing.

A user namespace with a range of ids of its own (``/etc/subuid``, ``/etc/subgid``; user_namespaces(7), newuidmap(1)):
inside, root is the caller and 1 to 65535 are the range, so that dpkg can give files to system users.
"""

from __future__ import annotations

import functools
import os
import pwd
import shutil
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError

from tdxc_runtime.process import Confinement, run
from tdxc_runtime.supervisor.main import IdMap

_NEEDED = 65535
_APPARMOR_SWITCH = Path("/proc/sys/kernel/apparmor_restrict_unprivileged_userns")
_DEBIAN_SWITCH = Path("/proc/sys/kernel/unprivileged_userns_clone")
_MAXIMUM = Path("/proc/sys/user/max_user_namespaces")


@attrs.frozen(kw_only=True)
class Obstacle:
    """Something that keeps user namespaces from working: what, and the exact fix."""

    detail: str
    fix: str


def caller_id_map() -> IdMap | None:
    """The map for this caller: None for root, who needs none.

    Raises DiagnosticError (E_BACKEND_UNAVAILABLE) that says what is missing and how to mend it.
    """
    if os.geteuid() == 0:
        return None
    obstacle = find_obstacle()
    if obstacle:
        raise DiagnosticError.of(
            Code.E_BACKEND_UNAVAILABLE,
            f"the tools root cannot be entered without root rights: {obstacle.detail}",
            fix=f"{obstacle.fix}; or run as root",
        )
    return _id_map()


def cleanup_id_map() -> IdMap | None:
    """The map for deleting what a confined command left; None where none is possible, and so nothing was confined."""
    return None if os.geteuid() == 0 or find_obstacle() else _id_map()


@functools.cache
def find_obstacle() -> Obstacle | None:
    """The first thing that would keep this caller, who is not root, from making a user namespace."""
    if _reads(_MAXIMUM, "0"):
        return Obstacle(detail="user namespaces are switched off", fix="run `sysctl user.max_user_namespaces=65536`")
    if _reads(_DEBIAN_SWITCH, "0"):
        return Obstacle(
            detail="user namespaces are for root alone", fix="run `sysctl kernel.unprivileged_userns_clone=1`"
        )
    if shutil.which("newuidmap") is None or shutil.which("newgidmap") is None:
        return Obstacle(detail="newuidmap and newgidmap are not installed", fix="run `apt-get install uidmap`")
    for kind, option in (("uid", "--add-subuids"), ("gid", "--add-subgids")):
        if _range(kind)[1] < _NEEDED:
            return Obstacle(
                detail=f"/etc/sub{kind} gives {_login()} fewer than {_NEEDED} ids",
                fix=f"run `usermod {option} 100000-165535 {_login()}`",
            )
    return _try_namespace()


def subordinate_range(path: Path, login: str, number: int) -> tuple[int, int]:
    """The largest range (start, count) that a subuid(5) file gives to a user, by name or number; (0, 0) for none."""
    best = (0, 0)
    try:
        lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return best
    for line in lines:
        owner, _, rest = line.partition(":")
        start, _, count = rest.partition(":")
        if owner in {login, str(number)} and start.isdigit() and count.strip().isdigit() and int(count) > best[1]:
            best = (int(start), int(count))
    return best


def _try_namespace() -> Obstacle | None:
    """Really make one: AppArmor may let it be made and then deny everything in it."""
    try:
        run(["true"], confinement=Confinement(namespaces=True, id_map=_id_map()), timeout_s=30)
    except DiagnosticError as fault:
        if _reads(_APPARMOR_SWITCH, "1"):
            return Obstacle(
                detail="AppArmor keeps this program from using user namespaces",
                fix="run `sysctl kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu 24.04 sets it to 1)",
            )
        return Obstacle(detail=str(fault), fix="allow user namespaces to this user (a container may forbid them)")
    return None


def _id_map() -> IdMap:
    return {
        "uid": [(0, os.geteuid(), 1), (1, _range("uid")[0], _NEEDED)],
        "gid": [(0, os.getegid(), 1), (1, _range("gid")[0], _NEEDED)],
    }


def _range(kind: str) -> tuple[int, int]:
    return subordinate_range(Path(f"/etc/sub{kind}"), _login(), os.geteuid())


def _reads(path: Path, expected: str) -> bool:
    try:
        return path.read_text(encoding="ascii").strip() == expected
    except OSError:
        return False


def _login() -> str:
    try:
        return pwd.getpwuid(os.geteuid()).pw_name
    except KeyError:
        return str(os.geteuid())
