"""The policy for go-tdx-guest, read by go-tdx-guest itself, over a real quote."""

import subprocess
from pathlib import Path

import attrs
import pytest
from support.event_logs import VECTORS, needs_vectors
from tdxc_runtime.measure.events import RTMR3
from tdxc_runtime.measure.manifest import Endorsement, Manifest
from tdxc_runtime.measure.policies.texts import emit_go_tdx_guest
from tdxc_runtime.measure.quotes import parse_quote

pytestmark = [pytest.mark.integration, needs_vectors]

QUOTE = VECTORS / "go-tdx-guest/tdx_prod_quote_SPR_E4.dat"
CHECK = ("go", "run", "github.com/google/go-tdx-guest/tools/check@v0.3.1")


def check(policy: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run the verifier without fetching collateral."""
    offline = policy.replace("check_crl: true", "check_crl: false").replace(
        "get_collateral: true", "get_collateral: false"
    )
    assert offline != policy
    config = folder / "policy.textproto"
    config.write_text(offline)
    return subprocess.run((*CHECK, "-in", QUOTE, "-config", config), cwd=folder, capture_output=True, text=True)


def test_it_accepts_the_predicted_registers_and_refuses_others(tmp_path: Path) -> None:
    body = parse_quote(QUOTE.read_bytes(), name="quote").body
    endorsements = tuple(
        Endorsement(register=register, values=(value,), by="the quote")
        for register, value in body.registers.items()
        if register != RTMR3
    )
    good = emit_go_tdx_guest(Manifest(endorsements=endorsements), td_attributes=body.td_attributes)
    assert check(good, tmp_path).returncode == 0
    for position in range(len(endorsements)):
        changed = list(endorsements)
        changed[position] = attrs.evolve(changed[position], values=(b"\x01" * 48,))
        bad = emit_go_tdx_guest(Manifest(endorsements=tuple(changed)), td_attributes=body.td_attributes)
        result = check(bad, tmp_path)
        assert result.returncode != 0
        assert "Expect 0101" in result.stdout + result.stderr
    debug = emit_go_tdx_guest(Manifest(endorsements=endorsements), td_attributes=body.td_attributes | 1)
    assert "TD_ATTRIBUTES" in check(debug, tmp_path).stderr
