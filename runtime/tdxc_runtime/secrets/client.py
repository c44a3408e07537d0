"""The client of a guest's secrets server: HTTP/1.1 with JSON, over TLS whose key the guest's quote vouches for.

The guest's certificate is signed by nobody. It is believed because the quote binds its key: each connection must show
the same key, so that nobody can step between the proof and the secrets.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
from tdxc.diagnostics import Code, DiagnosticError, Note

_ANSWER_LIMIT_BYTES = 1 << 20
_ANSWER_LIMIT_S = 120.0
_STATUS_OK = 200
_UNAVAILABLE = 503

VSOCK = "vsock:"
"""How the host of a guest begins that is reached over vsock(7); its context identifier follows."""


@attrs.frozen(kw_only=True)
class Answer:
    """What the guest said: HTTP's status and the JSON object of the body."""

    status: int
    data: Mapping[str, Any]

    @property
    def is_good(self) -> bool:
        """Whether the request was carried out."""
        return self.status == _STATUS_OK

    @property
    def has_no_quote(self) -> bool:
        """Whether the guest has nothing that makes quotes."""
        return self.status == _UNAVAILABLE and self.error_code == "no_quote"

    @property
    def error_code(self) -> str:
        """The word for what went wrong; empty when nothing did."""
        error = self.data.get("error")
        return str(error.get("code", "")) if isinstance(error, dict) else ""

    def refusal(self, what: str) -> DiagnosticError:
        """A refusal as a diagnostic; the guest's words hold no value of a secret, and neither does this."""
        error = self.data.get("error")
        error = error if isinstance(error, dict) else {}
        faults = [fault for fault in as_list(error.get("faults")) if isinstance(fault, dict)]
        notes = tuple(Note(message=f"{as_line(f.get('secret', ''))}: {as_line(f.get('message', ''))}") for f in faults)
        message = f"the guest refuses {what}: {as_line(error.get('message', f'status {self.status}'))}"
        return DiagnosticError.of(Code.E_VALUE, message, notes=notes, fix=_FIXES.get(self.error_code, ""))


_FIXES = {
    "token": "give the one-time token by --token-file; it is spent once a post has been accepted",
    "rate": "wait a minute",
    "already": "a secret is taken once in each boot: leave out those that have come",
    "size": "send less, or raise max_body_bytes= of SecretDelivery",
    "invalid": "correct what the notes name; nothing of this post was kept",
}


@attrs.frozen(kw_only=True)
class GuestConnection:
    """A guest at ``host``, which may be ``vsock:CID``, and ``port``.

    ``spki_sha256`` is of its certificate's key, 32 zero bytes without TLS.
    """

    host: str
    port: int
    tls: bool
    timeout_s: float
    spki_sha256: bytes

    def status(self) -> Answer:
        """Which secrets it waits for."""
        return self._request("GET", "/v1/status")

    def quote(self, nonce: bytes) -> Answer:
        """A quote over ``nonce`` (32 bytes) and the key of this connection."""
        return self._request("GET", f"/v1/quote?nonce={nonce.hex()}")

    def post(self, secrets: Mapping[str, Any], token: str = "") -> Answer:
        """Hand the secrets over; all are taken, or none.

        Raises E_SECRET for a token that is not one line of plain characters, and E_VALUE for numbers that JSON lacks.
        """
        if token and not (token.isascii() and token.isprintable()):
            raise DiagnosticError.of(
                Code.E_SECRET,
                "the one-time token is more than one line, or has other characters than those of ASCII",
                fix="write the token alone into its file, as `openssl rand -hex 32` makes one",
            )
        try:
            body = json.dumps({"secrets": secrets}, allow_nan=False).encode()
        except ValueError:  # its words have the value
            message = "a secret is a number without end or none at all (.inf, .nan), which JSON lacks"
            raise DiagnosticError.of(Code.E_VALUE, message, fix="write it in quotation marks, as text") from None
        headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {token}"} if token else {})
        return self._request("POST", "/v1/secrets", body, headers)

    def _request(
        self, method: str, path: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Answer:
        with _opened(self.host, self.port, self.tls, self.timeout_s) as connection:
            if _key_of(connection) != self.spki_sha256:
                raise DiagnosticError.of(
                    Code.E_VERIFY,
                    f"{self.host}:{self.port} shows another key than a moment ago: nothing was sent",
                    fix="somebody may stand between; look into the network, then try again",
                )
            with _ended_in_time(connection.sock):
                connection.request(method, path, body, dict(headers or {}))
                return _read(connection.getresponse())


def connect(host: str, port: int, *, tls: bool = True, timeout_s: float = 20.0) -> GuestConnection:
    """Look at the guest's key; raises E_BACKEND_UNAVAILABLE when nobody answers."""
    with _opened(host, port, tls, timeout_s) as connection:
        return GuestConnection(host=host, port=port, tls=tls, timeout_s=timeout_s, spki_sha256=_key_of(connection))


@contextlib.contextmanager
def _opened(host: str, port: int, tls: bool, timeout_s: float) -> Iterator[http.client.HTTPConnection]:
    try:
        connection = _connection(host, port, tls, timeout_s)
    except http.client.InvalidURL as fault:
        raise _no_host(host, port) from fault
    try:
        connection.connect()
        yield connection
    except UnicodeError as fault:  # of the codec for names with other characters than those of ASCII
        raise _no_host(host, port) from fault
    except (OSError, http.client.HTTPException) as fault:
        if host.startswith(VSOCK) and isinstance(fault, OSError) and fault.errno in _WITHOUT_VSOCK:
            raise _no_vsock(host, port, fault) from fault
        what = "TLS" if tls else "HTTP"
        fix = "the guest listens once its boot steps are done and until all secrets have come; its console says when"
        if isinstance(fault, ssl.SSLError) or (tls and host.startswith(VSOCK)):
            fix = "without TLS, which vsock is unless the recipe says tls='generated', say --no-tls"
        raise DiagnosticError.of(
            Code.E_BACKEND_UNAVAILABLE,
            f"{host}:{port} does not answer in {what}: {as_line(fault) or type(fault).__name__}",
            fix=fix,
        ) from fault
    finally:
        connection.close()


@contextlib.contextmanager
def _ended_in_time(sock: socket.socket) -> Iterator[None]:
    """A time limit for all of an answer: the socket's own is for each piece, and pieces may come for ever."""
    timer = threading.Timer(_ANSWER_LIMIT_S, _cut_off, (sock,))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _cut_off(sock: socket.socket) -> None:
    """By the plain socket's method: that of TLS would take the state away that a read may be using."""
    with contextlib.suppress(OSError):
        socket.socket.shutdown(sock, socket.SHUT_RDWR)


def _no_host(host: str, port: int) -> DiagnosticError:
    message = f"{as_line(host)}:{port} cannot be reached, as that is no name of a host"
    return DiagnosticError.of(Code.E_BACKEND_UNAVAILABLE, message, fix="give a name or an address: 192.0.2.7:8080")


_WITHOUT_VSOCK = frozenset((errno.EAFNOSUPPORT, errno.EPROTONOSUPPORT, errno.ENODEV))
"""What vsock(7) says without its module, and without one that leads to guests."""


def _no_vsock(host: str, port: int, fault: OSError) -> DiagnosticError:
    return DiagnosticError.of(
        Code.E_BACKEND_UNAVAILABLE,
        f"{host}:{port} cannot be reached, as this machine has no vsock to guests: {fault.strerror or fault}",
        fix="send from the guest's host, with its module vhost_vsock loaded (`modprobe vhost_vsock`, as root)",
    )


def _connection(host: str, port: int, tls: bool, timeout_s: float) -> http.client.HTTPConnection:
    if host.startswith(VSOCK):
        return _VsockConnection(host.removeprefix(VSOCK), port, tls=tls, timeout_s=timeout_s)
    if tls:
        return http.client.HTTPSConnection(host, port, timeout=timeout_s, context=_context())
    return http.client.HTTPConnection(host, port, timeout=timeout_s)


class _VsockConnection(http.client.HTTPConnection):
    """HTTP over a stream of vsock(7); ``host`` is a context identifier."""

    def __init__(self, host: str, port: int, *, tls: bool, timeout_s: float) -> None:
        super().__init__(host, port, timeout=timeout_s)
        self._context = _context() if tls else None

    def connect(self) -> None:
        """Open the stream; OSError where this machine has no vsock."""
        family = getattr(socket, "AF_VSOCK", None)
        if family is None:
            raise OSError(errno.EAFNOSUPPORT, "Python knows no vsock here")
        sock = socket.socket(family, socket.SOCK_STREAM)
        self.sock = sock
        sock.settimeout(self.timeout)
        sock.connect((int(self.host), self.port))
        if self._context is not None:
            self.sock = self._context.wrap_socket(sock)


def _context() -> ssl.SSLContext:
    """TLS without a certificate authority: the quote says whose key it is."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _key_of(connection: http.client.HTTPConnection) -> bytes:
    """SHA-256 of the DER SubjectPublicKeyInfo of the peer's certificate."""
    sock = connection.sock
    if not isinstance(sock, ssl.SSLSocket):
        return bytes(32)
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    certificate = sock.getpeercert(binary_form=True)
    if not certificate:
        raise DiagnosticError.of(Code.E_VERIFY, "the guest shows no certificate")
    try:
        key = x509.load_der_x509_certificate(certificate).public_key()
    except (ValueError, UnsupportedAlgorithm) as fault:
        raise DiagnosticError.of(Code.E_VERIFY, f"the guest's certificate cannot be read: {as_line(fault)}") from fault
    return hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()


def _read(response: http.client.HTTPResponse) -> Answer:
    """The answer; raises E_VERIFY for one that is not of this protocol."""
    body = response.read(_ANSWER_LIMIT_BYTES + 1)
    try:
        data = json.loads(body) if len(body) <= _ANSWER_LIMIT_BYTES else None
    except (ValueError, RecursionError):
        data = None
    if not isinstance(data, dict) or data.get("version") != 1:
        raise DiagnosticError.of(
            Code.E_VERIFY, f"what answers there is no secrets server of a guest (HTTP status {response.status})"
        )
    return Answer(status=response.status, data=data)


def as_list(value: object) -> list[Any]:
    """A list of the other side's, empty for what is none."""
    return value if isinstance(value, list) else []


def as_line(value: object) -> str:
    """Text of the other side for our terminal: one line, nothing that moves a cursor."""
    return "".join(ch if ch.isprintable() else " " for ch in str(value))[:400]
