"""Verify a TD quote offline: signatures up to Intel's root, and the TCB status where collateral is given.

Everything that was checked is in the result, and everything that was not, with the reason. Nothing is fetched.

Source: Intel TDX DCAP Quoting Library API, section A.3 and A.4 (what each signature covers, and the binding of
the attestation key: the QE report's REPORTDATA is SHA-256 over key and authentication data, then 32 zero bytes).
"""

from __future__ import annotations

import datetime
import hashlib
from collections.abc import Callable

import attrs
from tdxc.diagnostics import Code, DiagnosticError

from tdxc_runtime.measure.checks import Check, NotChecked, all_ok
from tdxc_runtime.measure.quotes.certificates import Chain, read_chain, verify_chain, verify_signature
from tdxc_runtime.measure.quotes.collateral import Collateral, verify_crl, verify_signed_json
from tdxc_runtime.measure.quotes.pck import PckTcb, parse_sgx_extension
from tdxc_runtime.measure.quotes.quote import CERTIFICATION_PCK_CHAIN, Quote, QuoteSignature
from tdxc_runtime.measure.quotes.tcb import UP_TO_DATE, TcbStatus, enclave_status, module_status, platform_status, worst
from tdxc_runtime.measure.quotes.trust import (
    INTEL_SGX_ROOT_CA_KEY,
    INTEL_TD_QE_PRODUCT,
    INTEL_TD_QE_SIGNER,
    PCK_CA_NAMES,
    PCK_LEAF_NAME,
)


@attrs.frozen(kw_only=True)
class QuoteVerification:
    """What came out. ``tcb`` is the combined status, ``None`` when no collateral was given or it could not be used."""

    checks: tuple[Check, ...]
    not_checked: tuple[NotChecked, ...]
    tcb: TcbStatus | None = None

    @property
    def ok(self) -> bool:
        """Whether every check passed; what was not checked does not count."""
        return all_ok(self.checks)


def verify_quote(
    quote: Quote,
    *,
    name: str,
    at: datetime.datetime,
    collateral: Collateral | None = None,
    root_key: bytes = INTEL_SGX_ROOT_CA_KEY,
    accepted: frozenset[str] = frozenset({UP_TO_DATE}),
) -> QuoteVerification:
    """Verify ``quote`` as of ``at`` (with time zone); never raises for a bad quote, the checks say what is wrong.

    ``accepted`` are the TCB statuses that pass. ``root_key`` is for tests with their own root.
    """
    checks = [_check_debug(quote)]
    signature = quote.signature
    if signature is None:
        reason = f"the attestation key is of type {quote.key_type}; only ECDSA with P-256 (2) is known"
        return QuoteVerification(
            checks=(*checks, Check(name="quote signature", ok=False, detail=reason)),
            not_checked=tuple(NotChecked(name=n, reason=reason) for n in ("certificate chain", "TCB status")),
        )
    checks += [_check_signature(quote, signature), _check_binding(signature), _check_enclave(signature)]
    try:
        chain, pck = _read_pck(signature, name)
    except (DiagnosticError, ValueError) as error:
        reason = f"there is no readable PCK certificate chain in the quote: {error}"
        return QuoteVerification(
            checks=(*checks, Check(name="certificate chain", ok=False, detail=reason)),
            not_checked=tuple(NotChecked(name=n, reason=reason) for n in ("QE report signature", "TCB status")),
        )
    checks += [_check_report_signature(signature, chain), _check_chain(chain, root_key, at)]
    if collateral is None:
        return QuoteVerification(checks=tuple(checks), not_checked=_without_collateral(chain))
    more, tcb = _check_collateral(quote, signature, (chain, pck), collateral, root_key, at, accepted)
    return QuoteVerification(checks=(*checks, *more), not_checked=_HARDWARE, tcb=tcb)


_HARDWARE = (
    NotChecked(
        name="freshness",
        reason="whether REPORTDATA holds the verifier's nonce or the service's key is for the verifier to compare",
    ),
)


def _without_collateral(chain: Chain) -> tuple[NotChecked, ...]:
    reason = "no collateral file was given"
    return (
        NotChecked(name="revocation", reason=f"{reason}: whether '{chain.leaf.subject}' or its issuer is revoked"),
        NotChecked(name="TCB status", reason=f"{reason}: whether firmware, microcode and TDX module are up to date"),
        NotChecked(name="QE identity", reason=f"{reason}: whether the quoting enclave is up to date"),
        *_HARDWARE,
    )


def _check_debug(quote: Quote) -> Check:
    if quote.body.is_debug:
        names = ", ".join(quote.body.attribute_names)
        detail = f"the TD is under debug (attributes: {names}): its host can look into it, and with DEBUG change it"
    else:
        detail = f"the TD is not in debug mode (attributes: {', '.join(quote.body.attribute_names) or 'none'})"
    return Check(name="TD is not debuggable", ok=not quote.body.is_debug, detail=detail)


def _check_signature(quote: Quote, signature: QuoteSignature) -> Check:
    ok = verify_signature(b"\x04" + signature.attestation_key, signature.signature, quote.signed)
    detail = f"the attestation key's signature over header and body {'verifies' if ok else 'does not verify'}"
    return Check(name="quote signature", ok=ok, detail=detail)


def _check_binding(signature: QuoteSignature) -> Check:
    digest = hashlib.sha256(signature.attestation_key + signature.authentication_data).digest()
    ok = signature.report.report_data == digest + bytes(32)
    detail = f"the quoting enclave's report {'vouches' if ok else 'does not vouch'} for the attestation key"
    return Check(name="attestation key", ok=ok, detail=detail)


def _check_enclave(signature: QuoteSignature) -> Check:
    """Whoever owns a machine with SGX has such reports, of Intel's own hardware, for enclaves of their own too."""
    report, faults = signature.report, []
    if report.mr_signer != INTEL_TD_QE_SIGNER or report.isv_prod_id != INTEL_TD_QE_PRODUCT:
        faults.append(f"it is not Intel's (MRSIGNER {report.mr_signer.hex()}, product {report.isv_prod_id})")
    if report.attributes[0] & _SGX_DEBUG:
        faults.append("it is in debug mode: its host can read its key")
    return _verdict("quoting enclave", faults, "it is signed by Intel, and is the one for trust domains")


_SGX_DEBUG = 2
"""ATTRIBUTES.DEBUG of an enclave (Intel SDM, volume 3D, section 38.7.1)."""


def _read_pck(signature: QuoteSignature, name: str) -> tuple[Chain, PckTcb]:
    """The PCK chain and the leaf's platform data; ``ValueError`` or a diagnostic when the quote has none."""
    if signature.certification_type != CERTIFICATION_PCK_CHAIN:
        raise ValueError(f"certification data of type {signature.certification_type}")
    chain = read_chain(signature.certification, name=name, code=Code.E_QUOTE, what="the PCK certificate chain")
    if chain.leaf.sgx_extension is None:
        raise ValueError(f"'{chain.leaf.subject}' has no SGX extension")
    return chain, parse_sgx_extension(chain.leaf.sgx_extension)


def _check_report_signature(signature: QuoteSignature, chain: Chain) -> Check:
    ok = verify_signature(chain.leaf.public_key, signature.report_signature, signature.report.raw)
    detail = f"the signature of the quoting enclave's report by the PCK {'verifies' if ok else 'does not verify'}"
    return Check(name="QE report signature", ok=ok, detail=detail)


def _check_chain(chain: Chain, root_key: bytes, at: datetime.datetime) -> Check:
    faults = list(verify_chain(chain, root_key=root_key, at=at))
    if chain.leaf.subject != PCK_LEAF_NAME or chain.leaf.issuer not in PCK_CA_NAMES:
        faults.append(f"'{chain.leaf.subject}' by '{chain.leaf.issuer}' is not a PCK certificate")
    path = " <- ".join(f"'{c.subject}'" for c in chain.certificates)
    return _verdict(
        "certificate chain", faults, f"{path} leads to Intel's root and is valid at {at:%Y-%m-%d %H:%M} UTC"
    )


def _verdict(name: str, faults: list[str], good: str) -> Check:
    return Check(name=name, ok=not faults, detail="; ".join(faults) if faults else good)


def _check_collateral(
    quote: Quote,
    signature: QuoteSignature,
    platform: tuple[Chain, PckTcb],
    collateral: Collateral,
    root_key: bytes,
    at: datetime.datetime,
    accepted: frozenset[str],
) -> tuple[list[Check], TcbStatus | None]:
    """Believe the collateral where Intel signed it, then judge the platform by it."""
    chain, pck = platform
    checks = _check_revocation(chain, collateral, root_key, at)
    for name, item in (("TCB info", collateral.tcb_info), ("QE identity", collateral.qe_identity)):
        faults = verify_signed_json(item, collateral.root_crl, root_key=root_key, at=at)
        good = f"signed by Intel, valid until {item.next_update:%Y-%m-%d %H:%M} UTC"
        checks.append(_verdict(f"{name} signature", faults, good))
    info = collateral.tcb_info.value
    enclave = collateral.qe_identity.value
    found = [
        _judge(checks, "platform TCB", accepted, lambda: platform_status(info, pck, quote.body)),
        _judge(checks, "TDX module TCB", accepted, lambda: module_status(info, quote.body)),
        _judge(checks, "quoting enclave TCB", accepted, lambda: enclave_status(enclave, signature.report)),
    ]
    known = [status for status in found if status is not None]
    return checks, worst(known) if len(known) == len(found) else None


def _check_revocation(chain: Chain, collateral: Collateral, root_key: bytes, at: datetime.datetime) -> list[Check]:
    """Both CRLs are Intel's and current, and name neither the PCK certificate nor its issuer."""
    root_faults = verify_crl(collateral.root_crl, root_key, chain.root.subject, at=at)
    if any(certificate.serial in collateral.root_crl.revoked for certificate in chain.certificates[1:]):
        root_faults.append("it revokes a certificate authority of the quote's chain")
    crl_chain = collateral.pck_crl_chain
    pck_faults = list(verify_chain(crl_chain, root_key=root_key, at=at, leaf_is_ca=True))
    pck_faults += verify_crl(collateral.pck_crl, crl_chain.leaf.public_key, chain.leaf.issuer, at=at)
    if crl_chain.leaf.public_key != chain.certificates[1].public_key:
        pck_faults.append("it is issued by another authority than the PCK certificate")
    if chain.leaf.serial in collateral.pck_crl.revoked:
        pck_faults.append("it revokes the PCK certificate")
    return [
        _verdict("root CRL", root_faults, "signed by Intel's root, current, revokes nothing in the chain"),
        _verdict("PCK CRL", pck_faults, f"signed by '{crl_chain.leaf.subject}', current, does not revoke the PCK"),
    ]


def _judge(
    checks: list[Check], name: str, accepted: frozenset[str], compute: Callable[[], TcbStatus]
) -> TcbStatus | None:
    """Add the check of one status; ``None`` when the collateral cannot judge it."""
    try:
        status = compute()
    except ValueError as error:
        checks.append(Check(name=name, ok=False, detail=f"the collateral cannot judge it: {error}"))
        return None
    advisories = f"; advisories {', '.join(status.advisories)}" if status.advisories else ""
    date = f" (level of {status.date[:10]})" if status.date else ""
    checks.append(Check(name=name, ok=status.status in accepted, detail=f"{status.status}{date}{advisories}"))
    return status
