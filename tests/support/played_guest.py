"""A guest that waits for secrets, played by a server of this process, and the client that sends to it."""

from __future__ import annotations

import base64
import contextlib
import datetime
import functools
import hashlib
import http.server
import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
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


def send(guest: Guest, source: Path, *more: str | Path) -> Outcome:
    """Send with these options; to any image where they say nothing of what the guest must be."""
    said = {"--manifest", "--without-quote", "--any-image"} & set(map(str, more))
    outcome = invoke("secrets", "send", guest.host, "--from", source, *(more if said else (*more, "--any-image")))
    assert VALUE not in outcome.out + outcome.err
    return outcome


def trust_own_chain(monkeypatch: pytest.MonkeyPatch) -> None:
    """Quotes are signed by the tests' own chain, which is believed here."""
    known = functools.partial(verify_quote, root_key=pki.world().root.point)
    monkeypatch.setattr(proof, "verify_quote", lambda quote, **given: known(quote, **{**given, "at": pki.NOW}))


@contextlib.contextmanager
def serving(guest: Guest, pem: Path | None = None) -> Iterator[None]:
    """Serve the guest on a port of its own; with a certificate and its key, over TLS."""
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), type("Bound", (Handler,), {"guest": guest})) as server:
        if pem is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(pem)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        guest.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        yield
        server.shutdown()
        thread.join()
