"""Certificate chains to Intel's root: read from untrusted PEM, checked link by link, offline.

Sources: RFC 5280, section 6 (path validation; the chains here are three certificates in fixed order and carry no name
constraints or policies); Intel SGX PCK Certificate and CRL Profile Specification, revision 1.5.
"""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING

import attrs
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey

MAX_CHAIN = 4
MAX_PEM_SIZE = 64 * 1024


@attrs.frozen(kw_only=True)
class Certificate:
    """What the checks need of a certificate, read out once. ``public_key`` is an uncompressed P-256 point."""

    subject: str
    issuer: str
    serial: int
    public_key: bytes
    not_before: datetime.datetime
    not_after: datetime.datetime
    is_ca: bool
    der: bytes = attrs.field(repr=False)
    sgx_extension: bytes | None = attrs.field(repr=False, default=None)


@attrs.frozen(kw_only=True)
class Chain:
    """Certificates from the leaf to the root."""

    certificates: tuple[Certificate, ...]

    @property
    def leaf(self) -> Certificate:
        """The certificate whose key signs."""
        return self.certificates[0]

    @property
    def root(self) -> Certificate:
        """The last certificate."""
        return self.certificates[-1]


SGX_EXTENSION = "1.2.840.113741.1.13.1"


def read_chain(pem: bytes, *, name: str, code: Code, what: str) -> Chain:
    """Read a PEM chain that starts with the leaf. A diagnostic of ``code`` when it is unreadable or absurdly long."""
    import warnings

    from cryptography import x509

    data = pem.rstrip(b"\0")
    if len(data) > MAX_PEM_SIZE:
        raise _error(f"{what} has {len(data)} bytes, more than {MAX_PEM_SIZE}", name, code)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of certificates that bend the rules; the checks decide, not a warning
            found = tuple(_read(c) for c in x509.load_pem_x509_certificates(data)[: MAX_CHAIN + 1])
    except malformed_errors() as error:
        raise _error(f"{what} cannot be read: {error}", name, code) from None
    if not 2 <= len(found) <= MAX_CHAIN:
        raise _error(f"{what} has {len(found)} certificates where 2 to {MAX_CHAIN} are expected", name, code)
    return Chain(certificates=found)


def malformed_errors() -> tuple[type[Exception], ...]:
    """What ``cryptography`` raises while it reads certificates and revocation lists that are not well formed."""
    from cryptography import x509
    from cryptography.exceptions import UnsupportedAlgorithm

    lookups = (KeyError, x509.AttributeNotFound, x509.ExtensionNotFound)
    return (
        ValueError,
        TypeError,
        OverflowError,
        UnsupportedAlgorithm,
        x509.DuplicateExtension,
        x509.InvalidVersion,
        *lookups,
    )


def _error(message: str, name: str, code: Code) -> DiagnosticError:
    return DiagnosticError.of(code, message, SourceSpan(file=name))


def _read(certificate: x509.Certificate) -> Certificate:
    """Everything of one certificate; ``ValueError`` when its key is not of the one kind that Intel uses."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.serialization import Encoding

    key = certificate.public_key()
    if not isinstance(key, ec.EllipticCurvePublicKey) or not isinstance(key.curve, ec.SECP256R1):
        raise ValueError("a certificate has a key that is not of NIST P-256")
    is_ca, extension = False, None
    for item in certificate.extensions:
        if isinstance(item.value, x509.BasicConstraints):
            is_ca = item.value.ca
        if item.oid.dotted_string == SGX_EXTENSION and isinstance(item.value, x509.UnrecognizedExtension):
            extension = item.value.value
    return Certificate(
        subject=_common_name(certificate.subject),
        issuer=_common_name(certificate.issuer),
        serial=certificate.serial_number,
        public_key=point_of(key),
        not_before=certificate.not_valid_before_utc,
        not_after=certificate.not_valid_after_utc,
        is_ca=is_ca,
        der=certificate.public_bytes(Encoding.DER),
        sgx_extension=extension,
    )


def _common_name(name: x509.Name) -> str:
    from cryptography.x509.oid import NameOID

    found = name.get_attributes_for_oid(NameOID.COMMON_NAME)
    text = str(found[0].value) if len(found) == 1 else ""
    return text if text.isprintable() else ascii(text)  # it will be printed, and may be anybody's


def point_of(key: EllipticCurvePublicKey) -> bytes:
    """A public key as an uncompressed point, 65 bytes."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    return key.public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)


def is_issued_by(certificate: Certificate, issuer: Certificate) -> bool:
    """Whether the issuer's name and key match: the signature verifies."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    child, parent = x509.load_der_x509_certificate(certificate.der), x509.load_der_x509_certificate(issuer.der)
    try:
        child.verify_directly_issued_by(parent)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def verify_chain(chain: Chain, *, root_key: bytes, at: datetime.datetime, leaf_is_ca: bool = False) -> tuple[str, ...]:
    """What is wrong with a chain at a moment; empty when it leads to ``root_key`` (an uncompressed point)."""
    faults = []
    for position, certificate in enumerate(chain.certificates):
        issuer = chain.certificates[min(position + 1, len(chain.certificates) - 1)]
        if not is_issued_by(certificate, issuer):
            faults.append(f"'{certificate.subject}' is not signed by '{issuer.subject}'")
        if not certificate.not_before <= at <= certificate.not_after:
            faults.append(
                f"'{certificate.subject}' is valid from {certificate.not_before:%Y-%m-%d} to "
                f"{certificate.not_after:%Y-%m-%d}, not at {at:%Y-%m-%d %H:%M} UTC"
            )
        if certificate.is_ca != (position > 0 or leaf_is_ca):
            faults.append(f"'{certificate.subject}' {'is' if certificate.is_ca else 'is not'} a certificate authority")
    if chain.root.public_key != root_key:
        faults.append(f"the root '{chain.root.subject}' does not have the key of Intel's root")
    return tuple(faults)


def verify_signature(public_key: bytes, signature: bytes, message: bytes) -> bool:
    """Whether ``signature`` (r and s, 32 big-endian bytes each) of ``message`` with SHA-256 is by ``public_key``.

    ``public_key`` is an uncompressed P-256 point; one that is not on the curve verifies nothing.
    """
    from cryptography.exceptions import InvalidSignature
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

    if len(signature) != 64:
        return False
    r, s = int.from_bytes(signature[:32], "big"), int.from_bytes(signature[32:], "big")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), public_key)
        key.verify(encode_dss_signature(r, s), message, ec.ECDSA(hashes.SHA256()))
    except (InvalidSignature, ValueError):
        return False
    return True
