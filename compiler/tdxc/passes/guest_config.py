"""The configuration of ``tdx-guest`` as text: one canonical JSON file for keys, disks, secrets and quotes.

Canonical means: keys sorted, no spaces, UTF-8, one line break at the end, and nothing written that is empty, zero or
false unless the guest asks for it. The guest has no defaults of its own, so all that it does stands in this file; it
refuses what it does not know. Both sides are tested against the samples in ``runtime/guest/testdata``.
"""

from __future__ import annotations

import json
from typing import Any

from tdxc.ir import EncryptedDisk, GuestKey, ResolvedImage, Secret, SecretDelivery, SecretTarget
from tdxc.passes.guest_platform import quote_source

CONFIG_PATH = "/etc/tdx-guest/config.json"
CONFIG_VERSION = 1

_KEY_BYTES = 64
_CIPHER = "aes-xts-plain64"
_CIPHER_KEY_BITS = 512
_SECTOR_BYTES = 4096
_REQUESTS_PER_MINUTE = 30
_REQUESTS_PER_MINUTE_TOTAL = 600
_QUOTE_IDLE_SECONDS = 60
_QUOTE_CONNECTIONS = 16


def guest_config(image: ResolvedImage) -> str:
    """The text of the image's configuration file."""
    data: dict[str, Any] = {"version": CONFIG_VERSION}
    if image.guest_keys:
        data["keys"] = [key_data(key) for key in image.guest_keys]
    if image.encrypted_disks:
        data["disks"] = [disk_data(disk) for disk in image.encrypted_disks]
    if image.secret_delivery is not None:
        data["secrets"] = delivery_data(image.secret_delivery)
    if image.quote_service is not None or serves_quotes(image.secret_delivery):
        data["quote"] = quote_data(image)
        if data["quote"]["source"] == "fake":
            data["test_image"] = True
    return json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=False) + "\n"


def serves_quotes(delivery: SecretDelivery | None) -> bool:
    """Whether whoever delivers secrets can ask for a quote before."""
    return delivery is not None and delivery.method in {"http_post", "vsock"}


def key_data(key: GuestKey) -> dict[str, Any]:
    """One key."""
    data: dict[str, Any] = {"name": key.name, "strategy": key.strategy, "size_bytes": _KEY_BYTES}
    if key.keep:
        data["keep"] = True
    if key.strategy == "tpm":
        data["tpm"] = {"device": "/dev/tpmrm0", "bank": "sha256", "pcrs": list(key.pcrs)}
    if key.strategy == "pipe":
        data["pipe"] = {"path": key.pipe, "timeout_s": key.timeout_seconds}
    return data


def disk_data(disk: EncryptedDisk) -> dict[str, Any]:
    """One disk."""
    device = {"strategy": disk.strategy, "path": disk.device, "wait_s": disk.wait_seconds}
    data = {
        "name": disk.name,
        "device": _given(device),
        "format": disk.format,
        "key": disk.key,
        "cipher": _CIPHER,
        "key_bits": _CIPHER_KEY_BITS,
        "integrity": "hmac-sha256" if disk.integrity else "none",
        "sector_bytes": _SECTOR_BYTES,
        "fs": disk.fs,
        "mount_at": disk.mount_at,
        "mount_options": list(disk.mount_options),
        "grow": disk.grow,
    }
    return _given(data)


def delivery_data(delivery: SecretDelivery) -> dict[str, Any]:
    """How secrets come, and which."""
    data: dict[str, Any] = {
        "method": delivery.method,
        "max_body_bytes": delivery.max_body_bytes,
        "timeout_seconds": delivery.timeout_seconds,
        "address": delivery.address,
        "source": delivery.source,
        "token_sha256": delivery.token_sha256,
        "certificate": delivery.certificate,
        "key": delivery.certificate_key,
    }
    if delivery.method in {"http_post", "vsock"}:
        data["port"] = delivery.port
        data["tls"] = delivery.tls
        data["requests_per_minute"] = _REQUESTS_PER_MINUTE
        data["requests_per_minute_total"] = _REQUESTS_PER_MINUTE_TOTAL
    return _given(data) | {"secrets": [secret_data(secret) for secret in delivery.secrets]}


def secret_data(secret: Secret) -> dict[str, Any]:
    """One secret: its name, its rules and its targets."""
    schema = {
        "kind": secret.kind,
        "min_length": secret.min_length,
        "max_length": secret.max_length,
        "pattern": secret.pattern,
        "enum": list(secret.enum),
    }
    targets = [target_data(target) for target in secret.targets]
    return _given({"name": secret.name, "required": secret.required}) | {"schema": _given(schema), "targets": targets}


def target_data(target: SecretTarget) -> dict[str, Any]:
    """Where a secret goes."""
    if target.kind == "file":
        mode = f"{target.mode:04o}"
        return {"type": "file", "path": target.path, "mode": mode, "owner": target.owner, "group": target.group}
    if target.scope == "global":
        return {"type": "env", "variable": target.variable, "scope": "global"}
    return {"type": "env", "variable": target.variable, "scope": "service", "service": target.scope}


def quote_data(image: ResolvedImage) -> dict[str, Any]:
    """Where quotes come from."""
    return {
        "source": quote_source(image),
        "idle_seconds": _QUOTE_IDLE_SECONDS,
        "max_connections": _QUOTE_CONNECTIONS,
    }


def _given(data: dict[str, Any]) -> dict[str, Any]:
    """Without what is empty, zero or false."""
    return {key: value for key, value in data.items() if value not in ("", 0, False, [], None)}
