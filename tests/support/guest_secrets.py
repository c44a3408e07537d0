"""Machines that wait for secrets: wrong ones and right ones posted to them, and power cuts while they arrive."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
from support.consoles import BOOT_TIMEOUT_S
from support.guest_disk import Place, said
from tdxc.diagnostics import DiagnosticError
from tdxc_runtime.secrets import GuestConnection, connect, prove
from tdxc_runtime.vm import ConsoleLine, DirectKernel, Forward, UkiOnDisk, VirtualMachine, boot

ANSWER_TIMEOUT_S = 120.0
VALUE = 'tok_with "quotes", $HOME, `ticks`, a \\ and\na line'
OTHER = "tok_of_somebody_else"
SERVICES = ("reader", "asker", "stranger")
"""Those of the recipe; each says when it has done its work."""


@attrs.frozen(kw_only=True)
class Delivered:
    """What the host saw of a delivery, and the guest's console."""

    console: str
    status: dict[str, Any]
    refusals: tuple[str, ...]
    sent: subprocess.CompletedProcess[str]


_PORTS = itertools.count(20000 + os.getpid() % 700 * 16)


def free_port() -> int:
    """A port of this machine that nobody listens on, nor will until a machine has been started.

    It is none of those that the kernel gives to whoever asks for any (``ip_local_port_range`` of ip(7)), and test
    processes that run at the same time begin at different ones.
    """
    for port in _PORTS:
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port
    raise AssertionError("there is always another port")


def refusals(guest: GuestConnection) -> Iterator[str]:
    """What the guest says to posts that it must not take, and what the client says to a quote that proves nothing."""
    for values in ({"api_token": "Sup3rS3cret"}, {"api_token": OTHER, "port": "80"}, {"api_tokn": OTHER}):
        answer = guest.post(values)
        yield f"{answer.status} {answer.error_code} {json.dumps(answer.data)}"
    try:
        prove(guest)
    except DiagnosticError as error:
        yield error.diagnostics[0].message


def send(port: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Send with the client of the command line, as a user does."""
    secrets = folder / "secrets.yaml"
    secrets.touch(mode=0o600)
    secrets.write_text(json.dumps({"api_token": VALUE, "port": 8443}))  # JSON is YAML
    command = [sys.executable, "-m", "tdxc.cli", "secrets", "send", f"127.0.0.1:{port}", "--from", str(secrets)]
    return subprocess.run([*command, "--without-quote"], capture_output=True, text=True, check=False)


@contextlib.contextmanager
def waiting(
    place: Place, started: UkiOnDisk | DirectKernel, lines: list[ConsoleLine]
) -> Iterator[tuple[VirtualMachine, int]]:
    """A machine that has come to wait for its secrets, and the port of this machine that leads to it."""
    port = free_port()
    try:
        with boot(place.machine(started, Forward(host_port=port, guest_port=8080)), on_line=lines.append) as running:
            come = running.console.wait_for(r"waiting for secrets address|step .* FAILED", BOOT_TIMEOUT_S)
            assert "FAILED" not in come[0], come[0]
            yield running, port
    finally:
        show(lines)


def deliver(place: Place, started: UkiOnDisk | DirectKernel, folder: Path) -> Delivered:
    """Boot, post wrong secrets and then the right ones, and wait until the services have run."""
    lines: list[ConsoleLine] = []
    with waiting(place, started, lines) as (running, port):
        guest = connect("127.0.0.1", port, timeout_s=ANSWER_TIMEOUT_S)
        status = dict(guest.status().data)
        refused = tuple(refusals(guest))
        sent = send(port, folder)
        missing = set(SERVICES)
        while missing:
            missing.discard(running.console.wait_for(rf"({'|'.join(SERVICES)}): done", BOOT_TIMEOUT_S)[1])
    return Delivered(console=said(lines), status=status, refusals=refused, sent=sent)


def cut_off_behind_post(place: Place, started: UkiOnDisk | DirectKernel, seconds: float) -> tuple[str, dict[str, Any]]:
    """Cut the power ``seconds`` after the post of the right secrets has begun; the console, and the state before."""
    lines: list[ConsoleLine] = []
    with waiting(place, started, lines) as (running, port):
        guest = connect("127.0.0.1", port, timeout_s=ANSWER_TIMEOUT_S)
        status = dict(guest.status().data)
        post = threading.Thread(target=_post, args=(guest,))
        post.start()
        with contextlib.suppress(subprocess.TimeoutExpired):
            running.running.popen.wait(seconds)
        running.running.popen.kill()
        running.console.join(BOOT_TIMEOUT_S)  # QEMU, which ends behind its supervisor, has let go of the disk
        post.join()
    return said(lines), status


def _post(guest: GuestConnection) -> None:
    with contextlib.suppress(DiagnosticError):  # the machine goes away under it
        guest.post({"api_token": VALUE, "port": 8443})


def show(lines: list[ConsoleLine]) -> None:
    """Print what the guest's program and the services said, with times, and no more of a line than can be read."""
    for line in lines:
        if any(mark in line.text for mark in ("runtime-init", "tdx-guest", "reader", "witness", "asker", "stranger")):
            print(f"{line.seconds:7.2f} s  {line.text[:160]}")
