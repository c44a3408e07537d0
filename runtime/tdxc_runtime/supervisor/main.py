"""Runs one command so that nothing of it can outlive the program that asked for it.

Three processes, outermost first: the *supervisor* holds the reading end of a pipe, the lifeline, whose writing end the
asking program keeps open; the *gate* enters new namespaces; *init*, first process of the new PID namespace, builds
the root and reaps. When the lifeline closes, for whatever reason (SIGKILL included), the supervisor kills the gate,
the kernel kills init and with it the whole PID namespace, the mount namespace vanishes with its last process, and the
supervisor deletes the scratch folders named in its specification. Without namespaces it hunts down its descendants
one by one instead, which it can because it adopts every orphan among them (``prctl(2)``, PR_SET_CHILD_SUBREAPER).

Faults of the set-up itself, as opposed to the command's own, are written as one JSON object to the report pipe.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn, TypedDict

from tdxc_runtime.supervisor import root as root_
from tdxc_runtime.supervisor import syscalls as sys_

_REMOVAL_ROUNDS = 100
_REMOVAL_PAUSE_S = 0.1

SETUP_FAILED = 125
"""The exit status when the command was never started; the report pipe says why."""


class IdMap(TypedDict):
    """How ids inside a user namespace map to ids outside: (inside, outside, count) each."""

    uid: list[tuple[int, int, int]]
    gid: list[tuple[int, int, int]]


class Specification(TypedDict):
    """What to run and how; the one argument of the supervisor, as JSON."""

    argv: list[str]
    cwd: str | None
    lifeline: int
    report: int
    interactive: bool
    namespaces: bool
    id_map: IdMap | None
    root: str | None
    staging: str | None
    binds: list[tuple[str, str, bool]]
    devices: list[str]
    cleanup: list[str]


def main() -> NoReturn:
    """Run the specification given as the first argument and exit as its command did (128 + n after signal n)."""
    spec: Specification = json.loads(sys.argv[1])
    os.set_inheritable(spec["lifeline"], False)
    os.set_inheritable(spec["report"], False)
    sys_.become_subreaper()
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    wake_read, wake_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    signal.set_wakeup_fd(wake_write)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGTERM, lambda *_: None)
    status = 128 + signal.SIGKILL
    try:
        gate = _fork(lambda: _gate(spec), spec)
        status = _watch(gate, spec["lifeline"], wake_read)
    finally:
        _kill_descendants()
        for path in spec["cleanup"]:
            _remove(Path(path), spec["id_map"])
    sys.stdout.flush()
    os._exit(status)


def _watch(child: int, lifeline: int, wake: int) -> int:
    """Wait for the child; kill it when the lifeline closes or SIGTERM arrives. Returns its exit status."""
    poll = select.poll()
    poll.register(lifeline, select.POLLIN | select.POLLHUP)
    poll.register(wake, select.POLLIN)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == lifeline:
                return 128 + signal.SIGKILL
            if signal.SIGTERM in os.read(wake, 4096):
                return 128 + signal.SIGTERM
        finished = _reap(child)
        if finished is not None:
            return finished


def _reap(child: int) -> int | None:
    """Collect every child that has ended; the exit status of ``child`` if it is among them."""
    found: int | None = None
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, status = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            if pid == child:
                found = _exit_status(status)
    return found


def _exit_status(wait_status: int) -> int:
    code = os.waitstatus_to_exitcode(wait_status)
    return code if code >= 0 else 128 - code


def _kill_descendants() -> None:
    """Kill all that is left below us, and wait for it; orphans come to us, so each round reaches a deeper layer."""
    while True:
        for pid in _children():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        try:
            os.waitpid(-1, 0)
        except ChildProcessError:
            return


def _children() -> list[int]:
    listing = Path(f"/proc/self/task/{os.getpid()}/children")
    return [int(pid) for pid in listing.read_text(encoding="ascii").split()]


def _fork(child: Callable[[], int], spec: Specification) -> int:
    """Fork; the child dies with us, runs ``child`` and exits with its result. A failed set-up is reported."""
    parent = os.getpid()
    pid = os.fork()
    if pid:
        return pid
    status = SETUP_FAILED
    try:
        signal.set_wakeup_fd(-1)
        sys_.die_with_parent(signal.SIGKILL)
        # The parent may have ended before prctl; inside a new PID namespace it shows as 0.
        if os.getppid() in {parent, 0}:
            status = child()
    except (OSError, subprocess.SubprocessError) as fault:
        number = fault.errno if isinstance(fault, OSError) else None
        with contextlib.suppress(OSError):
            os.write(spec["report"], json.dumps({"errno": number, "message": str(fault)}).encode())
    finally:
        os._exit(status)


def _gate(spec: Specification) -> int:
    """Enter the namespaces and wait for init."""
    for number in (signal.SIGCHLD, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)
    if not spec["namespaces"]:
        return _exec(spec)
    if spec["id_map"]:
        _enter_user_namespace(spec["id_map"])
    sys_.unshare(sys_.CLONE_NEWNS | sys_.CLONE_NEWPID)
    sys_.mount(None, Path("/"), flags=sys_.MS_REC | sys_.MS_PRIVATE)
    return _wait(_fork(lambda: _init(spec), spec))


def _init(spec: Specification) -> int:
    """Process 1 of the PID namespace: build the root, run the command, reap orphans, end when the command ends."""
    if spec["root"] and spec["staging"]:
        staging = Path(spec["staging"])
        root_.build_root(Path(spec["root"]), staging, spec["binds"], spec["devices"])
        # in a user namespace the kernel allows a new /proc only while the host's is still in sight
        root_.mount_proc(staging / "proc")
        root_.enter_root(staging)
    else:
        root_.mount_proc(Path("/proc"))
    command = _fork(lambda: _exec(spec), spec)
    while True:
        pid, status = os.waitpid(-1, 0)
        if pid == command:
            return _exit_status(status)


def _exec(spec: Specification) -> int:
    """Become the command, with signals as a new process expects them."""
    for number in (signal.SIGINT, signal.SIGQUIT, signal.SIGHUP, signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    if spec["cwd"]:
        os.chdir(spec["cwd"])
    try:
        os.execvp(spec["argv"][0], spec["argv"])  # noqa: S606 - there is no shell by design
    except OSError as fault:
        message = f"{spec['argv'][0]}: {fault.strerror}"
        raise OSError(fault.errno, message) from fault


def _wait(pid: int) -> int:
    return _exit_status(os.waitpid(pid, 0)[1])


def _enter_user_namespace(id_map: IdMap) -> None:
    """Become root of a new user namespace whose map ``newuidmap`` writes from outside, as only it may."""
    ready_read, ready_write = os.pipe2(os.O_CLOEXEC)
    gate = os.getpid()
    mapper = os.fork()
    if mapper == 0:
        status = 1
        try:
            os.close(ready_write)
            os.read(ready_read, 1)
            status = _write_maps(gate, id_map)
        finally:
            os._exit(status)
    os.close(ready_read)
    sys_.unshare(sys_.CLONE_NEWUSER)
    os.close(ready_write)
    if _wait(mapper):
        raise OSError(None, "newuidmap or newgidmap refused the ranges of /etc/subuid and /etc/subgid")
    os.setgroups([])
    os.setresgid(0, 0, 0)
    os.setresuid(0, 0, 0)
    # Changing credentials clears the parent-death signal (prctl(2)).
    sys_.die_with_parent(signal.SIGKILL)


def _write_maps(pid: int, id_map: IdMap) -> int:
    for tool, triples in (("newuidmap", id_map["uid"]), ("newgidmap", id_map["gid"])):
        numbers = [str(number) for triple in triples for number in triple]
        status = subprocess.run([tool, str(pid), *numbers], check=False).returncode
        if status:
            return status
    return 0


def _remove(path: Path, id_map: IdMap | None) -> None:
    """Delete a scratch folder, from inside the user namespace where ids are mapped.

    Several rounds, since commands that are being killed at the same moment may still be writing to it.
    """
    for _ in range(_REMOVAL_ROUNDS):
        if not os.path.lexists(path):
            return
        _remove_once(path, id_map)
        if os.path.lexists(path):
            time.sleep(_REMOVAL_PAUSE_S)


def _remove_once(path: Path, id_map: IdMap | None) -> None:
    if id_map is None:
        shutil.rmtree(path, ignore_errors=True)
        return
    pid = os.fork()
    if pid == 0:
        try:
            _enter_user_namespace(id_map)
            shutil.rmtree(path, ignore_errors=True)
        finally:
            os._exit(0)
    _wait(pid)
