"""Which entry of the signature database vouches for a signed image."""

import datetime
import struct
import uuid

import attrs
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding, pkcs7
from cryptography.x509.oid import NameOID
from tdxc_runtime.measure.events import EventType
from tdxc_runtime.measure.firmware.varstore import IMAGE_SECURITY_DATABASE, Variable
from tdxc_runtime.measure.rtmr0.authority import authority_event, database_entries, signature_certificates
from tdxc_runtime.measure.rtmr0.variables import variable_data

X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
SHA256 = uuid.UUID("c1c41626-504c-4092-aca9-41f936934328")
OWNER = uuid.UUID("11111111-2222-3333-4444-555555555555")


@attrs.frozen
class Identity:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @property
    def der(self) -> bytes:
        return self.certificate.public_bytes(Encoding.DER)


def identity(name: str, issuer: Identity | None = None) -> Identity:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    start = datetime.datetime(2026, 1, 1, tzinfo=datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer.certificate.subject if issuer else subject)
        .public_key(key.public_key())
        .serial_number(7)
        .not_valid_before(start)
        .not_valid_after(start + datetime.timedelta(days=3650))
        .sign(issuer.key if issuer else key, hashes.SHA256())
    )
    return Identity(key, certificate)


def certificate_table(signer: Identity) -> bytes:
    builder = (
        pkcs7.PKCS7SignatureBuilder().set_data(b"image").add_signer(signer.certificate, signer.key, hashes.SHA256())
    )
    signature = builder.sign(Encoding.DER, [pkcs7.PKCS7Options.NoCapabilities])
    padded = signature + bytes(-len(signature) % 8)
    return struct.pack("<IHH", 8 + len(padded), 0x0200, 0x0002) + padded


def signature_list(kind: uuid.UUID, *contents: bytes) -> bytes:
    size = 16 + len(contents[0])
    rows = b"".join(OWNER.bytes_le + content for content in contents)
    return struct.pack("<16sIII", kind.bytes_le, 28 + len(rows), 0, size) + rows


def database(*lists: bytes) -> tuple[Variable, ...]:
    return (Variable(vendor=IMAGE_SECURITY_DATABASE, name="db", attributes=0, data=b"".join(lists)),)


OTHER, ROOT = identity("other"), identity("root")
LEAF = identity("leaf", ROOT)


def test_the_entry_that_issued_the_signers_certificate_is_measured() -> None:
    event = authority_event(
        database(signature_list(X509, OTHER.der), signature_list(X509, ROOT.der)), certificate_table(LEAF)
    )
    assert event.event_type is EventType.EV_EFI_VARIABLE_AUTHORITY
    assert event.data == variable_data(IMAGE_SECURITY_DATABASE, "db", OWNER.bytes_le + ROOT.der)


def test_the_signers_own_certificate_may_be_the_entry() -> None:
    event = authority_event(database(signature_list(X509, OTHER.der)), certificate_table(OTHER))
    assert event.data is not None
    assert event.data.endswith(OTHER.der)


@pytest.mark.parametrize(
    ("variables", "table"),
    [
        ((), certificate_table(LEAF)),
        (database(signature_list(X509, OTHER.der)), certificate_table(LEAF)),
        (database(signature_list(SHA256, bytes(32))), certificate_table(LEAF)),
        (database(signature_list(X509, ROOT.der)), b""),
        (database(signature_list(X509, ROOT.der)), b"\xff" * 64),
        (database(signature_list(X509, b"no certificate")), certificate_table(LEAF)),
    ],
)
def test_without_such_an_entry_the_event_is_pending(variables: tuple[Variable, ...], table: bytes) -> None:
    assert "signed with a key" in authority_event(variables, table).pending


def test_lists_are_read_in_order_and_damaged_ones_end_the_walk() -> None:
    data = signature_list(SHA256, b"a" * 32, b"b" * 32) + signature_list(X509, b"cert")
    assert [entry.content for entry in database_entries(data)] == [b"a" * 32, b"b" * 32, b"cert"]
    assert [entry.kind for entry in database_entries(data)] == [SHA256, SHA256, X509]
    assert len(list(database_entries(data[:-1]))) == 2
    assert not list(database_entries(b"\xff" * 40))


def test_certificates_come_out_of_a_padded_table() -> None:
    assert signature_certificates(certificate_table(LEAF)) == (LEAF.der,)
    assert signature_certificates(b"") == ()
