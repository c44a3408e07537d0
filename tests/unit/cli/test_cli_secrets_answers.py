"""``tdxc secrets``: what whoever answers there can do to the client, and what the client can be given to send."""

from __future__ import annotations

import contextlib
import http.server
import json
import socket
import ssl
import threading
import time
from pathlib import Path

import click
import pytest
from support.commands import invoke
from support.played_guest import VALUE, Guest, Handler, certificate, send, serving, trust_own_chain


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
    trust_own_chain(monkeypatch)
    made = Guest(spki=bytes(32))
    with serving(made):
        outcome = send(made, source, "--no-tls")
    assert outcome.status == 0
    assert "not checked: the connection" in outcome.err
