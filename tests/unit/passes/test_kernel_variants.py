"""Profiles whose kernel differs from the image's: a build of their own, laid over the image's."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.authored import at, authored
from tdxc import driver
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import AuthoredImage, Kernel, Layer, OutputTarget, Package
from tdxc_emitters import emit_image
from tdxc_emitters.mkosi.builds import declaration


def image(**profiles: Layer) -> AuthoredImage:
    return authored(kernel=Kernel(span=at(5), version="6.12"), profiles=profiles)


def target(name: str) -> Layer:
    return Layer(span=at(9), output_targets=(OutputTarget(span=at(9), name=name),))


def names(recipe: AuthoredImage) -> list[list[str]]:
    compiled, _ = driver.analyse(recipe)
    return [[build.name for build in variant.builds] for variant in (compiled.image, *compiled.variants)]


def test_only_a_profile_that_needs_other_options_has_a_kernel_of_its_own() -> None:
    plain = Layer(span=at(9), packages=(Package(span=at(9), name="vim-tiny"),))
    assert names(image(azure=target("azure"), tools=plain)) == [["kernel"], ["kernel", "kernel-azure"], ["kernel"]]


def test_a_changed_option_is_told_by_its_name() -> None:
    compiled, _ = driver.analyse(image(azure=target("azure")))
    found: Any = declaration(compiled, emit_image(compiled))
    plain, own = (found["builds"][name]["inputs"] for name in ("kernel", "kernel-azure"))
    assert plain["version"] == own["version"] == "6.12"
    assert (plain["CONFIG_ETHERNET"], own["CONFIG_ETHERNET"]) == ("n", "y")
    assert "CONFIG_HYPERV" in own.keys() - plain.keys()


def test_a_kernel_of_another_version_cannot_be_laid_over() -> None:
    other = Layer(span=at(9), kernel=Kernel(span=at(9), package="linux-source-7.3/trixie-backports"))
    compiled, _ = driver.analyse(image(new=other))
    with pytest.raises(DiagnosticError) as caught:
        emit_image(compiled)
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code is Code.E_EMIT
    assert diagnostic.fix == "compile this variant alone: --profile new"


def test_two_such_profiles_are_not_combined_without_a_word(tmp_path: Path) -> None:
    compiled, _ = driver.analyse(image(azure=target("azure"), gcp=target("gcp")))
    script = emit_image(compiled).text("mkosi.profiles/gcp/scripts/10-finalize-one-kernel.sh")
    for name in ("azure", "gcp"):
        (tmp_path / f"mkosi.images/build-kernel-{name}").mkdir(parents=True)
    for profiles, status in (("", 0), ("gcp tools", 0), ("azure gcp", 1)):
        environment = {"SRCDIR": str(tmp_path), "PROFILES": profiles, "PATH": "/usr/bin:/bin"}
        finished = subprocess.run(["bash", "-c", script], env=environment, capture_output=True, text=True, check=False)
        assert finished.returncode == status, finished.stderr
    assert "compile them together, --profile azure,gcp" in finished.stderr
