"""The event over the key that vouches for a signed image when Secure Boot is on.

Firmware goes through the certificates in ``db`` in their order, takes the first that the image's signature leads up to,
and measures that entry once. Sources: UEFI 2.10 sections 32.2.4 (``EFI_SIGNATURE_LIST``) and 32.4.1; edk2
``SecurityPkg/Library/DxeImageVerificationLib`` (``IsAllowedByDb``) and ``Measurement.c`` (``SecureBootHook``).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterable, Iterator

import attrs

from tdxc_runtime.measure.events import EventType, Origin, PredictedEvent
from tdxc_runtime.measure.firmware.varstore import IMAGE_SECURITY_DATABASE, Variable

from .variables import PCR_SECURE_BOOT, variable_data

_X509 = uuid.UUID("a5c059a1-94e4-4aa7-87b5-ab155c2bf072")
_LIST_HEADER = struct.Struct("<16sIII")
_PKCS_SIGNED_DATA = 0x0002
_DESCRIPTION = "the firmware measures the key that vouches for the image"


@attrs.frozen(kw_only=True)
class DatabaseEntry:
    """An entry of ``db``: its kind, and the measured bytes (owner GUID, then the certificate or digest)."""

    kind: uuid.UUID
    data: bytes

    @property
    def content(self) -> bytes:
        """The certificate in DER, or the digest."""
        return self.data[16:]


def database_entries(data: bytes) -> Iterator[DatabaseEntry]:
    """The entries of a signature database in order; a damaged list ends it."""
    position = 0
    while position + _LIST_HEADER.size <= len(data):
        kind, total, header, size = _LIST_HEADER.unpack_from(data, position)
        start, end = position + _LIST_HEADER.size + header, position + total
        if not position < end <= len(data) or size <= 16:
            return
        for at in range(start, end - size + 1, size):
            yield DatabaseEntry(kind=uuid.UUID(bytes_le=kind), data=data[at : at + size])
        position = end


def signature_certificates(table: bytes) -> tuple[bytes, ...]:
    """The certificates (DER) in an image's certificate table; empty for a table without a PKCS #7 signature."""
    from cryptography.hazmat.primitives.serialization import Encoding, pkcs7

    if len(table) < 8:
        return ()
    length, _revision, kind = struct.unpack_from("<IHH", table)
    if kind != _PKCS_SIGNED_DATA or not 8 < length <= len(table):
        return ()
    signature = table[8:length]
    try:
        found = pkcs7.load_der_pkcs7_certificates(signature[: _der_size(signature)])
    except ValueError:
        return ()
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in found)


def _der_size(data: bytes) -> int:
    """The size of the DER value that ``data`` begins with; what follows is padding (X.690, section 8.1.3)."""
    if len(data) < 2 or data[1] < 0x80:
        return 2 + (data[1] if len(data) > 1 else 0)
    octets = data[1] & 0x7F
    return 2 + octets + int.from_bytes(data[2 : 2 + octets], "big")


def authority_event(variables: Iterable[Variable], certificate_table: bytes) -> PredictedEvent:
    """The event; pending when no certificate in ``db`` can be told to vouch for the image."""
    origin = Origin(section="db", rule="edk2 DxeImageVerificationLib")
    database = next((v.data for v in variables if v.name == "db" and v.vendor == IMAGE_SECURITY_DATABASE), b"")
    embedded = signature_certificates(certificate_table)
    for entry in database_entries(database):
        if entry.kind == _X509 and any(_vouches(entry.content, certificate) for certificate in embedded):
            return PredictedEvent.of_bytes(
                register=PCR_SECURE_BOOT,
                event_type=EventType.EV_EFI_VARIABLE_AUTHORITY,
                data=variable_data(IMAGE_SECURITY_DATABASE, "db", entry.data),
                description=_DESCRIPTION,
                origin=origin,
            )
    return PredictedEvent(
        register=PCR_SECURE_BOOT,
        event_type=EventType.EV_EFI_VARIABLE_AUTHORITY,
        description=_DESCRIPTION,
        origin=origin,
        pending="an image that is signed with a key in the firmware's 'db', because the firmware enforces Secure Boot",
    )


def _vouches(trusted: bytes, certificate: bytes) -> bool:
    """Whether a trusted certificate is the given one or has issued it."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm

    if trusted == certificate:
        return True
    try:
        x509.load_der_x509_certificate(certificate).verify_directly_issued_by(x509.load_der_x509_certificate(trusted))
    except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):
        return False
    return True
