"""Keys of our own for Secure Boot: made, enrolled in a variable store, and used to sign an image.

The store's format is that of ``tdxc_runtime.measure.firmware.varstore``; signature lists are those of UEFI 2.10,
section 32.4.1.
"""

from __future__ import annotations

import datetime
import struct
import uuid
from pathlib import Path

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from tdxc_runtime.measure.firmware.varstore import GLOBAL_VARIABLE, IMAGE_SECURITY_DATABASE
from tdxc_runtime.process import Bind
from tdxc_runtime.vm.tools import VmTools

_X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_OWNER = uuid.UUID(int=0x7D)
_ATTRIBUTES = 0x27
"""Non-volatile, for boot and run time, with time-based authentication."""
_VARIABLE = struct.Struct("<HBBIQ16sIII16s")
_INSIDE = Path("/tdxvm/signing")


@attrs.frozen
class SigningKey:
    """A key and its self-signed certificate: as files for a signing tool, and the certificate in DER."""

    key: Path
    certificate: Path
    der: bytes


def make_key(folder: Path) -> SigningKey:
    """A new key in a folder."""
    secret = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests of tdxvm")])
    day = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(secret.public_key())
        .serial_number(1)
        .not_valid_before(day)
        .not_valid_after(day + datetime.timedelta(days=36500))
        .sign(secret, hashes.SHA256())
    )
    found = SigningKey(folder / "key.pem", folder / "certificate.pem", made.public_bytes(serialization.Encoding.DER))
    found.key.write_bytes(
        secret.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    found.certificate.write_bytes(made.public_bytes(serialization.Encoding.PEM))
    return found


def sign(tools: VmTools, image: Path, key: SigningKey) -> Path:
    """A signed copy beside the image; the key lies in the same folder."""
    signed = image.with_name(f"{image.stem}-signed.efi")
    words = (f"--key={_INSIDE / key.key.name}", f"--cert={_INSIDE / key.certificate.name}")
    argv = ["sbsign", *words, f"--output={_INSIDE / signed.name}", str(_INSIDE / image.name)]
    tools.run(argv, (Bind(source=image.parent, target=_INSIDE, writable=True),))
    return signed


def enroll(store: bytes, certificate: bytes) -> bytes:
    """An empty variable store with the certificate as platform key, key exchange key and in ``db``."""
    entry = _OWNER.bytes_le + certificate
    data = _X509.bytes_le + struct.pack("<III", 28 + len(entry), 0, len(entry)) + entry
    vendors = {"PK": GLOBAL_VARIABLE, "KEK": GLOBAL_VARIABLE, "db": IMAGE_SECURITY_DATABASE}
    added = b"".join(_variable(name, vendor, data) for name, vendor in vendors.items())
    free = store.index(b"\xff" * 64, 0x64)
    assert free % 4 == 0
    return store[:free] + added + store[free + len(added) :]


def _variable(name: str, vendor: uuid.UUID, data: bytes) -> bytes:
    text = name.encode("utf-16-le") + b"\0\0"
    time = struct.pack("<HBBBBBBIhBB", 2026, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0)
    head = _VARIABLE.pack(0x55AA, 0x3F, 0, _ATTRIBUTES, 0, time, 0, len(text), len(data), vendor.bytes_le)
    record = head + text + data
    return record + b"\xff" * (-len(record) % 4)
