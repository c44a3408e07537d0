"""The scripts of the prepare phase, run by bash with stand-ins for the tools that need a network."""

from __future__ import annotations

import hashlib
import io
import os
import subprocess
import tarfile
from pathlib import Path

import attrs
import pytest
from support.resolved_images import SPAN, resolved_image
from tdxc.ir import Blob, CompiledImage, EfiStub, Package, ResolvedImage
from tdxc.writer import write_tree
from tdxc_emitters import emit_image
from tdxc_emitters.mkosi import alpine

STUB = "usr/lib/systemd/boot/efi/linuxx64.efi.stub"
CONTROL = (
    "Package: systemd-boot-efi\nVersion: 257.8-1\nArchitecture: all\nMaintainer: a <a@b.example>\nDescription: x\n"
)


def run(image: ResolvedImage, script: str, tmp_path: Path, stage: str = "final") -> subprocess.CompletedProcess[str]:
    """Run a prepare script with ``tmp_path/bin`` first on PATH and ``tmp_path/root`` as the image."""
    (tmp_path / "root").mkdir(exist_ok=True)
    text = emit_image(CompiledImage(span=SPAN, image=image)).text(f"scripts/{script}")
    env = {
        "BUILDROOT": str(tmp_path / "root"),
        "PATH": f"{tmp_path}/bin:{os.environ['PATH']}",
        "SRCDIR": str(tmp_path / "tree"),
    }
    return subprocess.run(["bash", "-c", text, script, stage], env=env, capture_output=True, text=True, check=False)


def program(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / "bin").mkdir(exist_ok=True)
    (tmp_path / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
    (tmp_path / "bin" / name).chmod(0o755)


class TestStub:
    """scripts/10-prepare-efi-stub.sh."""

    @pytest.fixture
    def deb(self, tmp_path: Path) -> Path:
        folder = tmp_path / "package"
        (folder / "DEBIAN").mkdir(parents=True)
        (folder / "DEBIAN/control").write_text(CONTROL)
        (folder / STUB).parent.mkdir(parents=True)
        (folder / STUB).write_bytes(b"MZ stub")
        deb = tmp_path / "systemd-boot-efi_257.8-1_all.deb"
        subprocess.run(["dpkg-deb", "--build", str(folder), str(deb)], check=True, capture_output=True)
        program(tmp_path, "apt-get", f'[[ $* == "download systemd-boot-efi=257.8-1" ]] && cp "{deb}" .')
        return deb

    def image(self, version: str, sha256: str) -> ResolvedImage:
        return resolved_image(efi_stub=EfiStub(span=SPAN, version=version, sha256=sha256))

    def test_right_digest_puts_the_stub_into_the_image(self, deb: Path, tmp_path: Path) -> None:
        sha256 = hashlib.sha256(deb.read_bytes()).hexdigest()
        completed = run(self.image("257.8-1", sha256), "10-prepare-efi-stub.sh", tmp_path)
        assert completed.returncode == 0, completed.stderr
        assert (tmp_path / "root" / STUB).read_bytes() == b"MZ stub"

    def test_another_digest_is_an_error_that_names_both(self, deb: Path, tmp_path: Path) -> None:
        completed = run(self.image("257.8-1", "0" * 64), "10-prepare-efi-stub.sh", tmp_path)
        assert completed.returncode == 1
        assert hashlib.sha256(deb.read_bytes()).hexdigest() in completed.stderr
        assert "the recipe pins " + "0" * 64 in completed.stderr
        assert not (tmp_path / "root" / STUB).exists()

    def test_a_version_that_no_source_has_is_an_error_that_names_it(self, deb: Path, tmp_path: Path) -> None:
        completed = run(self.image("256.1-1", ""), "10-prepare-efi-stub.sh", tmp_path)
        assert completed.returncode == 1
        assert "has systemd-boot-efi 256.1-1" in completed.stderr
        assert not (tmp_path / "root" / STUB).exists()

    def test_the_recipes_own_package_is_used_without_apt(self, deb: Path, tmp_path: Path) -> None:
        (tmp_path / "bin/apt-get").write_text("#!/bin/false\n")
        package = Blob.of(deb.read_bytes())
        stub = EfiStub(span=SPAN, version="257.8-1", sha256=package.sha256, package=package)
        write_tree(emit_image(CompiledImage(span=SPAN, image=resolved_image(efi_stub=stub))), tmp_path / "tree")
        completed = run(resolved_image(efi_stub=stub), "10-prepare-efi-stub.sh", tmp_path)
        assert completed.returncode == 0, completed.stderr
        assert (tmp_path / "root" / STUB).read_bytes() == b"MZ stub"

    def test_the_recipes_own_package_must_be_of_that_version(self, deb: Path, tmp_path: Path) -> None:
        (tmp_path / "tree/efi-stub").mkdir(parents=True)
        (tmp_path / "tree/efi-stub/systemd-boot-efi.deb").write_bytes(deb.read_bytes())
        stub = EfiStub(span=SPAN, version="257.9-1", package=Blob.of(deb.read_bytes()))
        completed = run(resolved_image(efi_stub=stub), "10-prepare-efi-stub.sh", tmp_path)
        assert completed.returncode == 1
        assert (
            "the package is systemd-boot-efi 257.8-1, and the recipe pins systemd-boot-efi 257.9-1" in completed.stderr
        )

    def test_build_overlay_is_left_alone(self, deb: Path, tmp_path: Path) -> None:
        assert run(self.image("1", ""), "10-prepare-efi-stub.sh", tmp_path, "build").returncode == 0


class TestAlpine:
    """scripts/10-prepare-alpine.sh."""

    @pytest.fixture
    def image(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ResolvedImage:
        """An image whose mirror is a folder with a small minirootfs; apk notes what it is asked for."""
        folder = tmp_path / "a mirror/v3.20/releases/x86_64"
        folder.mkdir(parents=True)
        archive = folder / "alpine-minirootfs-3.20.3-x86_64.tar.gz"
        with tarfile.open(archive, "w:gz") as tar:
            for name in (
                "./sbin/apk",
                "./etc/apk/world",
                "./lib/modules/6.6.1-0-virt/modules.dep",
                "./boot/vmlinuz-virt",
            ):
                info = tarfile.TarInfo(name)
                info.size, info.mode = len(name), 0o755
                tar.addfile(info, io.BytesIO(name.encode()))
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        monkeypatch.setitem(alpine.MINIROOTFS, "3.20", alpine.Minirootfs(version="3.20.3", sha256=digest))
        program(tmp_path, "mkosi-chroot", f'printf "%s\\n" "$*" >> "{tmp_path}/asked"')
        packages = (Package(span=SPAN, name="busybox"), Package(span=SPAN, name="linux-virt"))
        mirror = (tmp_path / "a mirror").as_uri()
        return resolved_image("alpine/3.20", mirror=mirror, packages=packages)

    def test_archive_is_unpacked_and_apk_does_the_rest(self, image: ResolvedImage, tmp_path: Path) -> None:
        completed = run(image, "10-prepare-alpine.sh", tmp_path)
        assert completed.returncode == 0, completed.stderr
        root = tmp_path / "root"
        asked = (tmp_path / "asked").read_text()
        assert asked == "apk add --no-cache --no-progress busybox linux-virt systemd-efistub\n"
        repositories = (root / "etc/apk/repositories").read_text().splitlines()
        assert repositories == [f"{image.mirror}/v3.20/main", f"{image.mirror}/v3.20/community"]
        assert (root / "lib/modules").readlink() == Path("../usr/lib/modules")
        assert (root / "usr/lib/modules/6.6.1-0-virt/vmlinuz").read_text() == "./boot/vmlinuz-virt"

    def test_other_archive_fails(self, image: ResolvedImage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        other = alpine.Minirootfs(version="3.20.3", sha256="0" * 64)
        monkeypatch.setitem(alpine.MINIROOTFS, "3.20", other)
        assert run(image, "10-prepare-alpine.sh", tmp_path).returncode != 0
        assert not (tmp_path / "root/sbin").exists()

    def test_build_packages_go_into_the_overlay(self, image: ResolvedImage, tmp_path: Path) -> None:
        image = attrs.evolve(image, build_packages=(Package(span=SPAN, name="build-base"),))
        assert run(image, "10-prepare-alpine.sh", tmp_path, "build").returncode == 0
        assert (tmp_path / "asked").read_text() == "apk add --no-cache --no-progress build-base\n"
