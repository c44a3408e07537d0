"""Several profiles at once: what their layers would lose is refused before a bake."""

from __future__ import annotations

import pytest
from tdx import Image, SecretTarget
from tdx.modules import SecretDelivery, Tdxs
from tdxc import driver
from tdxc.bake import baked_variant
from tdxc.diagnostics import Code, DiagnosticError


def image() -> Image:
    made = Image("x")
    delivery = SecretDelivery()
    token = delivery.secret("token", targets=[SecretTarget.file("/run/secrets/token")])
    delivery.apply(made)
    with made.profile("one"):
        made.service("one", exec="/bin/one", secrets=[token])
    with made.profile("quotes"):
        Tdxs(issuer="azure").apply(made)
    with made.profile("plain"):
        made.install("curl")
        made.service("plain", exec="/bin/plain")
    return made


@pytest.mark.parametrize("profiles", [(), ("one",), ("one", "plain"), ("quotes", "plain")])
def test_profiles_that_add_up_are_baked_together(profiles: tuple[str, ...]) -> None:
    variant = baked_variant(driver.compile_image(image().freeze()), profiles)
    assert variant.profiles == profiles


def test_profiles_that_change_one_file_are_refused_together() -> None:
    with pytest.raises(DiagnosticError) as caught:
        baked_variant(driver.compile_image(image().freeze()), ("one", "quotes"))
    (found,) = caught.value.diagnostics
    assert found.code is Code.E_EMIT
    assert "'one' and 'quotes' change '/etc/tdx-guest/config.json'" in found.message
