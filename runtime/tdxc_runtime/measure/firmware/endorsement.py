"""Google's endorsement of a firmware: the MRTD values that its confidential VMs may show, signed.

The file is a protobuf message that holds the signed message and a signature over it. Source: gce-tcb-verifier
``proto/endorsement.proto`` (fields) and ``verify/verify.go`` (RSASSA-PSS with SHA-256 by the enclosed certificate).
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

_MAX_FILE = 1 << 20
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5


@attrs.frozen(kw_only=True, order=True)
class EndorsedLaunch:
    """An MRTD value, and the RAM in GiB (0 for any) and memory acceptance that it belongs to."""

    ram_gib: int
    early_accept: bool
    mrtd: bytes


@attrs.frozen(kw_only=True)
class FirmwareEndorsement:
    """The checked content of an endorsement. ``firmware_sha384`` is of the UEFI binary; ``subject`` who signed.

    The signature was verified with the enclosed certificate; that certificate's chain to Google was not.
    """

    firmware_sha384: bytes
    svn: int
    launches: tuple[EndorsedLaunch, ...]
    subject: str

    def mrtds(self, ram_gib: int | None = None) -> tuple[bytes, ...]:
        """The endorsed MRTD values, of one memory size or of all, each once."""
        fitting = (e.mrtd for e in self.launches if ram_gib is None or e.ram_gib in {0, ram_gib})
        return tuple(dict.fromkeys(fitting))


def parse_endorsement(data: bytes, *, name: str) -> FirmwareEndorsement:
    """Read and verify an endorsement file; E_FIRMWARE when it is damaged, unsigned or says nothing of TDX."""
    try:
        return _parse(data)
    except (ValueError, OverflowError) as error:
        raise DiagnosticError.of(
            Code.E_FIRMWARE,
            f"this is not a valid firmware endorsement: {error}",
            SourceSpan(file=name),
            fix="fetch it again from Google's bucket of launch endorsements",
        ) from None


def _parse(data: bytes) -> FirmwareEndorsement:
    if len(data) > _MAX_FILE:
        raise ValueError(f"{len(data)} bytes are too many")
    outer = dict(_fields(data))
    golden, signature = _bytes(outer, 1), _bytes(outer, 2)
    fields = dict(_fields(golden))
    subject = _verify(golden, signature, _bytes(fields, 4))
    tdx = list(_fields(_bytes(fields, 8)))
    launches = tuple(_launch(value) for number, value in tdx if number == 2 and isinstance(value, bytes))
    if not launches:
        raise ValueError("it endorses no TDX launch")
    svn = next((value for number, value in tdx if number == 1 and isinstance(value, int)), 0)
    return FirmwareEndorsement(firmware_sha384=_bytes(fields, 5), svn=svn, launches=launches, subject=subject)


def _launch(data: bytes) -> EndorsedLaunch:
    fields = dict(_fields(data))
    mrtd, ram_gib = _bytes(fields, 3), fields.get(1, 0)
    if len(mrtd) != 48 or not isinstance(ram_gib, int):
        raise ValueError(f"an MRTD of {len(mrtd)} bytes")
    return EndorsedLaunch(ram_gib=ram_gib, early_accept=bool(fields.get(2, 0)), mrtd=mrtd)


def _bytes(fields: dict[int, int | bytes], number: int) -> bytes:
    value = fields.get(number)
    if not isinstance(value, bytes):
        raise ValueError(f"field {number} is missing")
    return value


def _fields(data: bytes) -> Iterator[tuple[int, int | bytes]]:
    """The fields of a protobuf message: number and value, fixed-width ones as integers."""
    position = 0
    while position < len(data):
        tag, position = _varint(data, position)
        kind = tag & 7
        if kind == _VARINT:
            value, position = _varint(data, position)
            yield tag >> 3, value
            continue
        size = {_FIXED64: 8, _FIXED32: 4}.get(kind, 0)
        if kind == _BYTES:
            size, position = _varint(data, position)
        elif not size:
            raise ValueError(f"wire type {kind}")
        if size > len(data) - position:
            raise ValueError("a field reaches beyond the end")
        raw = data[position : position + size]
        yield tag >> 3, raw if kind == _BYTES else int.from_bytes(raw, "little")
        position += size


def _varint(data: bytes, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(data):
            break
        byte = data[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number does not end")


def _verify(message: bytes, signature: bytes, certificate: bytes) -> str:
    """Check the signature; returns the signer's name."""
    from cryptography import x509
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import padding, rsa

    try:
        parsed = x509.load_der_x509_certificate(certificate)
        key = parsed.public_key()
    except (ValueError, UnsupportedAlgorithm) as error:
        raise ValueError(f"its certificate cannot be read: {error}") from None
    if not isinstance(key, rsa.RSAPublicKey):
        raise ValueError("its certificate holds no RSA key")
    scheme = padding.PSS(mgf=padding.MGF1(hashes.SHA256()), salt_length=padding.PSS.AUTO)
    try:
        key.verify(signature, message, scheme, hashes.SHA256())
    except InvalidSignature:
        raise ValueError("its signature does not fit") from None
    return parsed.subject.rfc4514_string()
