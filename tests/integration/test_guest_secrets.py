"""A booted image waits for its secrets: refuses wrong ones with the reason, and starts its services with the right."""

from __future__ import annotations

import hashlib
import json
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
from support.commands import ROOT
from tdxc.diagnostics import DiagnosticError
from tdxc_runtime.secrets import GuestConnection, connect, prove
from tdxc_runtime.vm import ConsoleLine, Forward, Machine, UkiOnDisk, boot

pytestmark = pytest.mark.integration

BOOT_TIMEOUT_S = 420
VALUE = 'tok_with "quotes", $HOME, `ticks`, a \\ and\na line'
OTHER = "tok_of_somebody_else"


@attrs.frozen(kw_only=True)
class Delivered:
    """What the host saw of the delivery, and the guest's console."""

    console: str
    status: dict[str, object]
    refusals: tuple[str, ...]
    sent: subprocess.CompletedProcess[str]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def refusals(guest: GuestConnection) -> Iterator[str]:
    """What the guest says to posts that it must not take."""
    for values in ({"api_token": "Sup3rS3cret"}, {"api_token": OTHER, "port": "80"}, {"api_tokn": OTHER}):
        answer = guest.post(values)
        yield f"{answer.status} {answer.error_code} {json.dumps(answer.data)}"
    try:
        prove(guest)
    except DiagnosticError as error:
        yield error.diagnostics[0].message


def deliver(port: int, folder: Path) -> subprocess.CompletedProcess[str]:
    """Send with the client of the command line, as a user does."""
    secrets = folder / "secrets.yaml"
    secrets.touch(mode=0o600)
    secrets.write_text(json.dumps({"api_token": VALUE, "port": 8443}))  # JSON is YAML
    command = [sys.executable, "-m", "tdxc.cli", "secrets", "send", f"127.0.0.1:{port}", "--from", str(secrets)]
    return subprocess.run([*command, "--without-quote"], capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def delivered(tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    """Bake once, boot once."""
    place = tmp_path_factory.mktemp("secrets")
    command = [sys.executable, "-m", "tdxc.cli", "build", str(ROOT / "tests/recipes/guest_secrets.py")]
    subprocess.run(command, cwd=place, check=True)
    uki = place / "build" / "output" / "guest-secrets.efi"
    port = free_port()
    lines: list[ConsoleLine] = []
    machine = Machine(boot=UkiOnDisk(uki=uki), forwards=(Forward(host_port=port, guest_port=8080),))
    with boot(machine, on_line=lines.append) as running:
        running.console.wait_for(r"waiting for secrets address", BOOT_TIMEOUT_S)
        guest = connect("127.0.0.1", port)
        status = dict(guest.status().data)
        refused = tuple(refusals(guest))
        sent = deliver(port, place)
        running.console.wait_for(r"reader: done", 120)
    text = "\n".join(line.text for line in lines)
    return Delivered(console=text, status=status, refusals=refused, sent=sent)


def test_it_says_what_it_waits_for(delivered: Delivered) -> None:
    assert delivered.status == {
        "version": 1,
        "state": "waiting",
        "token": False,
        "secrets": [
            {"name": "api_token", "kind": "string", "required": True, "received": False},
            {"name": "port", "kind": "int", "required": False, "received": False},
        ],
    }
    assert "missing=api_token" in delivered.console


def test_wrong_secrets_are_refused_with_the_reason(delivered: Delivered) -> None:
    pattern, kind, unknown, _ = delivered.refusals
    assert pattern.startswith("422 invalid")
    assert "does not match ^tok_" in pattern
    assert "must be a JSON integer, and is a string" in kind
    assert "name number 1 is not in the list: api_token, port" in unknown
    for said in ("does not match ^tok_", "port must be a JSON integer", "name number 1 is not in the list"):
        assert said in delivered.console


def test_a_quote_that_proves_nothing_stops_the_client(delivered: Delivered) -> None:
    assert delivered.refusals[3] == "the guest makes its quotes up: it is an image for tests"


def test_right_secrets_are_taken(delivered: Delivered) -> None:
    assert delivered.sent.returncode == 0, delivered.sent.stderr
    assert "accepted: api_token, port" in delivered.sent.stdout
    assert "state: complete" in delivered.sent.stdout


def test_the_service_starts_afterwards_and_sees_them(delivered: Delivered) -> None:
    digest = hashlib.sha256(VALUE.encode()).hexdigest()
    found = delivered.console
    assert f"reader: credential {digest}" in found
    assert f"reader: variable {digest}" in found
    assert f"reader: file {digest} 440 root:reader" in found
    assert "reader: port 8443" in found
    assert "reader: reads the state" not in found
    places = [
        found.index(mark) for mark in ("waiting for secrets", "request refused", "secrets received", "reader: done")
    ]
    assert places == sorted(places)


def test_no_value_is_on_the_console(delivered: Delivered) -> None:
    for value in ("Sup3rS3cret", OTHER, "tok_with"):
        assert value not in delivered.console
    assert not re.search(r"Failed to start|FAILED|Dependency failed", delivered.console)
