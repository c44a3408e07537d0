"""Turn a manifest into the input of a verifier: one manifest, six formats.

A policy is only written where it means something: MRTD, RTMR1 and RTMR2 must be determined, and on Azure, where the
RTMRs describe the paravisor, only formats that can hold PCRs are.
"""

from __future__ import annotations

import enum

from tdxc_runtime.measure.manifest import Manifest


class PolicyFormat(enum.StrEnum):
    """What ``tdxc measure --emit`` can write."""

    JSON = "json"
    MAA = "maa"
    TRUSTEE = "trustee"
    GO_TDX_GUEST = "go-tdx-guest"
    DSTACK = "dstack"
    CORIM = "corim"


def emit_policy(manifest: Manifest, policy_format: PolicyFormat, *, name: str) -> bytes:
    """The policy's bytes: UTF-8 text, except CoRIM, which is CBOR. ``name`` identifies the image where a format asks.

    E_MEASUREMENT when the manifest does not determine enough, or the platform's registers do not fit the format.
    """
    from tdxc_runtime.measure.policies.corim import emit_corim
    from tdxc_runtime.measure.policies.objects import emit_dstack, emit_json, emit_trustee
    from tdxc_runtime.measure.policies.texts import emit_go_tdx_guest, emit_maa

    match policy_format:
        case PolicyFormat.JSON:
            return emit_json(manifest).encode()
        case PolicyFormat.MAA:
            return emit_maa(manifest).encode()
        case PolicyFormat.TRUSTEE:
            return emit_trustee(manifest).encode()
        case PolicyFormat.GO_TDX_GUEST:
            return emit_go_tdx_guest(manifest).encode()
        case PolicyFormat.DSTACK:
            return emit_dstack(manifest).encode()
        case PolicyFormat.CORIM:
            return emit_corim(manifest, name=name)
