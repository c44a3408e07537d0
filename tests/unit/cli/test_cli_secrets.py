"""``tdxc secrets`` against a server that speaks the guest's protocol: nothing leaves before the proof holds."""

from __future__ import annotations

import errno
import json
import socket
from pathlib import Path
from typing import Any, ClassVar

import pytest
from support.commands import invoke
from support.played_guest import VALUE, Guest, send
from tdxc_runtime.measure.quotes import verify_quote
from tdxc_runtime.secrets import proof


def test_secrets_are_sent_once_the_quote_holds(guest: Guest, source: Path) -> None:
    outcome = send(guest, source)
    assert (outcome.status, outcome.out) == (0, "accepted: api_token, port, settings\nstate: complete\n"), outcome.err
    assert "not checked: the image: " in outcome.err
    assert "not checked: TCB status: " in outcome.err
    assert "not checked: revocation: " in outcome.err
    ((headers, body),) = guest.posts
    assert body == {"secrets": {"api_token": VALUE, "port": 8080, "settings": {"a": [1, True, None]}}}
    assert headers["Content-Type"] == "application/json"
    assert "Authorization" not in headers


def test_the_token_comes_from_a_file(guest: Guest, source: Path, tmp_path: Path) -> None:
    token = tmp_path / "token"
    token.write_text("one-time\n")
    token.chmod(0o600)
    assert send(guest, source, "--token-file", token).status == 0
    assert guest.posts[0][0]["Authorization"] == "Bearer one-time"


@pytest.fixture
def manifest(tmp_path: Path) -> Path:
    """A manifest that knows two registers, which no event extends, and the firmware."""
    return write_manifest(tmp_path / "manifest.json", "rtmr1", "rtmr3", firmware="0b" * 48)


def write_manifest(path: Path, *registers: str, firmware: str = "") -> Path:
    states: dict[str, Any] = {name: {"state": "predicted", "covered": True} for name in registers}
    if firmware:
        states["mrtd"] = {"state": "endorsed", "endorsed": [{"by": "its maker", "values": [firmware]}]}
    values = dict.fromkeys(registers, "00" * 48)
    data = {"schema_version": 1, "platform": "qemu", **values, "events": [], "registers": states}
    path.write_text(json.dumps(data))
    return path


def test_it_must_be_said_which_image_the_guest_runs(guest: Guest, source: Path, manifest: Path) -> None:
    outcome = invoke("secrets", "send", guest.host, "--from", source)
    assert outcome.status == 2
    assert "--manifest FILE" in outcome.err
    assert "--any-image" in outcome.err
    assert send(guest, source, "--manifest", manifest, "--any-image").status == 2
    assert guest.posts == []


def test_a_manifest_that_tells_no_images_apart_is_refused(guest: Guest, source: Path, tmp_path: Path) -> None:
    outcome = send(guest, source, "--manifest", write_manifest(tmp_path / "other.json", "rtmr2", "rtmr3"))
    assert outcome.status == 4
    assert "does not say what RTMR1 must be" in outcome.err
    assert guest.posts == []


def test_a_manifest_that_leaves_the_firmware_open_is_refused(guest: Guest, source: Path, tmp_path: Path) -> None:
    """Firmware of the host's own writes into RTMR1 whatever is expected there."""
    manifest = write_manifest(tmp_path / "other.json", "rtmr1", "rtmr2", "rtmr3")
    outcome = send(guest, source, "--manifest", manifest)
    assert outcome.status == 4
    assert "does not say what MRTD must be" in outcome.err
    assert "--any-firmware" in outcome.err
    assert guest.posts == []
    assert send(guest, source, "--any-image", "--any-firmware").status == 2
    other = write_manifest(tmp_path / "firmware.json", "rtmr1", firmware="0a" * 48)
    outcome = send(guest, source, "--manifest", other)
    assert (outcome.status, guest.posts) == (4, [])
    assert "mrtd matches the manifest" in outcome.err


def test_what_was_not_checked_is_data_too(guest: Guest, source: Path, tmp_path: Path) -> None:
    manifest = write_manifest(tmp_path / "other.json", "rtmr1", "rtmr3")
    outcome = send(guest, source, "--manifest", manifest, "--any-firmware", "--format", "json")
    names = {item["name"] for item in outcome.data()["not_checked"]}
    assert {"revocation", "TCB status", "mrtd matches the manifest"} <= names
    assert outcome.data()["tcb_status"] is None


def test_the_quote_is_held_against_the_manifest(guest: Guest, source: Path, manifest: Path) -> None:
    outcome = send(guest, source, "--manifest", manifest, "--format", "json")
    assert outcome.status == 0, outcome.err
    assert (outcome.data()["proven"], outcome.data()["compared"]) == (True, True)
    guest.rtmr3 = b"\x13" * 48
    outcome = send(guest, source, "--manifest", manifest)
    assert outcome.status == 4
    assert "nothing was sent" in outcome.err
    assert "rtmr3 matches the manifest" in outcome.err
    assert len(guest.posts) == 1


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"report_data": bytes(64)}, "not made for this connection"),
        ({"spki": bytes(32)}, "not made for this connection"),
        ({"provider": "fake"}, "makes its quotes up"),
        ({"provider": "other\x1b[2J"}, "not known"),
        ({"quote_status": 503}, "cannot prove what it is"),
        ({"raw": b'{"version": 2}'}, "no secrets server"),
        ({"raw": b"<html>"}, "no secrets server"),
    ],
)
def test_nothing_is_sent_to_what_proves_nothing(guest: Guest, source: Path, change: dict[str, Any], words: str) -> None:
    for name, value in change.items():
        setattr(guest, name, value)
    outcome = send(guest, source)
    assert outcome.status == 4
    assert words in outcome.err
    assert "\x1b[2J" not in outcome.err
    assert guest.posts == []


def test_a_quote_that_nobody_vouches_for_is_refused(
    guest: Guest, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(proof, "verify_quote", verify_quote)
    outcome = send(guest, source)
    assert outcome.status == 4
    assert "certificate chain" in outcome.err
    assert guest.posts == []


def test_without_a_quote_only_when_asked(guest: Guest, source: Path, manifest: Path) -> None:
    guest.quote_status = 503
    outcome = send(guest, source, "--without-quote", "--format", "json")
    assert (outcome.status, outcome.data()["proven"]) == (0, False)
    assert send(guest, source, "--without-quote", "--manifest", manifest).status == 2


def test_the_guests_reasons_are_shown(guest: Guest, source: Path) -> None:
    faults = [{"secret": "api_token", "rule": "pattern", "message": "does not match ^tok_"}]
    guest.post_status = 422
    guest.answer = {"error": {"code": "invalid", "message": "1 fault", "faults": faults}}
    outcome = send(guest, source)
    assert outcome.status == 1
    assert "error[E_VALUE]: the guest refuses the secrets: 1 fault" in outcome.err
    assert "note: api_token: does not match ^tok_" in outcome.err


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604, 0o660, 0o620])
def test_files_that_others_can_read_are_refused(guest: Guest, source: Path, mode: int) -> None:
    source.chmod(mode)
    outcome = send(guest, source)
    assert outcome.status == 1
    assert "error[E_SECRET]" in outcome.err
    assert f"fix: chmod 600 {source}" in outcome.err
    assert guest.posts == []


@pytest.mark.parametrize(
    "text",
    [f"- {VALUE}\n", f"api_token: [{VALUE}\n", f"a: {VALUE}\na: {VALUE}\n", f"a: &x {VALUE}\nb: !!y {VALUE}\n", VALUE],
)
def test_a_bad_file_is_told_of_without_its_content(guest: Guest, source: Path, text: str) -> None:
    source.write_text(text)
    outcome = send(guest, source)
    assert outcome.status == 1
    assert "secrets.yaml" in outcome.err
    assert guest.posts == []


def test_status_says_what_the_guest_waits_for(guest: Guest) -> None:
    outcome = invoke("secrets", "status", guest.host)
    assert (outcome.status, outcome.out) == (0, "api_token  string  required\nstate: waiting\n")


@pytest.mark.parametrize(
    "host",
    [
        "",
        ":80",
        "a:0",
        "a:65536",
        "a:b",
        "[::1",
        "vsock:",
        "vsock:a",
        "vsock:3:",
        "vsock:4294967296",
        "vsock:3:65536",
        "vsock:3:1:1",
    ],
)
def test_bad_addresses_are_usage(source: Path, host: str) -> None:
    outcome = invoke("secrets", "send", host, "--from", source, "--any-image")
    assert outcome.status == 2
    assert "is not HOST, HOST:PORT" in outcome.err


class Vsock(socket.socket):
    """A stream of vsock(7) that ends at a TCP port of this machine: vsock itself is not everywhere."""

    asked: ClassVar[list[tuple[int, int]]] = []
    port: ClassVar[int] = 0

    def __init__(self, family: int = -1, *rest: Any, **more: Any) -> None:
        self.is_vsock = family == socket.AF_VSOCK
        super().__init__(socket.AF_INET if self.is_vsock else family, *rest, **more)

    def connect(self, address: Any) -> None:
        if self.is_vsock:
            self.asked.append(address)
            address = ("127.0.0.1", self.port)
        super().connect(address)


def test_a_guest_is_reached_over_vsock(guest: Guest, source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Vsock, "port", guest.port)
    monkeypatch.setattr(Vsock, "asked", [])
    monkeypatch.setattr("tdxc_runtime.secrets.client.socket.socket", Vsock)
    outcome = invoke("secrets", "send", "vsock:3:9999", "--from", source, "--any-image")
    assert outcome.status == 0, outcome.err
    assert len(guest.posts) == 1
    assert set(Vsock.asked) == {(3, 9999)}
    outcome = invoke("secrets", "status", "vsock:4294967294", "--no-tls")
    assert outcome.status == 3
    assert Vsock.asked[-1] == (4294967294, 8080)
    assert "vsock:4294967294:8080 does not answer in HTTP" in outcome.err


@pytest.mark.parametrize("code", [errno.EAFNOSUPPORT, errno.ENODEV])
def test_a_machine_without_vsock_is_told(source: Path, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def refuse(_self: Vsock, _address: object) -> None:
        raise OSError(code, "nothing there")

    monkeypatch.setattr(Vsock, "connect", refuse)
    monkeypatch.setattr("tdxc_runtime.secrets.client.socket.socket", Vsock)
    outcome = invoke("secrets", "send", "vsock:3", "--from", source, "--without-quote")
    assert outcome.status == 3
    assert "vsock:3:8080 cannot be reached, as this machine has no vsock to guests: nothing there" in outcome.err
    assert "modprobe vhost_vsock" in outcome.err


def test_a_python_without_vsock_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delattr("tdxc_runtime.secrets.client.socket.AF_VSOCK")
    outcome = invoke("secrets", "status", "vsock:3")
    assert outcome.status == 3
    assert "this machine has no vsock" in outcome.err
