"""A made-up Intel: root, PCK authority, platform, TCB signing, CRLs, and quotes and collateral signed by them."""

import datetime
import functools
import hashlib
import json
from collections.abc import Callable, Mapping
from typing import Any

import attrs
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from tdxc_runtime.measure.quotes.body import TdBody
from tdxc_runtime.measure.quotes.certificates import point_of
from tdxc_runtime.measure.quotes.quote import EnclaveReport, QuoteSignature, signed_part, write_quote

NOW = datetime.datetime(2026, 6, 1, tzinfo=datetime.UTC)
BEGIN, END = NOW - datetime.timedelta(days=365), NOW + datetime.timedelta(days=365)
FMSPC, PCE_ID = bytes.fromhex("b0c06f000000"), bytes(2)
SVNS = (2, 2, 2, 2, 3, 1, 0, 5, 0, 0, 0, 0, 0, 0, 0, 0)
PCE_SVN = 11
MR_SIGNER = bytes.fromhex("dc9e2a7c6f948f17474e34a7fc43ed030f7c1563f1babddf6340c82e0e54a8c5")


def der(tag: int, value: bytes) -> bytes:
    size = bytes((len(value),)) if len(value) < 128 else b"\x82" + len(value).to_bytes(2, "big")
    return bytes((tag,)) + size + value


def oid(*tail: int) -> bytes:
    """1.2.840.113741.1.13.1 and what follows it, as DER."""
    return der(6, bytes.fromhex("2a864886f84d010d01") + bytes(tail))


def sgx_extension(svns: tuple[int, ...] = SVNS, fmspc: bytes = FMSPC) -> bytes:
    rows = [der(0x30, oid(2, i) + der(2, bytes((svn,)))) for i, svn in enumerate(svns, 1)]
    rows += [der(0x30, oid(2, 17) + der(2, bytes((PCE_SVN,)))), der(0x30, oid(2, 18) + der(4, bytes(svns)))]
    fields = [der(0x30, oid(1) + der(4, bytes(16))), der(0x30, oid(2) + der(0x30, b"".join(rows)))]
    fields += [der(0x30, oid(3) + der(4, PCE_ID)), der(0x30, oid(4) + der(4, fmspc))]
    return der(0x30, b"".join(fields))


@attrs.frozen
class Authority:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(Encoding.PEM)

    @property
    def point(self) -> bytes:
        return point_of(self.key.public_key())


def named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def certify(
    name: str,
    issuer: Authority | None = None,
    *,
    is_ca: bool = True,
    extension: bytes | None = None,
    begin: datetime.datetime = BEGIN,
    end: datetime.datetime = END,
    serial: int | None = None,
) -> Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    builder = (
        x509.CertificateBuilder()
        .subject_name(named(name))
        .issuer_name(issuer.certificate.subject if issuer else named(name))
        .public_key(key.public_key())
        .serial_number(serial or x509.random_serial_number())
        .not_valid_before(begin)
        .not_valid_after(end)
        .add_extension(x509.BasicConstraints(ca=is_ca, path_length=None), critical=True)
    )
    if extension is not None:
        identifier = x509.ObjectIdentifier("1.2.840.113741.1.13.1")
        builder = builder.add_extension(x509.UnrecognizedExtension(identifier, extension), critical=False)
    return Authority(builder.sign(issuer.key if issuer else key, hashes.SHA256()), key)


def sign(key: ec.EllipticCurvePrivateKey, message: bytes) -> bytes:
    r, s = decode_dss_signature(key.sign(message, ec.ECDSA(hashes.SHA256())))
    return r.to_bytes(32, "big") + s.to_bytes(32, "big")


def crl(issuer: Authority, revoked: tuple[int, ...] = (), next_update: datetime.datetime = END) -> bytes:
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(issuer.certificate.subject)
        .last_update(BEGIN)
        .next_update(next_update)
    )
    for serial in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(BEGIN).build()
        builder = builder.add_revoked_certificate(entry)
    return builder.sign(issuer.key, hashes.SHA256()).public_bytes(Encoding.DER)


@attrs.frozen
class World:
    """Everybody who signs something."""

    root: Authority
    authority: Authority
    pck: Authority
    signer: Authority
    attestation: ec.EllipticCurvePrivateKey


@functools.cache
def world() -> World:
    root = certify("Intel SGX Root CA")
    authority = certify("Intel SGX PCK Platform CA", root)
    return World(
        root=root,
        authority=authority,
        pck=certify("Intel SGX PCK Certificate", authority, is_ca=False, extension=sgx_extension()),
        signer=certify("Intel SGX TCB Signing", root, is_ca=False),
        attestation=ec.generate_private_key(ec.SECP256R1()),
    )


def body(**changes: Any) -> TdBody:
    """A TD body of TDX 1.0 whose fields are told apart by their bytes."""
    plain = TdBody(
        tee_tcb_svn=bytes((5, 1, 2)) + bytes(13),
        mr_seam=b"\x0a" * 48,
        mr_signer_seam=bytes(48),
        seam_attributes=bytes(8),
        td_attributes=1 << 28,
        xfam=0x602E7,
        mr_td=b"\x0b" * 48,
        mr_config_id=b"\x0c" * 48,
        mr_owner=b"\x0d" * 48,
        mr_owner_config=b"\x0e" * 48,
        rtmrs=(b"\x10" * 48, b"\x11" * 48, b"\x12" * 48, b"\x13" * 48),
        report_data=b"\x0f" * 64,
    )
    return attrs.evolve(plain, **changes)


def enclave_report(report_data: bytes, *, svn: int = 4) -> bytes:
    raw = bytearray(384)
    raw[48:64] = bytes.fromhex("11000000000000000000000000000000")
    raw[128:160] = MR_SIGNER
    raw[256:258] = (2).to_bytes(2, "little")
    raw[258:260] = svn.to_bytes(2, "little")
    raw[320:384] = report_data
    return bytes(raw)


def chain_pem(*links: Authority) -> bytes:
    return b"".join(link.pem for link in links)


def quote(
    td: TdBody | None = None,
    *,
    version: int = 4,
    pck: Authority | None = None,
    pem: bytes | None = None,
    svn: int = 4,
    change: Callable[[QuoteSignature], QuoteSignature] = lambda signature: signature,
) -> bytes:
    """A quote of the made-up platform; ``change`` may spoil the signature data after everything was signed."""
    who = world()
    leaf = pck or who.pck
    signed = signed_part(td or body(), version=version)
    key = point_of(who.attestation.public_key())[1:]
    authentication = bytes(range(32))
    report = enclave_report(hashlib.sha256(key + authentication).digest() + bytes(32), svn=svn)
    signature = QuoteSignature(
        signature=sign(who.attestation, signed),
        attestation_key=key,
        report=EnclaveReport(raw=report),
        report_signature=sign(leaf.key, report),
        authentication_data=authentication,
        certification_type=5,
        certification=chain_pem(leaf, who.authority, who.root) if pem is None else pem,
    )
    return write_quote(signed, change(signature))


def tcb_level(status: str, *, first: int = 2, module: int = 5) -> dict[str, Any]:
    return {
        "tcb": {
            "sgxtcbcomponents": [{"svn": svn} for svn in (first, *SVNS[1:])],
            "pcesvn": PCE_SVN,
            "tdxtcbcomponents": [{"svn": svn} for svn in (module, 0, 2, *[0] * 13)],
        },
        "tcbDate": "2024-03-13T00:00:00Z",
        "tcbStatus": status,
    }


def tcb_info(**changes: Any) -> dict[str, Any]:
    module = {"mrsigner": "00" * 48, "attributes": "00" * 8, "attributesMask": "FF" * 8}
    levels = [{"tcb": {"isvsvn": 5}, "tcbStatus": "UpToDate"}, {"tcb": {"isvsvn": 2}, "tcbStatus": "OutOfDate"}]
    return {
        "id": "TDX",
        "version": 3,
        "issueDate": "2026-05-20T00:00:00Z",
        "nextUpdate": "2026-06-20T00:00:00Z",
        "fmspc": FMSPC.hex().upper(),
        "pceId": "0000",
        "tdxModule": module,
        "tdxModuleIdentities": [{"id": "TDX_01", **module, "tcbLevels": levels}],
        "tcbLevels": [tcb_level("UpToDate"), tcb_level("OutOfDate", first=1)],
    } | changes


def qe_identity(**changes: Any) -> dict[str, Any]:
    return {
        "id": "TD_QE",
        "version": 2,
        "nextUpdate": "2026-06-20T00:00:00Z",
        "miscselect": "00000000",
        "miscselectMask": "FFFFFFFF",
        "attributes": "11000000000000000000000000000000",
        "attributesMask": "FBFFFFFFFFFFFFFF0000000000000000",
        "mrsigner": MR_SIGNER.hex().upper(),
        "isvprodid": 2,
        "tcbLevels": [
            {"tcb": {"isvsvn": 4}, "tcbStatus": "UpToDate"},
            {"tcb": {"isvsvn": 1}, "tcbStatus": "OutOfDate", "advisoryIDs": ["INTEL-SA-00001"]},
        ],
    } | changes


def collateral(
    *,
    info: Mapping[str, Any] | None = None,
    identity: Mapping[str, Any] | None = None,
    revoked_by_root: tuple[int, ...] = (),
    revoked_pcks: tuple[int, ...] = (),
    crl_until: datetime.datetime = END,
    signer: Authority | None = None,
    wrapped: bool = False,
    **changes: Any,
) -> bytes:
    """A collateral file; ``wrapped`` gives the signed objects as the service's response bodies."""
    who = world()
    signer = signer or who.signer
    top: dict[str, Any] = {
        "pck_crl_issuer_chain": chain_pem(who.authority, who.root).decode(),
        "root_ca_crl": crl(who.root, revoked_by_root, crl_until).hex(),
        "pck_crl": crl(who.authority, revoked_pcks, crl_until).hex(),
    }
    objects = (
        ("tcb_info", "tcbInfo", info or tcb_info()),
        ("qe_identity", "enclaveIdentity", identity or qe_identity()),
    )
    for key, inner, value in objects:
        text = json.dumps(value, separators=(",", ":"))
        signature = sign(signer.key, text.encode()).hex()
        top[f"{key}_issuer_chain"] = chain_pem(signer, who.root).decode()
        top[key] = f'{{"{inner}":{text},"signature":"{signature}"}}' if wrapped else text
        if not wrapped:
            top[f"{key}_signature"] = signature
    return json.dumps(top | changes).encode()
