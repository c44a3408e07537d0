"""What a key may be sealed to."""

from __future__ import annotations

import pytest
from tdx.modules import KeyGeneration
from tdx.modules.key_generation import DEFAULT_PCRS, FIRMWARE_PCRS
from tdxc.diagnostics import DiagnosticError


def test_the_default_has_a_register_that_firmware_extends() -> None:
    assert set(DEFAULT_PCRS) & set(FIRMWARE_PCRS)


@pytest.mark.parametrize("pcrs", [[11], [9, 11, 12, 13], [8], [23]])
def test_registers_that_any_system_can_extend_are_refused(pcrs: list[int]) -> None:
    with pytest.raises(DiagnosticError) as refused:
        KeyGeneration(pcrs=pcrs)
    (diagnostic,) = refused.value.diagnostics
    assert f"PCR {', '.join(map(str, pcrs))} by itself" in diagnostic.message
    assert "add one that firmware extends" in (diagnostic.fix or "")


@pytest.mark.parametrize("pcrs", [[4], [7, 11], [0, 23]])
def test_one_of_firmware_is_enough(pcrs: list[int]) -> None:
    assert KeyGeneration(pcrs=pcrs).node.pcrs == tuple(pcrs)
