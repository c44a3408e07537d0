import base64
import datetime
import functools
import json

import attrs
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from support import quote_pki as pki
from support.event_logs import needs_vectors, vector
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.measure.quotes import QuoteVerification, parse_collateral, parse_quote, verify_quote
from tdxc_runtime.measure.quotes.pck import parse_sgx_extension
from tdxc_runtime.measure.quotes.quote import EnclaveReport, QuoteSignature


def check(
    data: bytes, collateral: bytes | None = None, at: datetime.datetime = pki.NOW, **options: object
) -> QuoteVerification:
    given = None if collateral is None else parse_collateral(collateral, name="collateral.json")
    root_key = pki.world().root.point
    verify = functools.partial(verify_quote, root_key=root_key, collateral=given, at=at, name="quote")
    return verify(parse_quote(data, name="quote"), **options)  # type: ignore[arg-type] # options of one function


def failed(result: QuoteVerification) -> dict[str, str]:
    return {item.name: item.detail for item in result.checks if not item.ok}


SIGNATURES = [
    "TD is not debuggable",
    "quote signature",
    "attestation key",
    "quoting enclave",
    "QE report signature",
    "certificate chain",
]
JUDGED = ["root CRL", "PCK CRL", "TCB info signature", "QE identity signature"]
LEVELS = ["platform TCB", "TDX module TCB", "quoting enclave TCB"]


@pytest.mark.parametrize("version", [4, 5])
def test_a_good_quote_passes_and_says_what_was_not_checked(version: int) -> None:
    result = check(pki.quote(version=version))
    assert result.ok
    assert [item.name for item in result.checks] == SIGNATURES
    assert [item.name for item in result.not_checked] == ["revocation", "TCB status", "QE identity", "freshness"]
    assert result.tcb is None


@pytest.mark.parametrize("wrapped", [False, True])
def test_with_collateral_everything_is_checked(wrapped: bool) -> None:
    result = check(pki.quote(), pki.collateral(wrapped=wrapped))
    assert result.ok, failed(result)
    assert [item.name for item in result.checks] == [*SIGNATURES, *JUDGED, *LEVELS]
    assert [item.name for item in result.not_checked] == ["freshness"]
    assert result.tcb is not None
    assert result.tcb.status == "UpToDate"


def spoil(**changes: bytes) -> bytes:
    def change(signature: QuoteSignature) -> QuoteSignature:
        return attrs.evolve(signature, **changes)  # type: ignore[arg-type] # fields by name

    return pki.quote(change=change)


def test_a_changed_body_breaks_the_signature() -> None:
    data = bytearray(pki.quote())
    data[48 + 136] ^= 1
    assert list(failed(check(bytes(data)))) == ["quote signature"]


@pytest.mark.parametrize(
    ("data", "names"),
    [
        (spoil(signature=bytes(64)), ["quote signature"]),
        (spoil(signature=b"\xff" * 64), ["quote signature"]),
        (spoil(attestation_key=bytes(64)), ["quote signature", "attestation key"]),
        (spoil(attestation_key=b"\xff" * 64), ["quote signature", "attestation key"]),
        (spoil(authentication_data=b""), ["attestation key"]),
        (spoil(report_signature=bytes(64)), ["QE report signature"]),
        (spoil(certification=b""), ["certificate chain"]),
        (spoil(certification=b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"), ["certificate chain"]),
        (spoil(certification=b"x" * 70000), ["certificate chain"]),
        (pki.quote(pem=pki.world().pck.pem), ["certificate chain"]),
        (pki.quote(pem=pki.world().pck.pem * 9), ["certificate chain"]),
        (pki.quote(pki.body(td_attributes=1)), ["TD is not debuggable"]),
    ],
)
def test_what_is_wrong_is_named(data: bytes, names: list[str]) -> None:
    assert list(failed(check(data))) == names


def test_a_report_that_vouches_for_another_key() -> None:
    other = EnclaveReport(raw=pki.enclave_report(bytes(64)))
    assert set(failed(check(pki.quote(change=lambda s: attrs.evolve(s, report=other))))) == {
        "attestation key",
        "QE report signature",
    }


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [(128, 0, "it is not Intel's"), (256, 1, "it is not Intel's"), (257, 1, "product 258"), (48, 0x13, "debug mode")],
)
def test_an_enclave_of_somebody_elses(monkeypatch: pytest.MonkeyPatch, place: int, value: int, words: str) -> None:
    """Intel's hardware signs its report as well, and it may vouch for any key."""
    report = pki.enclave_report

    def other(report_data: bytes, *, svn: int) -> bytes:
        made = bytearray(report(report_data, svn=svn))
        made[place] = value
        return bytes(made)

    monkeypatch.setattr(pki, "enclave_report", other)
    found = failed(check(pki.quote()))
    assert list(found) == ["quoting enclave"]
    assert words in found["quoting enclave"]


@pytest.mark.parametrize("bit", range(8))
def test_a_domain_under_debug(bit: int) -> None:
    assert list(failed(check(pki.quote(pki.body(td_attributes=1 << bit))))) == ["TD is not debuggable"]


def test_certification_data_of_another_type_is_no_chain() -> None:
    result = check(pki.quote(change=lambda s: attrs.evolve(s, certification_type=1)))
    assert "type 1" in failed(result)["certificate chain"]
    assert [item.name for item in result.not_checked] == ["QE report signature", "TCB status"]


def test_a_root_of_the_same_name_but_another_key() -> None:
    result = verify_quote(parse_quote(pki.quote(), name="quote"), name="quote", at=pki.NOW)
    assert "does not have the key of Intel's root" in failed(result)["certificate chain"]


def test_a_chain_with_a_foreign_link() -> None:
    who = pki.world()
    stranger = pki.certify("Intel SGX PCK Platform CA")
    result = check(pki.quote(pem=pki.chain_pem(who.pck, stranger, who.root)))
    assert "is not signed by" in failed(result)["certificate chain"]


def test_names_of_certificates_are_printable() -> None:
    who = pki.world()
    stranger = pki.certify("Intel SGX\x1b[2J\x9b")
    found = failed(check(pki.quote(pem=pki.chain_pem(who.pck, stranger, who.root))))["certificate chain"]
    assert found.isprintable()
    assert r"Intel SGX\x1b[2J\x9b" in found


def test_a_leaf_that_is_an_authority_or_named_otherwise() -> None:
    who = pki.world()
    authority = pki.certify("Intel SGX PCK Certificate", who.authority, is_ca=True, extension=pki.sgx_extension())
    assert "is a certificate authority" in failed(check(pki.quote(pck=authority)))["certificate chain"]
    renamed = pki.certify("Intel SGX TCB Signing", who.authority, is_ca=False, extension=pki.sgx_extension())
    assert "is not a PCK certificate" in failed(check(pki.quote(pck=renamed)))["certificate chain"]


def test_a_leaf_without_platform_data() -> None:
    bare = pki.certify("Intel SGX PCK Certificate", pki.world().authority, is_ca=False)
    assert "no SGX extension" in failed(check(pki.quote(pck=bare)))["certificate chain"]


@pytest.mark.parametrize("days", [-800, 800])
def test_certificates_outside_their_time(days: int) -> None:
    result = check(pki.quote(), at=pki.NOW + datetime.timedelta(days=days))
    assert "is valid from" in failed(result)["certificate chain"]


def test_stale_collateral_is_said() -> None:
    result = check(pki.quote(), pki.collateral(crl_until=pki.NOW), at=pki.NOW + datetime.timedelta(days=30))
    assert list(failed(result)) == JUDGED
    assert all("was valid until" in detail for detail in failed(result).values())


def test_revocation() -> None:
    who = pki.world()
    leaf = pki.collateral(revoked_pcks=(who.pck.certificate.serial_number,))
    assert list(failed(check(pki.quote(), leaf))) == ["PCK CRL"]
    authority = pki.collateral(revoked_by_root=(who.authority.certificate.serial_number,))
    assert list(failed(check(pki.quote(), authority))) == ["root CRL"]
    signer = pki.collateral(revoked_by_root=(who.signer.certificate.serial_number,))
    assert list(failed(check(pki.quote(), signer))) == ["TCB info signature", "QE identity signature"]


def test_collateral_signed_by_somebody_else() -> None:
    who = pki.world()
    assert list(failed(check(pki.quote(), pki.collateral(signer=pki.certify("Intel SGX TCB Signing"))))) == JUDGED[2:]
    renamed = pki.certify("Intel SGX Other", who.root, is_ca=False)
    assert list(failed(check(pki.quote(), pki.collateral(signer=renamed)))) == JUDGED[2:]
    swapped = pki.collateral(root_ca_crl=pki.crl(who.authority).hex())
    assert "root CRL" in failed(check(pki.quote(), swapped))


def test_collateral_whose_text_was_changed() -> None:
    top = json.loads(pki.collateral())
    top["tcb_info"] = top["tcb_info"].replace("OutOfDate", "UpToDate")
    assert list(failed(check(pki.quote(), json.dumps(top).encode()))) == ["TCB info signature"]


@pytest.mark.parametrize(
    ("info", "name", "words"),
    [
        (pki.tcb_info(fmspc="000000000000"), "platform TCB", "FMSPC"),
        (pki.tcb_info(pceId="0001"), "platform TCB", "PCE"),
        (pki.tcb_info(id="SGX"), "platform TCB", "not TDX TCB info"),
        (pki.tcb_info(tcbLevels=[pki.tcb_level("UpToDate", first=3)]), "platform TCB", "none of its TCB levels"),
        (pki.tcb_info(tcbLevels=[{"tcb": {}}]), "platform TCB", "no list"),
        (pki.tcb_info(tcbLevels=7), "platform TCB", "no list"),
        (pki.tcb_info(tdxModuleIdentities=[]), "TDX module TCB", "knows no TDX module TDX_01"),
        (pki.tcb_info(tcbLevels=[pki.tcb_level("OutOfDate")]), "platform TCB", "OutOfDate"),
    ],
)
def test_platforms_that_do_not_pass(info: dict[str, object], name: str, words: str) -> None:
    found = failed(check(pki.quote(), pki.collateral(info=info)))
    assert list(found) == [name]
    assert words in found[name]


def test_a_module_below_version_one_is_judged_by_the_platforms_levels() -> None:
    old = pki.body(tee_tcb_svn=bytes((4, 0, 2)) + bytes(13))
    assert "none of its TCB levels" in failed(check(pki.quote(old), pki.collateral()))["platform TCB"]
    good = pki.body(tee_tcb_svn=bytes((5, 0, 2)) + bytes(13))
    assert check(pki.quote(good), pki.collateral()).ok


def test_a_module_of_somebody_else() -> None:
    assert list(failed(check(pki.quote(pki.body(mr_signer_seam=b"\x01" * 48)), pki.collateral()))) == ["TDX module TCB"]
    assert list(failed(check(pki.quote(pki.body(seam_attributes=b"\x01" * 8)), pki.collateral()))) == ["TDX module TCB"]


def test_an_old_module_or_enclave_makes_the_whole_out_of_date() -> None:
    module = check(pki.quote(pki.body(tee_tcb_svn=bytes((3, 1, 2)) + bytes(13))), pki.collateral())
    assert list(failed(module)) == ["TDX module TCB"]
    enclave = check(pki.quote(svn=2), pki.collateral())
    assert "INTEL-SA-00001" in failed(enclave)["quoting enclave TCB"]
    for result in (module, enclave):
        assert result.tcb is not None
        assert result.tcb.status == "OutOfDate"
    assert check(pki.quote(svn=2), pki.collateral(), accepted=frozenset({"UpToDate", "OutOfDate"})).ok


@pytest.mark.parametrize(
    "changes",
    [{"id": "QE"}, {"mrsigner": "00" * 32}, {"isvprodid": 1}, {"miscselect": "00000001"}, {"attributes": "13" * 16}],
)
def test_another_quoting_enclave(changes: dict[str, object]) -> None:
    found = failed(check(pki.quote(), pki.collateral(identity=pki.qe_identity(**changes))))
    assert list(found) == ["quoting enclave TCB"]


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (b"", "not JSON"),
        (b"[]", "not a JSON object"),
        (b"[" * 100000, "not JSON"),
        (b"{}", "'tcb_info' is missing"),
        (pki.collateral(tcb_info="{"), "'tcb_info' is not JSON"),
        (pki.collateral(tcb_info="{}"), "no valid 'nextUpdate'"),
        (pki.collateral(tcb_info_signature="zz"), "'tcb_info_signature'"),
        (pki.collateral(tcb_info_issuer_chain="nothing"), "tcb_info_issuer_chain"),
        (pki.collateral(root_ca_crl="00"), "'root_ca_crl' is not a certificate revocation list"),
        (pki.collateral(pck_crl="!"), "'pck_crl' is not a certificate revocation list"),
        (b" " * (257 << 10), "more than"),
    ],
)
def test_files_that_are_no_collateral(data: bytes, words: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        parse_collateral(data, name="collateral.json")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code is Code.E_QUOTE
    assert diagnostic.span.file == "collateral.json"
    assert words in diagnostic.message


def test_the_platform_data_of_a_certificate() -> None:
    found = parse_sgx_extension(pki.sgx_extension())
    assert (found.fmspc, found.pce_id, found.components, found.pce_svn) == (
        pki.FMSPC,
        pki.PCE_ID,
        pki.SVNS,
        pki.PCE_SVN,
    )


@pytest.mark.parametrize(
    "data", [b"", b"\x30", b"\x30\x80", b"\x30\x05\x00", b"\x06\x00", b"\x30\x02" * 40 + b"\x00\x00"]
)
def test_malformed_platform_data(data: bytes) -> None:
    with pytest.raises(ValueError, match="SGX extension"):
        parse_sgx_extension(data)


@needs_vectors
def test_a_production_quote_leads_to_intels_root() -> None:
    at = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC)
    data = vector("go-tdx-guest/tdx_prod_quote_SPR_E4.dat")
    assert verify_quote(parse_quote(data, name="quote"), name="quote", at=at).ok
    dstack = bytes.fromhex(json.loads(vector("dstack/quote-report.json"))["quote"])
    assert verify_quote(parse_quote(dstack, name="quote"), name="quote", at=at).ok


@needs_vectors
def test_a_preproduction_quote_does_not() -> None:
    """Its root has Intel's name and another key."""
    at = datetime.datetime(2026, 11, 21, tzinfo=datetime.UTC)
    result = verify_quote(parse_quote(vector("cc-trusted-api/quote.bin"), name="quote"), name="quote", at=at)
    assert list(failed(result)) == ["certificate chain"]


def test_a_certificate_of_an_unknown_version_is_not_readable() -> None:
    """The version is the integer in ``[0] { INTEGER }`` at the start of the certificate's inner part."""
    der = bytearray(pki.world().root.certificate.public_bytes(Encoding.DER))
    position = der.index(b"\xa0\x03\x02\x01\x02") + 4
    der[position] = 6
    text = base64.encodebytes(bytes(der)).decode()
    pem = f"-----BEGIN CERTIFICATE-----\n{text}-----END CERTIFICATE-----\n".encode()
    assert "certificate chain" in failed(check(pki.quote(pem=pki.world().pck.pem + pem)))
