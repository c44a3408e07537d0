"""Policies as JSON: plain reference values, Trustee's reference value provider, dstack.

Sources: ``reference-values.schema.json`` beside this module; Trustee ``rvps/src/lib.rs`` (``Message``) and
``rvps/src/extractors/sample``, with the names that ``ear_default_policy_cpu.rego`` asks for; dstack
``dstack-mr/src/lib.rs`` (``TdxMeasurements``).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Mapping

from tdxc.diagnostics import Code, DiagnosticError

from tdxc_runtime.measure.events import MRTD, RTMR0, RTMR1, RTMR2, Algorithm, Register
from tdxc_runtime.measure.manifest import Manifest
from tdxc_runtime.measure.policies.accepted import (
    TD_REGISTERS,
    AcceptedSet,
    is_about_pcrs,
    omitted,
    pcr_sets,
    td_sets,
    values_of,
)

SCHEMA_VERSION = 1


def emit_json(manifest: Manifest) -> str:
    """Reference values for verifiers without a format of their own: accepted sets, and what is left out and why."""
    about_pcrs = is_about_pcrs(manifest)
    banks = (Algorithm.SHA256, Algorithm.SHA384)
    return _text(
        {
            "schema_version": SCHEMA_VERSION,
            "platform": manifest.platform.value,
            "td": [] if about_pcrs else [_set(accepted, "registers") for accepted in td_sets(manifest)],
            "pcrs": {a.value: [_set(s, "registers") for s in pcr_sets(manifest, a)] for a in banks}
            if about_pcrs
            else {},
            "omitted": {} if about_pcrs else {register.name: reason for register, reason in omitted(manifest)},
        }
    )


def emit_trustee(manifest: Manifest) -> str:
    """A message for ``rvps-tool register``: the values of each register on its own, as Trustee's policies query them.

    A TD's are ``mr_td`` and ``rtmr_N``, a vTPM's ``tdx_pcrNN`` in SHA-256. Trustee compares registers one by one, so
    where several sets are accepted it also accepts their mixtures.
    """
    if is_about_pcrs(manifest):
        sets = pcr_sets(manifest, Algorithm.SHA256)
        names = {f"tdx_pcr{register.index:02d}": register for register, _ in sets[0].values}
    else:
        sets = td_sets(manifest)
        names = {"mr_td" if r == MRTD else f"rtmr_{r.index}": r for r in TD_REGISTERS if r in sets[0]}
    values = {name: [value.hex() for value in values_of(sets, register)] for name, register in names.items()}
    payload = base64.b64encode(json.dumps(values, sort_keys=True).encode()).decode()
    return _text({"version": "0.1.0", "type": "sample", "payload": payload})


def emit_dstack(manifest: Manifest) -> str:
    """dstack's ``TdxMeasurements``: MRTD and RTMR0 to 2 of the likeliest set, the other sets under ``alternatives``.

    E_MEASUREMENT when RTMR0 is not known, which dstack always compares.
    """
    sets = td_sets(manifest)
    for register, reason in omitted(manifest):
        raise DiagnosticError.of(
            Code.E_MEASUREMENT,
            f"dstack compares {register}, and {reason}",
            fix="measure with the firmware and the machine (--firmware, --memory, --vcpus, --qemu)",
        )
    first, *others = ({r.name: accepted[r].hex() for r in (MRTD, RTMR0, RTMR1, RTMR2)} for accepted in sets)
    return _text({**first, "alternatives": others} if others else first)


def _set(accepted: AcceptedSet, key: str) -> Mapping[str, object]:
    return {key: _registers(accepted.values), "when": list(accepted.reasons)}


def _registers(values: Iterable[tuple[Register, bytes]]) -> dict[str, str]:
    return {register.name: value.hex() for register, value in values}


def _text(value: object) -> str:
    return json.dumps(value, indent=2) + "\n"
