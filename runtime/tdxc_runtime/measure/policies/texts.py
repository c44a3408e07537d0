"""Policies as text: Microsoft Azure Attestation's policy language and go-tdx-guest's text protobuf.

Sources: Azure Attestation documentation, "Claim and claim rules" (the grammar) and "EAT profile for TDX" (claim names);
go-tdx-guest ``proto/checkconfig.proto`` at v0.3.1; protobuf "Text Format Language Specification".
"""

from __future__ import annotations

from collections.abc import Iterator

from tdxc_runtime.measure.events import MRTD, RTMR0, RTMR1, RTMR2
from tdxc_runtime.measure.manifest import Manifest
from tdxc_runtime.measure.policies.accepted import AcceptedSet, omitted, td_sets

# What QEMU and Google set for a Linux TD (bit 28); DEBUG, bit 0, is off. Hosts whose CPUs show PKS or PERFMON to the TD
# set bits 30 and 63 as well.
TD_ATTRIBUTES = 1 << 28
_INTEL_QE_VENDOR = bytes.fromhex("939a7233f79c4ca9940a0db3957f0607")


def emit_maa(manifest: Manifest) -> str:
    """A policy for attestation type TDX: one rule per accepted set permits, anything else is refused."""
    sets = td_sets(manifest)
    lines = ["version= 1.0;", "authorizationrules", "{"]
    lines += [f"    // {register} is left out, {reason}" for register, reason in omitted(manifest)]
    for accepted in sets:
        lines += [f"    // {reason}" for reason in accepted.reasons]
        conditions = [
            '[ type=="x-ms-attestation-type", value=="tdxvm" ]',
            '[ type=="tdx_td_attributes_debug", value==false ]',
        ]
        conditions += [f'[ type=="tdx_{r.name}", value=="{value.hex()}" ]' for r, value in accepted.values]
        lines += ["    " + "\n        && ".join(conditions), "        => permit();"]
    return "\n".join([*lines, "};", "issuancerules", "{", "};", ""])


def emit_go_tdx_guest(manifest: Manifest, *, td_attributes: int = TD_ATTRIBUTES) -> str:
    """A ``checkconfig.Config`` for the likeliest set; the comments name the others, for the format holds one.

    ``td_attributes`` is compared as a whole, because v0.3.1 has no other way to refuse a TD in debug mode.
    """
    sets = td_sets(manifest)
    first = sets[0]
    lines = ["# For `check -config FILE.textproto` of go-tdx-guest v0.3.1 and later.", *_others(sets)]
    lines += [f"# {register} is left out, {reason}" for register, reason in omitted(manifest)]
    lines += [
        "policy {",
        "  header_policy {",
        f"    qe_vendor_id: {_bytes(_INTEL_QE_VENDOR)}",
        "  }",
        "  td_quote_body_policy {",
        "    # The whole field is compared: SEPT_VE_DISABLE, no DEBUG. Adapt it to hosts that set PKS or PERFMON.",
        f"    td_attributes: {_bytes(td_attributes.to_bytes(8, 'little'))}",
        f"    mr_td: {_bytes(first[MRTD])}",
    ]
    known = dict(first.values)
    lines += [f"    rtmrs: {_bytes(known.get(r, b''))}  # {r}" for r in (RTMR0, RTMR1, RTMR2)]
    lines += ['    rtmrs: ""  # RTMR3 is the running system\'s own', "  }", "}"]
    lines += ["root_of_trust {", "  check_crl: true", "  get_collateral: true", "}", ""]
    return "\n".join(lines)


def _others(sets: tuple[AcceptedSet, ...]) -> Iterator[str]:
    """Comments about the sets that the one policy does not hold."""
    if len(sets) > 1:
        yield f"# This is the likeliest of {len(sets)} accepted sets ({'; '.join(sets[0].reasons)}). The others:"
    for accepted in sets[1:]:
        changed = [pair for pair in accepted.values if pair not in sets[0].values]
        yield f"# - {'; '.join(accepted.reasons)}:"
        yield from (f"#   {register.name} {value.hex()}" for register, value in changed)


def _bytes(value: bytes) -> str:
    """A text protobuf string with every byte escaped."""
    return '"' + "".join(f"\\x{byte:02x}" for byte in value) + '"'
