"""What Kernel.tdx and efi_stub read from the recipe's folder, in both forms of a recipe."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import pytest
from support.declared import faults_of, new_image
from tdx import Kernel, tarball
from tdx._load import load_recipe
from tdxc.diagnostics import Code

DIGEST = hashlib.sha256(b"linux").hexdigest()

RECIPE = f"""\
name: node
base: debian/trixie
kernel:
  version: "6.13.12"
  source: {{tarball: "https://example.org/linux.tar.xz", sha256: {DIGEST}}}
  config_file: my.config
  fragments: [more.config]
  patches: [b.patch, a.patch]
  config: {{TLS: true}}
efi_stub:
  version: 257.8-1
  src: stub.deb
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name in ("my.config", "more.config"):
        (tmp_path / name).write_text("CONFIG_64BIT=y\n")
    for name in ("a.patch", "b.patch", "stub.deb"):
        (tmp_path / name).write_text(name)
    return tmp_path


def test_both_forms_read_the_same(folder: Path) -> None:
    image = new_image(folder)
    image.kernel = Kernel.tdx(
        version="6.13.12",
        source=tarball("https://example.org/linux.tar.xz", sha256=DIGEST),
        config_file="my.config",
        fragments=["more.config"],
        patches=["b.patch", "a.patch"],
        config={"TLS": True},
    )
    image.efi_stub("257.8-1", src="stub.deb")
    frozen = image.freeze()
    (folder / "recipe.yaml").write_text(RECIPE)
    assert load_recipe(folder / "recipe.yaml").image.layer == frozen.layer
    kernel, stub = frozen.layer.kernel, frozen.layer.efi_stub
    assert kernel is not None
    assert [patch.path for patch in kernel.patches] == ["b.patch", "a.patch"]
    assert kernel.config_name == "my.config"
    assert stub is not None
    assert stub.package is not None
    assert stub.sha256 == hashlib.sha256(b"stub.deb").hexdigest()


def test_a_package_of_another_digest_is_refused_with_both(folder: Path) -> None:
    image = new_image(folder)
    image.efi_stub("257.8-1", src="stub.deb", sha256=DIGEST)
    ((code, message),) = faults_of(image)
    assert code is Code.E_VALUE
    assert DIGEST in message
    assert hashlib.sha256(b"stub.deb").hexdigest() in message


@pytest.mark.parametrize("argument", ["config_file", "fragments", "patches"])
def test_a_missing_file_is_refused(folder: Path, argument: str) -> None:
    image = new_image(folder)
    given: Any = "none" if argument == "config_file" else ["none"]
    image.kernel = Kernel.tdx(**{argument: given})
    assert [code for code, _ in faults_of(image)] == [Code.E_PATH]
