"""A pinned EFI stub, with the real package of another release: from the mirror, and from a file of the recipe."""

from __future__ import annotations

import hashlib
from pathlib import Path

import attrs
import pytest
from support.resolved_images import SPAN, resolved_image
from tdxc.diagnostics import DiagnosticError
from tdxc.ir import Blob, CompiledImage, EfiStub, ResolvedImage, Suite
from tdxc.writer import write_tree
from tdxc_emitters import emit_image
from tdxc_runtime.backends import bake
from tdxc_runtime.measure.stub.versions import parse_stub_version

pytestmark = pytest.mark.integration

STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
BARE = "[Output]\nFormat=directory\nManifestFormat=\n[Content]\nBootable=no\n"
DOWNLOAD = """\
#!/bin/bash
set -euo pipefail
[[ $1 == final ]] || exit 0
mkdir "$BUILDROOT/pinned"
cd "$BUILDROOT/pinned"
apt-get download systemd-boot-efi/bookworm
"""


def image(stub: EfiStub | None) -> ResolvedImage:
    suite = Suite(span=SPAN, name="bookworm")
    plain = resolved_image(suites=(suite,), efi_stub=stub)
    return attrs.evolve(plain, packages=(), kernel=attrs.evolve(plain.kernel, options=()))


def baked(stub: EfiStub | None, folder: Path, extra: str = "") -> Path:
    """The root file system of an image of nothing but what every Debian has, and the stub."""
    write_tree(emit_image(CompiledImage(span=SPAN, image=image(stub))), folder / "tree")
    (folder / "tree/mkosi.local.conf").write_text(BARE + extra, encoding="utf-8")
    (folder / "tree/download.sh").write_text(DOWNLOAD, encoding="utf-8")
    (folder / "tree/download.sh").chmod(0o755)
    bake(folder / "tree", folder / "out", log=folder / "log")
    return folder / "out/node"


def version_of(root: Path) -> str:
    data = (root / STUB).read_bytes()
    start = data.index(b"#### LoaderInfo: systemd-stub")
    return parse_stub_version(data[start : start + 100]) or ""


def test_the_package_of_another_release_is_checked_and_used(tmp_path: Path) -> None:
    root = baked(None, tmp_path / "own", "PrepareScripts=download.sh\n")
    (deb,) = (root / "pinned").glob("*.deb")
    version, package = deb.name.split("_")[1], Blob.of(deb.read_bytes())
    assert version.startswith("252.")
    assert version_of(root).startswith("257")

    pinned = EfiStub(span=SPAN, version=version, sha256=package.sha256)
    from_mirror = baked(pinned, tmp_path / "mirror")
    assert version_of(from_mirror).startswith("252")

    from_file = baked(attrs.evolve(pinned, package=package), tmp_path / "file")
    assert (from_file / STUB).read_bytes() == (from_mirror / STUB).read_bytes()

    with pytest.raises(DiagnosticError):
        baked(attrs.evolve(pinned, sha256=hashlib.sha256(b"another").hexdigest()), tmp_path / "wrong")
    log = (tmp_path / "wrong/log").read_text(encoding="utf-8")
    assert f"has SHA-256 {package.sha256}, and the recipe pins {hashlib.sha256(b'another').hexdigest()}" in log
