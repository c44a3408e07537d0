"""The compiler writes the very samples that the program of the guest is tested with, and it reads what we write."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.authored import at, resolved
from tdxc.ir import QuoteService, Secret, SecretDelivery, SecretTarget
from tdxc.passes.guest_config import guest_config

SAMPLES = Path(__file__).resolve().parents[3] / "runtime/guest/testdata"
DIGEST = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


def file(path: str, **fields: Any) -> SecretTarget:
    return SecretTarget(span=at(1), kind="file", path=path, **fields)


def env(variable: str, scope: str = "global") -> SecretTarget:
    return SecretTarget(span=at(1), kind="env", variable=variable, scope=scope)


def secret(name: str, *targets: SecretTarget, **fields: Any) -> Secret:
    return Secret(span=at(1), name=name, targets=targets, **fields)


def delivery(method: str, *secrets: Secret, **fields: Any) -> SecretDelivery:
    return SecretDelivery(span=at(1), method=method, secrets=secrets, **fields)


def quotes(source: str) -> QuoteService:
    return QuoteService(span=at(1), source=source, group="tdx", socket="/run/tdxs.sock")


DECLARED: dict[str, dict[str, Any]] = {
    "secrets-http": {
        "secret_delivery": delivery(
            "http_post",
            secret(
                "api_token", file("/run/secrets/api-token"), env("API_TOKEN"),
                min_length=8, max_length=4096, pattern="^tok_",
            ),
            secret("port", env("PORT", "raiko.service"), required=False, kind="int", max_length=5, enum=("80", "8080")),
            secret("tls_key", file("/run/secrets/tls.key", mode=0o440, group="eth"), kind="pem", max_length=16384),
            port=8080, tls="generated", token_sha256=DIGEST,
        ),
    },
    "secrets-vsock": {
        "secret_delivery": delivery(
            "vsock",
            secret(
                "seed", file("/run/secrets/seed", owner="app", group="app"),
                min_length=64, max_length=64, pattern="^[0-9a-f]+$",
            ),
            port=5000,
        ),
    },
    "secrets-file": {
        "secret_delivery": delivery(
            "file",
            secret(
                "blob", file("/run/secrets/blob", mode=0o600, owner="1000", group="1000"),
                kind="base64", max_length=1024,
            ),
            secret("settings", env("SETTINGS", "app.service"), required=False, kind="json", max_length=1024),
            source="/dev/disk/by-id/virtio-secrets", timeout_seconds=60,
        ),
        "quote_service": quotes("fake"),
    },
    "secrets-env": {
        "secret_delivery": delivery("env", secret("level", env("LEVEL"), max_length=16, enum=("low", "high"))),
        "quote_service": quotes("azure_vtpm"),
    },
}  # fmt: skip


@pytest.mark.parametrize("name", DECLARED)
def test_the_samples_are_what_the_compiler_writes(name: str) -> None:
    assert guest_config(resolved(**DECLARED[name])) == (SAMPLES / f"{name}.json").read_text(encoding="utf-8")


def test_all_samples_of_secrets_are_written() -> None:
    assert {path.stem for path in SAMPLES.glob("secrets-*.json")} == set(DECLARED)
