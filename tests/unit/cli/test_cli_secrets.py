"""``tdxc secrets`` against a server that speaks the guest's protocol: nothing leaves before the proof holds."""

from __future__ import annotations

import base64
import contextlib
import datetime
import errno
import functools
import hashlib
import http.server
import json
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, ClassVar

import attrs
import click
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat
from cryptography.x509.oid import NameOID
from support import quote_pki as pki
from support.commands import Outcome, invoke
from tdxc_runtime.measure.quotes import verify_quote
from tdxc_runtime.secrets import proof

VALUE = "tok_0123456789-not-to-be-seen"


@attrs.define
class Guest:
    """What the server does, and what it was given."""

    spki: bytes
    port: int = 0
    provider: str = "tdx_guest"
    report_data: bytes | None = None
    quote_status: int = 200
    post_status: int = 200
    status_status: int = 200
    answer: dict[str, Any] = attrs.field(factory=dict)
    posts: list[tuple[dict[str, str], Any]] = attrs.field(factory=list)
    raw: bytes | None = None
    rtmr3: bytes = bytes(48)

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self.port}"


class Handler(http.server.BaseHTTPRequestHandler):
    guest: Guest

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the base class's name
        pass

    def say(self, status: int, data: dict[str, Any]) -> None:
        body = self.guest.raw or json.dumps({"version": 1, **data}).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def do_GET(self) -> None:
        guest = self.guest
        if self.path == "/v1/status":
            self.say(
                guest.status_status,
                {"state": "waiting", "secrets": [{"name": "api_token", "kind": "string", "required": True}]},
            )
            return
        if guest.quote_status != 200:
            self.say(guest.quote_status, {"error": {"code": "no_quote", "message": "no TDX here"}})
            return
        nonce = bytes.fromhex(self.path.partition("nonce=")[2])
        data = guest.report_data or hashlib.sha512(b"tdx-guest secrets v1\n" + nonce + guest.spki).digest()
        rtmr0, _, rtmr2, _ = pki.body().rtmrs
        quote = pki.quote(td=pki.body(report_data=data, rtmrs=(rtmr0, bytes(48), rtmr2, guest.rtmr3)))
        self.say(200, {"provider": guest.provider, "quote": base64.b64encode(quote).decode()})

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        self.guest.posts.append((dict(self.headers), body))
        good = {"accepted": sorted(body["secrets"]), "missing": [], "state": "complete"}
        self.say(self.guest.post_status, self.guest.answer or good)


def certificate(folder: Path) -> tuple[Path, bytes]:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tdx-guest")])
    now = datetime.datetime.now(datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now)
        .not_valid_after(now + datetime.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "server.pem"
    private = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    path.write_bytes(made.public_bytes(Encoding.PEM) + private)
    spki = key.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return path, hashlib.sha256(spki).digest()


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    """A guest with TLS; quotes are signed by the tests' own chain, which is believed here."""
    pem, spki = certificate(tmp_path)
    known = functools.partial(verify_quote, root_key=pki.world().root.point)
    monkeypatch.setattr(proof, "verify_quote", lambda quote, **given: known(quote, **{**given, "at": pki.NOW}))
    made = Guest(spki=spki)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"guest": made})) as server:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(pem)
        server.socket = context.wrap_socket(server.socket, server_side=True)
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield made
        server.shutdown()
        thread.join()


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.yaml"
    path.write_text(f"api_token: {VALUE}\nport: 8080\nsettings: {{a: [1, true, null]}}\n")
    path.chmod(0o600)
    return path


def send(guest: Guest, source: Path, *more: str | Path) -> Outcome:
    """Send with these options; to any image where they say nothing of what the guest must be."""
    said = {"--manifest", "--without-quote", "--any-image"} & set(map(str, more))
    outcome = invoke("secrets", "send", guest.host, "--from", source, *(more if said else (*more, "--any-image")))
    assert VALUE not in outcome.out + outcome.err
    return outcome


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


def test_a_server_without_tls_is_told(source: Path) -> None:
    with http.server.HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.handle_request)
        thread.start()
        outcome = invoke("secrets", "send", f"127.0.0.1:{server.server_address[1]}", "--from", source, "--any-image")
        thread.join()
    assert outcome.status == 3
    assert "say --no-tls" in outcome.err


def test_who_does_not_answer_is_told(source: Path) -> None:
    outcome = invoke("secrets", "send", "127.0.0.1:1", "--from", source, "--any-image")
    assert outcome.status == 3
    assert "127.0.0.1:1 does not answer in TLS" in outcome.err


@pytest.mark.parametrize("secrets", [7, "x", ["x", 1, None], [{"name": 1, "kind": ["x"]}]])
def test_status_of_whatever_answers(guest: Guest, secrets: object) -> None:
    """Anybody may answer there, with any JSON."""
    guest.raw = json.dumps({"version": 1, "state": "\x1b[2Jx", "secrets": secrets}).encode()
    outcome = invoke("secrets", "status", guest.host)
    assert (outcome.status, outcome.out.splitlines()[-1]) == (0, "state:  [2Jx")


def test_nothing_that_the_other_side_says_moves_the_cursor(
    guest: Guest, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tdxc.cli.secrets.click.echo", lambda text, **_: shown.append(text))
    monkeypatch.setattr("tdxc.cli.report.click.echo", lambda text, **_: shown.append(text))
    shown: list[str] = []
    evil = "a\x1b[2J\x9b1m\nb\x07"
    guest.raw = json.dumps({"version": 1, "state": evil, "secrets": [{"name": evil, "kind": evil}]}).encode()
    invoke("secrets", "status", guest.host)
    guest.raw = None
    guest.answer = {"accepted": [evil], "missing": [evil, 1], "state": evil}
    invoke("secrets", "send", guest.host, "--from", source, "--any-image")
    guest.answer = {"error": {"code": evil, "message": evil, "faults": [{"secret": evil, "message": evil}, 7]}}
    guest.post_status = 422
    invoke("secrets", "send", guest.host, "--from", source, "--any-image")
    text = click.unstyle("".join(shown))
    assert text.count("[2J") == 9
    assert not set("\x1b\x9b\x07") & set(text)


@pytest.mark.parametrize("first", [b"SSH-2.0-\x07\r\n\r\n", b"HTTP/1.1 200 \x07\r\n\r\n", b"HTTP/9 \x07\r\n\r\n"])
def test_what_is_no_server_of_ours(first: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    shown: list[str] = []
    monkeypatch.setattr("tdxc.cli.report.click.echo", lambda text, **_: shown.append(text))
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            server.accept()[0].close()  # by which it looks whether anybody is there
            with server.accept()[0] as peer:
                peer.recv(4096)
                peer.sendall(first)

        thread = threading.Thread(target=answer)
        thread.start()
        outcome = invoke("secrets", "status", f"127.0.0.1:{server.getsockname()[1]}", "--no-tls")
        thread.join()
    assert outcome.status in {3, 4}
    assert shown
    assert "\x07" not in "".join(shown)


@pytest.mark.parametrize("first", [b"", b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n"])
@pytest.mark.parametrize("tls", [True, False])
def test_an_answer_that_never_ends(first: bytes, tls: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tdxc_runtime.secrets.client._ANSWER_LIMIT_S", 0.2)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path)[0])
    sent: list[bytes] = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            with contextlib.suppress(OSError):
                for is_asked in (False, True):
                    peer = server.accept()[0]
                    with context.wrap_socket(peer, server_side=True) if tls else peer as peer:
                        peer.settimeout(10)
                        if is_asked:
                            peer.recv(4096)
                            peer.sendall(first)
                            sent.append(first)
                        while is_asked:
                            peer.sendall(b" " if first else b"HTTP/1.1 100 Continue\r\n\r\n")
                            time.sleep(0.01)

        thread = threading.Thread(target=answer)
        thread.start()
        words = () if tls else ("--no-tls",)
        outcome = invoke("secrets", "status", f"127.0.0.1:{server.getsockname()[1]}", *words)
        thread.join()
    assert sent == [first]
    assert outcome.status in {3, 4}  # cut off in its head, or in its body
    assert "does not answer" in outcome.err or "is no secrets server" in outcome.err


@pytest.mark.parametrize("raw", [b"[" * 100_000, b"{" * 10, b"\xff", b"null", b"[]", b'{"version":2}', b"9" * 5000])
def test_answers_that_are_none(guest: Guest, source: Path, raw: bytes) -> None:
    guest.raw = raw
    for words in (("status", guest.host), ("send", guest.host, "--from", source, "--any-image")):
        outcome = invoke("secrets", *words)
        assert (outcome.status, outcome.err.count("is no secrets server of a guest")) == (4, 1)
    assert guest.posts == []


@pytest.mark.parametrize("error", [7, {"faults": 7}, {"faults": {"a": 1}}, {"faults": [7]}, {"message": None}])
def test_refusals_of_any_form(guest: Guest, source: Path, error: object) -> None:
    guest.post_status, guest.answer = 422, {"error": error}
    outcome = send(guest, source)
    assert (outcome.status, outcome.err.count("the guest refuses the secrets")) == (1, 1)


def test_a_refused_status_is_no_status(guest: Guest) -> None:
    guest.raw = b'{"version":1,"error":{"code":"rate","message":"too many requests"}}'
    guest.status_status = 429
    outcome = invoke("secrets", "status", guest.host)
    assert (outcome.status, outcome.out) == (1, "")
    assert "too many requests" in outcome.err


@pytest.mark.parametrize("token", [f"{VALUE}\n{VALUE}", f"{VALUE}\u20ac", f"{VALUE}\0x", f"{VALUE}\r\nX: y"])
def test_a_token_that_no_header_holds_is_in_no_message(guest: Guest, source: Path, tmp_path: Path, token: str) -> None:
    path = tmp_path / "token"
    path.write_bytes(token.encode())
    path.chmod(0o600)
    outcome = send(guest, source, "--token-file", path)
    assert (outcome.status, guest.posts) == (1, [])
    assert "error[E_SECRET]: the one-time token" in outcome.err


@pytest.mark.parametrize("value", [".nan", "-.inf", "{a: [.inf]}"])
def test_numbers_that_json_lacks(guest: Guest, source: Path, value: str) -> None:
    source.write_text(f"api_token: {value}\n")
    outcome = send(guest, source)
    assert (outcome.status, guest.posts) == (1, [])
    assert "which JSON lacks" in outcome.err


@pytest.mark.parametrize("host", ["..", f"{'a' * 70}.example", "a b", "a\nb", "\ud800"])
def test_names_that_no_host_has(source: Path, host: str) -> None:
    outcome = invoke("secrets", "send", host, "--from", source, "--any-image")
    assert outcome.status == 3
    assert "is no name of a host" in outcome.err


def test_a_proof_without_tls_says_what_it_is_not(source: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = functools.partial(verify_quote, root_key=pki.world().root.point)
    monkeypatch.setattr(proof, "verify_quote", lambda quote, **given: known(quote, **{**given, "at": pki.NOW}))
    made = Guest(spki=bytes(32))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"guest": made})) as server:
        made.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        outcome = send(made, source, "--no-tls")
        server.shutdown()
        thread.join()
    assert outcome.status == 0
    assert "not checked: the connection" in outcome.err
