"""Collateral: what Intel says about the security level of platforms, from a file, with Intel's signatures checked.

The file is a JSON object with the fields of Intel's ``sgx_ql_qve_collateral_t``: ``pck_crl_issuer_chain``,
``root_ca_crl``, ``pck_crl``, ``tcb_info_issuer_chain``, ``tcb_info``, ``qe_identity_issuer_chain``, ``qe_identity``
(chains PEM, also URL-encoded as in the headers of Intel's service; CRLs DER in hexadecimal or base64, or PEM).
``tcb_info`` and ``qe_identity`` are either the service's response body as a string, with its signature inside, or the
signed object alone as a string beside ``tcb_info_signature`` and ``qe_identity_signature`` (hexadecimal). They are
strings because the signature covers the bytes as served.

Sources: Intel SGX and TDX Provisioning Certification Service API, version 4 (Get TDX TCB Info, Get TDX QE Identity, Get
PCK CRL, headers); Intel SGX DCAP ``sgx_ql_lib_common.h``.
"""

from __future__ import annotations

import base64
import datetime
import json
import urllib.parse
from collections.abc import Mapping
from typing import TYPE_CHECKING, NoReturn, cast

import attrs
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

from tdxc_runtime.measure.quotes.certificates import Chain, malformed_errors, read_chain, verify_chain, verify_signature
from tdxc_runtime.measure.quotes.trust import TCB_SIGNING_NAME

if TYPE_CHECKING:
    from cryptography import x509

# Real files have 20 KiB; decoded JSON may take 25 times its text, so the text is kept small.
MAX_COLLATERAL_SIZE = 256 * 1024


@attrs.frozen(kw_only=True)
class SignedJson:
    """A JSON object with the signature over its bytes as served, and the chain of the signer."""

    raw: bytes = attrs.field(repr=False)
    value: Mapping[str, object] = attrs.field(repr=False)
    signature: bytes
    chain: Chain
    next_update: datetime.datetime


@attrs.frozen(kw_only=True)
class RevocationList:
    """A CRL: who issued it, until when it holds, and the serial numbers that it revokes."""

    issuer: str
    next_update: datetime.datetime
    revoked: frozenset[int]
    der: bytes = attrs.field(repr=False)


@attrs.frozen(kw_only=True)
class Collateral:
    """All of it, read but not yet believed."""

    tcb_info: SignedJson
    qe_identity: SignedJson
    root_crl: RevocationList
    pck_crl: RevocationList
    pck_crl_chain: Chain


def parse_collateral(data: bytes, *, name: str) -> Collateral:
    """Read a collateral file; E_QUOTE with the field at fault when it does not fit."""
    return _Reader(name).collateral(data)


def verify_signed_json(
    item: SignedJson, root_crl: RevocationList, *, root_key: bytes, at: datetime.datetime
) -> list[str]:
    """What is wrong with a signed object: chain, signer's name and revocation, signature, age."""
    faults = list(verify_chain(item.chain, root_key=root_key, at=at))
    if item.chain.leaf.subject != TCB_SIGNING_NAME:
        faults.append(f"it is signed by '{item.chain.leaf.subject}', not by '{TCB_SIGNING_NAME}'")
    if item.chain.leaf.serial in root_crl.revoked:
        faults.append("the certificate that signed it is revoked")
    if not verify_signature(item.chain.leaf.public_key, item.signature, item.raw):
        faults.append("its signature does not verify")
    if at > item.next_update:
        faults.append(f"it was valid until {item.next_update:%Y-%m-%d %H:%M} UTC")
    return faults


def verify_crl(crl: RevocationList, issuer_key: bytes, issuer: str, *, at: datetime.datetime) -> list[str]:
    """What is wrong with a CRL: issuer, signature, age. ``issuer_key`` is an uncompressed point."""
    from cryptography import x509
    from cryptography.hazmat.primitives.asymmetric import ec

    faults = []
    if crl.issuer != issuer:
        faults.append(f"it is issued by '{crl.issuer}', not by '{issuer}'")
    try:
        key = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), issuer_key)
        valid = x509.load_der_x509_crl(crl.der).is_signature_valid(key)
    except malformed_errors():
        valid = False
    if not valid:
        faults.append("its signature does not verify")
    if at > crl.next_update:
        faults.append(f"it was valid until {crl.next_update:%Y-%m-%d %H:%M} UTC")
    return faults


class _Reader:
    """Turns the file's JSON into types; every fault names its field."""

    def __init__(self, name: str) -> None:
        self._name = name

    def fail(self, message: str) -> NoReturn:
        raise DiagnosticError.of(Code.E_QUOTE, f"collateral: {message}", SourceSpan(file=self._name))

    def collateral(self, data: bytes) -> Collateral:
        if len(data) > MAX_COLLATERAL_SIZE:
            self.fail(f"the file has {len(data)} bytes, more than {MAX_COLLATERAL_SIZE}")
        top = self.mapping(data, "the file")
        return Collateral(
            tcb_info=self.signed(top, "tcb_info", "tcbInfo"),
            qe_identity=self.signed(top, "qe_identity", "enclaveIdentity"),
            root_crl=self.crl(top, "root_ca_crl"),
            pck_crl=self.crl(top, "pck_crl"),
            pck_crl_chain=self.chain(top, "pck_crl_issuer_chain"),
        )

    def mapping(self, data: bytes | str, what: str) -> Mapping[str, object]:
        try:
            value = json.loads(data)
        except (ValueError, RecursionError) as error:
            self.fail(f"{what} is not JSON: {error}")
        if not isinstance(value, dict):
            self.fail(f"{what} is not a JSON object")
        return cast("dict[str, object]", value)

    def text(self, top: Mapping[str, object], key: str) -> str:
        value = top.get(key)
        if not isinstance(value, str):
            self.fail(f"'{key}' is missing or not a string")
        return value

    def chain(self, top: Mapping[str, object], key: str) -> Chain:
        text = self.text(top, key)
        pem = urllib.parse.unquote(text) if "%20" in text else text
        return read_chain(pem.encode(), name=self._name, code=Code.E_QUOTE, what=f"collateral: '{key}'")

    def signed(self, top: Mapping[str, object], key: str, inner: str) -> SignedJson:
        text = self.text(top, key)
        value = self.mapping(text, f"'{key}'")
        signature = (
            value.get("signature", top.get(f"{key}_signature")) if inner in value else top.get(f"{key}_signature")
        )
        if inner in value:
            text = _raw_member(text, inner)
            value = self.mapping(text, f"'{key}'.{inner}")
        return SignedJson(
            raw=text.encode(),
            value=value,
            signature=self.hexadecimal(signature, f"{key}_signature"),
            chain=self.chain(top, f"{key}_issuer_chain"),
            next_update=self.time(value, "nextUpdate", key),
        )

    def hexadecimal(self, value: object, key: str) -> bytes:
        try:
            return bytes.fromhex(value if isinstance(value, str) else "?")
        except ValueError:
            self.fail(f"'{key}' is missing or not hexadecimal")

    def time(self, value: Mapping[str, object], member: str, key: str) -> datetime.datetime:
        text = value.get(member)
        try:
            moment = datetime.datetime.fromisoformat(text if isinstance(text, str) else "?")
        except ValueError:
            self.fail(f"'{key}' has no valid '{member}'")
        return moment if moment.tzinfo else moment.replace(tzinfo=datetime.UTC)

    def crl(self, top: Mapping[str, object], key: str) -> RevocationList:
        from cryptography import x509

        text = self.text(top, key)
        try:
            if text.lstrip().startswith("-----BEGIN"):
                crl = x509.load_pem_x509_crl(text.encode())
            else:
                crl = x509.load_der_x509_crl(_decode(text))
            return _read_crl(crl)
        except malformed_errors() as error:
            self.fail(f"'{key}' is not a certificate revocation list: {error}")


def _read_crl(crl: x509.CertificateRevocationList) -> RevocationList:
    from cryptography.hazmat.primitives.serialization import Encoding
    from cryptography.x509.oid import NameOID

    names = crl.issuer.get_attributes_for_oid(NameOID.COMMON_NAME)
    if crl.next_update_utc is None:
        raise ValueError("it does not say until when it holds")
    return RevocationList(
        issuer=str(names[0].value) if len(names) == 1 else "",
        next_update=crl.next_update_utc,
        revoked=frozenset(entry.serial_number for entry in crl),
        der=crl.public_bytes(Encoding.DER),
    )


def _decode(text: str) -> bytes:
    """Hexadecimal or base64; ``ValueError`` for neither."""
    try:
        return bytes.fromhex(text)
    except ValueError:
        return base64.b64decode(text, validate=True)


def _raw_member(text: str, member: str) -> str:
    """The text of one member of a JSON object exactly as it stands there, for the signature covers those bytes."""
    start = text.index(f'"{member}"') + len(member) + 2
    start += len(text[start:]) - len(text[start:].lstrip(" \t\r\n:"))
    _, end = json.JSONDecoder().raw_decode(text, start)
    return text[start:end]
