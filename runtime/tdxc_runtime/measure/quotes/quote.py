"""TD quotes of version 4 and 5, parsed from untrusted bytes and written for tests.

Layout (little-endian): a 48-byte header; in version 5 ``u16 body type, u32 body size``; the body; ``u32`` length of the
signature data; an ECDSA signature (r and s, 32 bytes each), the attestation key (x and y), and certification data
(``u16 type, u32 size``) of type 6, which holds the quoting enclave's report, its signature, authentication data and
once more certification data, in practice of type 5: the PCK certificate chain as PEM.

Source: Intel TDX DCAP Quoting Library API, sections A.3 (version 4) and A.4 (version 5).
"""

from __future__ import annotations

import attrs
from tdxc.diagnostics import Code

from tdxc_runtime.measure.cursor import Cursor
from tdxc_runtime.measure.quotes.body import BODY_SIZE_1_0, BODY_SIZE_1_5, TdBody, read_body, write_body

MAX_QUOTE_SIZE = 256 * 1024
HEADER_SIZE = 48
TEE_TYPE_TDX = 0x81
KEY_TYPE_ECDSA_P256 = 2
INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")
CERTIFICATION_PCK_CHAIN = 5
CERTIFICATION_QE_REPORT = 6
_BODY_SIZES = {2: BODY_SIZE_1_0, 3: BODY_SIZE_1_5}
_FIX = "give the raw quote as the quoting service returned it (binary, not hexadecimal or base64)"


@attrs.frozen(kw_only=True)
class EnclaveReport:
    """The report of the quoting enclave (an SGX REPORTBODY of 384 bytes): its identity and what it vouches for."""

    raw: bytes = attrs.field(repr=False)

    @property
    def misc_select(self) -> bytes:
        """MISCSELECT, 4 bytes."""
        return self.raw[16:20]

    @property
    def attributes(self) -> bytes:
        """ATTRIBUTES, 16 bytes."""
        return self.raw[48:64]

    @property
    def mr_signer(self) -> bytes:
        """MRSIGNER, 32 bytes."""
        return self.raw[128:160]

    @property
    def isv_prod_id(self) -> int:
        """ISVPRODID."""
        return int.from_bytes(self.raw[256:258], "little")

    @property
    def isv_svn(self) -> int:
        """ISVSVN."""
        return int.from_bytes(self.raw[258:260], "little")

    @property
    def report_data(self) -> bytes:
        """REPORTDATA, 64 bytes."""
        return self.raw[320:384]


@attrs.frozen(kw_only=True)
class QuoteSignature:
    """The signature data: who signed the quote and how that signer is tied to the platform's PCK certificate.

    ``signature``, ``attestation_key`` and ``report_signature`` are 64 bytes (two big-endian numbers of 32).
    ``certification_type`` and ``certification`` are the inner certification data; type 5 is the PEM chain.
    """

    signature: bytes
    attestation_key: bytes
    report: EnclaveReport
    report_signature: bytes
    authentication_data: bytes
    certification_type: int
    certification: bytes = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Quote:
    """A quote. ``signed`` is what the attestation key signs: everything before the signature data's length.

    ``extra`` counts the bytes behind the quote, without final zeros: some services append what nothing covers.
    """

    version: int
    key_type: int
    vendor: bytes
    user_data: bytes
    body_type: int
    body: TdBody
    signed: bytes = attrs.field(repr=False)
    signature: QuoteSignature | None
    extra: int = 0


def parse_quote(data: bytes, *, name: str) -> Quote:
    """Read a quote; ``name`` is the file as diagnostics call it. E_QUOTE for anything that is not a TD quote.

    ``signature`` is ``None`` when the key type is not ECDSA with P-256, the only one in use. Bytes behind the quote are
    counted, not refused: some drivers return a fixed buffer.
    """
    cursor = Cursor(data, name=name, code=Code.E_QUOTE)
    if len(data) > MAX_QUOTE_SIZE:
        raise cursor.error(f"the quote has {len(data)} bytes, more than the {MAX_QUOTE_SIZE} that are read", fix=_FIX)
    if len(data) < HEADER_SIZE:
        raise cursor.error(f"a quote starts with {HEADER_SIZE} bytes of header, the file has {len(data)}", fix=_FIX)
    version, key_type, tee = cursor.u16("the version"), cursor.u16("the key type"), cursor.u32("the TEE type")
    if version not in {4, 5}:
        raise cursor.error(f"version {version} is not a TD quote's: 4 or 5", at=0, fix=_FIX)
    if tee != TEE_TYPE_TDX:
        raise cursor.error(f"TEE type {tee:#x} is not TDX ({TEE_TYPE_TDX:#x})", at=4, fix=_FIX)
    cursor.u32("the reserved field")
    vendor, user_data = bytes(cursor.take(16, "the QE vendor")), bytes(cursor.take(20, "the user data"))
    body_type, size = 2, BODY_SIZE_1_0
    if version == 5:
        body_type, size = cursor.u16("the body type"), cursor.u32("the body size")
        if _BODY_SIZES.get(body_type) != size:
            raise cursor.error(f"body type {body_type} with {size} bytes is neither TDX 1.0 nor 1.5", at=HEADER_SIZE)
    body = read_body(cursor, size)
    signed = bytes(cursor.data[: cursor.offset])
    signature_data = cursor.sub(cursor.u32("the length of the signature data"), "the signature data")
    return Quote(
        version=version,
        key_type=key_type,
        vendor=vendor,
        user_data=user_data,
        body_type=body_type,
        body=body,
        signed=signed,
        signature=_read_signature(signature_data) if key_type == KEY_TYPE_ECDSA_P256 else None,
        extra=len(cursor.data[cursor.offset :].tobytes().rstrip(b"\0")),
    )


def _read_signature(cursor: Cursor) -> QuoteSignature:
    """The ECDSA signature data; it must fill its announced length."""
    signature = bytes(cursor.take(64, "the quote's signature"))
    key = bytes(cursor.take(64, "the attestation key"))
    outer_type = cursor.u16("the certification data's type")
    if outer_type != CERTIFICATION_QE_REPORT:
        raise cursor.error(f"certification data of type {outer_type} where a QE report (6) is expected")
    outer = cursor.sub(cursor.u32("the certification data's size"), "the certification data")
    if cursor.remaining:
        raise cursor.error(f"{cursor.remaining} bytes follow the certification data")
    report = EnclaveReport(raw=bytes(outer.take(384, "the quoting enclave's report")))
    report_signature = bytes(outer.take(64, "the report's signature"))
    authentication_data = bytes(outer.take(outer.u16("the authentication data's size"), "the authentication data"))
    inner_type, size = outer.u16("the inner certification data's type"), outer.u32("its size")
    certification = bytes(outer.take(size, "the inner certification data"))
    if outer.remaining:
        raise outer.error(f"{outer.remaining} bytes follow the inner certification data")
    return QuoteSignature(
        signature=signature,
        attestation_key=key,
        report=report,
        report_signature=report_signature,
        authentication_data=authentication_data,
        certification_type=inner_type,
        certification=certification,
    )


def signed_part(
    body: TdBody, *, version: int, user_data: bytes = bytes(20), key_type: int = KEY_TYPE_ECDSA_P256
) -> bytes:
    """The bytes before the signature data's length: header and body, in version 5 with the body's type and size."""
    header = version.to_bytes(2, "little") + key_type.to_bytes(2, "little") + TEE_TYPE_TDX.to_bytes(4, "little")
    raw = write_body(body)
    body_type = next(number for number, size in _BODY_SIZES.items() if size == len(raw))
    described = body_type.to_bytes(2, "little") + len(raw).to_bytes(4, "little") if version == 5 else b""
    return header + bytes(4) + INTEL_QE_VENDOR + user_data + described + raw


def write_quote(signed: bytes, signature: QuoteSignature) -> bytes:
    """A whole quote from its signed part and its signature data."""
    authentication = signature.authentication_data
    inner = signature.certification_type.to_bytes(2, "little") + len(signature.certification).to_bytes(4, "little")
    outer = signature.report.raw + signature.report_signature + len(authentication).to_bytes(2, "little")
    outer += authentication + inner + signature.certification
    data = signature.signature + signature.attestation_key + CERTIFICATION_QE_REPORT.to_bytes(2, "little")
    data += len(outer).to_bytes(4, "little") + outer
    return signed + len(data).to_bytes(4, "little") + data
