"""Reference values as an unsigned CoRIM (CBOR): one reference triple for each accepted set.

In a TD, MRTD is the measurement's digest and the RTMRs are integrity registers 0 to 2; of a vTPM the PCRs are integrity
registers by their index. Whoever publishes the file signs it (COSE_Sign1); nothing here holds a key.

Source: draft-ietf-rats-corim, sections 4 (CoRIM map), 5.1 (CoMID, measurement values, ``integrity-registers``); digest
algorithms by the IANA Named Information Hash Algorithm Registry (1 is SHA-256, 7 is SHA-384).
"""

from __future__ import annotations

from collections.abc import Sequence

from tdxc_runtime.measure.events import MRTD, Algorithm
from tdxc_runtime.measure.manifest import Manifest
from tdxc_runtime.measure.policies.accepted import AcceptedSet, is_about_pcrs, pcr_sets, td_sets
from tdxc_runtime.measure.policies.cbor import Tag, Value, encode

_UNSIGNED_CORIM, _COMID = 501, 506
_NI_ALGORITHMS = {Algorithm.SHA256: 1, Algorithm.SHA384: 7}


def emit_corim(manifest: Manifest, *, name: str) -> bytes:
    """The CoRIM; ``name`` identifies the image in the manifest's and the tag's id."""
    if is_about_pcrs(manifest):
        triples = [
            _triple("vTPM", {14: {r.index: [_digest(a, value)] for r, value in accepted.values}})
            for a in (Algorithm.SHA256, Algorithm.SHA384)
            for accepted in pcr_sets(manifest, a)
        ]
    else:
        triples = [_triple("TDX", _td_values(accepted)) for accepted in td_sets(manifest)]
    identity = f"{name}-{manifest.platform.value}"
    comid: dict[int, Value] = {1: {0: identity}, 4: {0: triples}}
    return encode(Tag(_UNSIGNED_CORIM, {0: identity, 1: [Tag(_COMID, encode(comid))]}))


def _td_values(accepted: AcceptedSet) -> dict[int, Value]:
    registers: dict[int, Value] = {
        register.index: [_digest(Algorithm.SHA384, value)] for register, value in accepted.values if register != MRTD
    }
    return {2: [_digest(Algorithm.SHA384, accepted[MRTD])], 14: registers}


def _digest(algorithm: Algorithm, value: bytes) -> Sequence[Value]:
    return [_NI_ALGORITHMS[algorithm], value]


def _triple(model: str, values: dict[int, Value]) -> Sequence[Value]:
    """``[environment, [measurement]]``; the environment is the class of the device that holds the registers."""
    vendor = "Intel Corporation" if model == "TDX" else "Microsoft"
    return [{0: {1: vendor, 2: model}}, [{1: values}]]
