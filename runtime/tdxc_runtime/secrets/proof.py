"""The proof that a guest gives before it gets secrets: a TD quote over our nonce and the key of its TLS connection."""

from __future__ import annotations

import base64
import binascii
import datetime
import hashlib
import secrets

import attrs
from tdxc.diagnostics import Code, DiagnosticError, Note

from tdxc_runtime.measure.events import MRTD, RTMR1, Algorithm
from tdxc_runtime.measure.manifest import Manifest
from tdxc_runtime.measure.quotes import Collateral, Quote, parse_quote, verify_quote
from tdxc_runtime.measure.verify import Evidence, Verification, verify
from tdxc_runtime.secrets.client import GuestConnection

_CONTEXT = b"tdx-guest secrets v1\n"
_PROVIDER = "tdx_guest"


@attrs.frozen(kw_only=True)
class QuoteAnswer:
    """A quote that holds, with what was checked of it."""

    quote: Quote
    verification: Verification


def expected_report_data(nonce: bytes, spki_sha256: bytes) -> bytes:
    """The 64 bytes that the guest must have put into its quote."""
    return hashlib.sha512(_CONTEXT + nonce + spki_sha256).digest()


def prove(
    guest: GuestConnection,
    *,
    manifest: Manifest | None = None,
    collateral: Collateral | None = None,
    any_firmware: bool = False,
) -> QuoteAnswer | None:
    """Ask the guest for a quote and verify it; None when it has nothing that makes quotes.

    Raises E_VERIFY with what does not hold, also for a manifest that does not tell the image from others, and E_QUOTE
    for something that is no quote. With ``any_firmware`` the manifest may leave MRTD open.
    """
    if manifest is not None:
        _check_tells_images_apart(manifest, any_firmware=any_firmware)
    nonce = secrets.token_bytes(32)
    answer = guest.quote(nonce)
    if answer.has_no_quote:
        return None
    if not answer.is_good:
        raise answer.refusal("a quote")
    provider = str(answer.data.get("provider", ""))
    if provider != _PROVIDER:
        raise _unknown_provider(provider)
    quote = parse_quote(_decoded(answer.data.get("quote")), name="the guest's quote")
    if quote.body.report_data != expected_report_data(nonce, guest.spki_sha256):
        raise DiagnosticError.of(
            Code.E_VERIFY,
            "the quote was not made for this connection: its report data is not of our nonce and the guest's key",
            fix="somebody may stand between, or the quote is an old one; nothing was sent",
        )
    now = datetime.datetime.now(datetime.UTC)
    result = verify_quote(quote, name="the guest's quote", at=now, collateral=collateral)
    verification = verify(Evidence(quote=quote, quote_result=result, manifest=manifest))
    if not verification.ok:
        bad = tuple(Note(message=f"{check.name}: {check.detail}") for check in verification.checks if not check.ok)
        raise DiagnosticError.of(
            Code.E_VERIFY, "the guest is not what it should be: nothing was sent", notes=bad,
            fix="compare the manifest with the image that runs there: `tdxc verify --quote` says more",
        )  # fmt: skip
    return QuoteAnswer(quote=quote, verification=verification)


def _check_tells_images_apart(manifest: Manifest, *, any_firmware: bool) -> None:
    """That the image and who vouches for it are known.

    RTMR1 holds the hash of what the firmware starts, the image (docs/measurement.md). The firmware writes it there, so
    one of the host's own would write whatever is expected; which one runs is in MRTD.
    """
    needed = (
        (RTMR1, "which holds the image's hash", "measure the baked image for the platform that it runs on"),
        (MRTD, "which holds the hash of the firmware, and other firmware can pretend any image", _FIX_FIRMWARE),
    )
    for register, why, fix in needed[:1] if any_firmware else needed:
        state, reason = manifest.state(register)
        if not manifest.expected(register, Algorithm.SHA384):
            raise DiagnosticError.of(
                Code.E_VERIFY,
                f"the manifest does not say what {register} must be, {why} ({reason or state}): nothing was sent",
                fix=f"{fix}: `tdxc measure --format json`",
            )


_FIX_FIRMWARE = "say --any-firmware to send nevertheless; else measure with --firmware, or for Google --endorsement"


def _unknown_provider(provider: str) -> DiagnosticError:
    if provider == "fake":
        message = "the guest makes its quotes up: it is an image for tests"
        return DiagnosticError.of(Code.E_VERIFY, message, fix="send secrets to an image with Tdxs(issuer='tdx')")
    if provider == "azure_vtpm":
        message = (
            "on Azure the quote speaks of the paravisor; the image is in the PCRs, which this server does not quote"
        )
        return DiagnosticError.of(
            Code.E_UNSUPPORTED, message, fix="verify the machine with a TPM quote, and send with --without-quote"
        )
    return DiagnosticError.of(Code.E_VERIFY, f"quotes of the kind {provider[:40]!r} are not known")


def _decoded(value: object) -> bytes:
    try:
        return base64.b64decode(str(value), validate=True)
    except (binascii.Error, ValueError) as fault:
        raise DiagnosticError.of(Code.E_QUOTE, "the guest's quote is not base64") from fault
