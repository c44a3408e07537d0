"""What a recipe says of the registers that a key is sealed to."""

from __future__ import annotations

import pytest
from tdx.modules import KeyGeneration
from tdxc.diagnostics import DiagnosticError


def test_registers_are_sorted_and_named_once() -> None:
    assert KeyGeneration(pcrs=[11, 4, 11, 0]).node.pcrs == (0, 4, 11)


def test_without_registers_the_platform_decides() -> None:
    assert KeyGeneration().node.pcrs == ()


@pytest.mark.parametrize("pcr", [-1, 24])
def test_a_tpm_has_24_registers(pcr: int) -> None:
    with pytest.raises(DiagnosticError, match=f"{pcr} is not between 0 and 23"):
        KeyGeneration(pcrs=[pcr])
