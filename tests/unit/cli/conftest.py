"""A guest to send secrets to, and a file of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.played_guest import VALUE, Guest, certificate, serving, trust_own_chain


@pytest.fixture
def guest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Guest]:
    """A guest with TLS, whose quotes are believed."""
    pem, spki = certificate(tmp_path)
    trust_own_chain(monkeypatch)
    made = Guest(spki=spki)
    with serving(made, pem):
        yield made


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "secrets.yaml"
    path.write_text(f"api_token: {VALUE}\nport: 8080\nsettings: {{a: [1, true, null]}}\n")
    path.chmod(0o600)
    return path
