"""The scripts of the finalize phase, run by bash on a small root file system."""

from __future__ import annotations

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.resolved_images import SPAN, resolved_image
from tdxc.ir import (
    Blob,
    CompiledImage,
    DebloatKind,
    Directory,
    File,
    KeepDecision,
    RemoveDecision,
    ResolvedDebloat,
    ResolvedImage,
)
from tdxc.writer import write_tree
from tdxc_emitters import emit_image

Names = Mapping[DebloatKind, tuple[str, ...]]
UNIT, BINARY, PATH = DebloatKind.UNIT, DebloatKind.BINARY, DebloatKind.PATH


def debloat(keep: Names, remove: Names) -> ResolvedDebloat:
    return ResolvedDebloat(
        span=SPAN,
        enabled=True,
        keep=tuple(
            KeepDecision(span=SPAN, kind=kind, name=name, reason="test") for kind in keep for name in keep[kind]
        ),
        remove=tuple(
            RemoveDecision(span=SPAN, kind=kind, name=name, reason="test") for kind in remove for name in remove[kind]
        ),
    )


def write(root: Path, *paths: str) -> None:
    for path in paths:
        file = root / path.lstrip("/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(path)


def package(root: Path, name: str, *paths: str, depends: str = "") -> None:
    """Install a package: its files, dpkg's list of them, and its entry in the status file."""
    write(root, *paths)
    info = root / "var/lib/dpkg/info"
    info.mkdir(parents=True, exist_ok=True)
    folders = sorted({str(parent) for path in paths for parent in Path(path).parents} - {"/"})
    (info / f"{name}.list").write_text("".join(f"{path}\n" for path in ("/.", *folders, *paths)))
    line = f"Depends: {depends}\n" if depends else ""
    with (root / "var/lib/dpkg/status").open("a") as status:
        status.write(f"Package: {name.partition(':')[0]}\nStatus: install ok installed\n{line}\n")


def left(root: Path) -> set[str]:
    found = {"/" + str(path.relative_to(root)) for path in root.rglob("*") if not path.is_dir() or path.is_symlink()}
    return {path for path in found if not path.startswith("/var/lib/dpkg/")}


def run(
    root: Path,
    script: str,
    image: ResolvedImage,
    tmp_path: Path,
    *variants: ResolvedImage,
    path: str = "/usr/bin:/bin:/usr/sbin:/sbin",
) -> None:
    """Run one script of the image, with the variants as chosen profiles."""
    tree = tmp_path / "tree"
    write_tree(emit_image(CompiledImage(span=SPAN, image=image, variants=variants)), tree)
    env = {"BUILDROOT": str(root), "SRCDIR": str(tree), "PATH": path}
    profiles = " ".join(name for variant in variants for name in variant.profiles)
    if profiles:
        env["PROFILES"] = profiles
    subprocess.run(["bash", str(tree / "scripts" / script)], env=env, check=True)


@pytest.fixture
def root(tmp_path: Path) -> Path:
    folder = tmp_path / "root"
    folder.mkdir()
    return folder


class TestDebloat:
    """scripts/50-finalize-debloat.sh."""

    SCRIPT = "50-finalize-debloat.sh"

    def debloat(self, root: Path, tmp_path: Path, keep: Names, remove: Names, **changes: Any) -> set[str]:
        run(root, self.SCRIPT, resolved_image(debloat=debloat(keep, remove), **changes), tmp_path)
        return left(root)

    def test_units_stay_by_name_with_links_and_drop_ins(self, root: Path, tmp_path: Path) -> None:
        units = "/usr/lib/systemd/system"
        write(root, f"{units}/a.service", f"{units}/b.service", f"{units}/b.service.d/x.conf", f"{units}/m@.service")
        write(root, f"{units}/a.service.d/x.conf", "/etc/systemd/system/b.service.wants/a.service")
        for folder, name in (
            ("a.target.wants", "a.service"),
            ("a.target.wants", "b.service"),
            ("c.wants", "a.service"),
        ):
            link = root / units.lstrip("/") / folder / name
            link.parent.mkdir(exist_ok=True)
            link.symlink_to(f"../{name}")
        (root / f"{units[1:]}/a.target.wants/m@x.service").symlink_to("../m@.service")
        found = self.debloat(root, tmp_path, {UNIT: ("a.service", "a.target", "m@.service")}, {UNIT: ("*",)})
        assert {path.removeprefix(units) for path in found} == {
            "/a.service",
            "/a.service.d/x.conf",
            "/a.target.wants/a.service",
            "/a.target.wants/m@x.service",
            "/m@.service",
        }
        assert not (root / "etc/systemd/system/b.service.wants").exists()

    def test_programs_of_a_package_go_and_its_data_stays(self, root: Path, tmp_path: Path) -> None:
        package(root, "systemd", "/usr/bin/systemctl", "/usr/bin/busctl", "/usr/lib/systemd/systemd-x", "/usr/share/d")
        package(root, "systemd-extra", "/usr/bin/extra", "/usr/lib/systemd/libsystemd-shared.so")
        package(root, "other", "/usr/bin/other")
        keep, remove = {BINARY: ("systemctl",)}, {BINARY: ("programs-of:systemd", "programs-of:systemd-*")}
        assert self.debloat(root, tmp_path, keep, remove) == {
            "/usr/bin/systemctl",
            "/usr/share/d",
            "/usr/lib/systemd/libsystemd-shared.so",
            "/usr/bin/other",
        }

    def test_package_that_the_recipe_wants_stays_but_for_its_documentation(self, root: Path, tmp_path: Path) -> None:
        unit = "/usr/lib/systemd/system/apt.timer"
        package(root, "apt:amd64", "/usr/bin/apt", "/usr/lib/apt/method", "/usr/share/doc/apt/x", unit)
        package(root, "dpkg", "/usr/bin/dpkg")
        write(root, "/usr/share/doc/other/y", "/usr/lib/systemd/system/other.timer")
        keep = {BINARY: ("package:apt",), UNIT: ("package:apt",)}
        remove = {BINARY: ("package:apt", "package:dpkg"), PATH: ("/usr/share/doc",), UNIT: ("*",)}
        assert self.debloat(root, tmp_path, keep, remove) == {
            "/usr/bin/apt",
            "/usr/lib/apt/method",
            "/usr/lib/systemd/system/apt.timer",
        }

    def test_links_of_the_merged_usr_stay(self, root: Path, tmp_path: Path) -> None:
        write(root, "/usr/lib/modules/x", "/usr/lib/systemd/system/apt.timer", "/usr/bin/apt")
        for name in ("lib", "bin"):
            (root / name).symlink_to(f"usr/{name}")
        info = root / "var/lib/dpkg/info"
        info.mkdir(parents=True)
        (info / "apt.list").write_text("/.\n/lib\n/lib/systemd\n/lib/systemd/system/apt.timer\n/bin\n/bin/apt\n")
        found = self.debloat(root, tmp_path, {}, {BINARY: ("package:apt",)})
        assert found == {"/usr/lib/modules/x", "/lib", "/bin"}

    @pytest.mark.parametrize(
        ("depends", "stays"),
        [
            ("", False),
            ("libc6, perl-base (>= 5)", True),
            ("foo | perl-base:any", True),
            ("perl-base-extra", False),
            ("libperl-base", False),
        ],
    )
    def test_unused_package_goes_unless_needed(self, root: Path, tmp_path: Path, depends: str, stays: bool) -> None:
        package(root, "perl-base", "/usr/bin/perl")
        package(root, "app", "/usr/bin/app", depends=depends)
        package(root, "debconf", "/usr/bin/debconf", depends="perl-base")
        found = self.debloat(root, tmp_path, {}, {BINARY: ("package:debconf", "unused-package:perl-base")})
        assert found == {"/usr/bin/app", *(("/usr/bin/perl",) if stays else ())}

    def test_paths_go_but_for_what_is_kept_below(self, root: Path, tmp_path: Path) -> None:
        write(root, "/usr/share/doc/a/x", "/usr/share/doc/b/y", "/usr/share/doc/b/z", "/boot/vmlinuz", "/var/log/.x")
        keep, remove = {PATH: ("/usr/share/doc/b/y",)}, {PATH: ("/usr/share/doc", "/boot/*", "/var/log/*", "/no/such")}
        assert self.debloat(root, tmp_path, keep, remove) == {"/usr/share/doc/b/y"}
        assert (root / "boot").is_dir()
        assert not (root / "usr/share/doc/a").exists()

    def test_what_the_recipe_places_stays(self, root: Path, tmp_path: Path) -> None:
        write(root, "/usr/share/doc/own/it's $x", "/usr/share/doc/else")
        file = File(span=SPAN, path="/usr/share/doc/own/it's $x", content=Blob.of(b"x"))
        found = self.debloat(root, tmp_path, {}, {PATH: ("/usr/share/doc",)}, files=(file,))
        assert found == {"/usr/share/doc/own/it's $x"}

    def test_links_are_removed_and_not_followed(self, root: Path, tmp_path: Path) -> None:
        write(tmp_path / "outside", "/data")
        write(root, "/usr/share/x")
        (root / "usr/share/doc").symlink_to(tmp_path / "outside")
        assert self.debloat(root, tmp_path, {}, {PATH: ("/usr/share/doc",)}) == {"/usr/share/x"}
        assert (tmp_path / "outside/data").exists()

    def test_profiles_add_what_stays(self, root: Path, tmp_path: Path) -> None:
        write(root, "/usr/bin/a", "/usr/bin/b", "/usr/bin/c")
        remove: Names = {BINARY: ("?",)}
        image = resolved_image(debloat=debloat({BINARY: ("a",)}, remove))
        variant = attrs.evolve(image, profiles=("dev",), debloat=debloat({BINARY: ("a", "b")}, remove))
        run(root, self.SCRIPT, image, tmp_path, variant)
        assert left(root) == {"/usr/bin/a", "/usr/bin/b"}

    def test_profile_turns_it_off(self, root: Path, tmp_path: Path) -> None:
        write(root, "/usr/bin/a")
        image = resolved_image(debloat=debloat({}, {BINARY: ("*",)}))
        off = attrs.evolve(image, profiles=("dev",), debloat=ResolvedDebloat(span=SPAN, enabled=False))
        run(root, self.SCRIPT, image, tmp_path, off)
        assert left(root) == {"/usr/bin/a"}

    def modules(self, root: Path, tmp_path: Path, keep: tuple[str, ...], modprobe: str) -> set[str]:
        """Run it on three modules, with a stand-in for modprobe and for depmod."""
        folder = "/usr/lib/modules/6.1"
        indexes = ("dep", "dep.bin", "alias", "symbols", "order", "devname", "softdep", "weakdep")
        write(root, *(f"{folder}/kernel/{name}.ko.xz" for name in ("a-b", "c", "d")))
        write(root, *(f"{folder}/modules.{name}" for name in indexes))
        programs = tmp_path / "bin"
        programs.mkdir()
        for name, text in (("modprobe", modprobe), ("depmod", "true")):
            (programs / name).write_text(f"#!/bin/bash\n{text}\n")
            (programs / name).chmod(0o755)
        module = DebloatKind.MODULE
        image = resolved_image(debloat=debloat({module: keep}, {module: ("*",)}))
        run(root, self.SCRIPT, image, tmp_path, path=f"{programs}:/usr/bin:/bin")
        return {path.removeprefix(f"{folder}/") for path in left(root)}

    def test_modules_stay_with_what_they_depend_on(self, root: Path, tmp_path: Path) -> None:
        answer = 'echo "builtin x"; echo "insmod /x/kernel/c.ko.xz"; echo "insmod /x/kernel/a-b.ko.xz opt=1"'
        found = self.modules(root, tmp_path, ("a_b", "not_there"), answer)
        # libkmod reads softdep and weakdep, kmod static-nodes devname, and of the rest the binary forms alone
        indexes = {f"modules.{name}" for name in ("dep.bin", "devname", "softdep", "weakdep")}
        assert found == {"kernel/a-b.ko.xz", "kernel/c.ko.xz", *indexes}

    def test_no_module_wanted_leaves_none(self, root: Path, tmp_path: Path) -> None:
        assert self.modules(root, tmp_path, (), "exit 1") == set()

    def test_module_that_cannot_be_resolved_fails_the_bake(self, root: Path, tmp_path: Path) -> None:
        with pytest.raises(subprocess.CalledProcessError):
            self.modules(root, tmp_path, ("a_b",), "exit 1")

    def test_twice_is_once(self, root: Path, tmp_path: Path) -> None:
        write(root, "/usr/bin/a", "/usr/bin/b")
        image = resolved_image(debloat=debloat({BINARY: ("a",)}, {BINARY: ("*",)}))
        run(root, self.SCRIPT, image, tmp_path)
        run(root, self.SCRIPT, image, tmp_path)
        assert left(root) == {"/usr/bin/a"}


class TestCleanup:
    """scripts/90-finalize-reproducible.sh."""

    SCRIPT = "90-finalize-reproducible.sh"

    def test_order_and_days_of_accounts_are_fixed(self, root: Path, tmp_path: Path) -> None:
        write(root, "/etc/os-release", "/usr/bin/x")
        etc = root / "etc"
        (etc / "passwd").write_text("z:x:900:900::/:\nroot:x:0:0::/root:/bin/sh\na:x:33:33::/:\n")
        (etc / "shadow").write_text("a:*:20001:0:99999:7:::\nroot:!:20002:0:99999:7:::\nz:!*:20003::::::\n")
        (etc / "passwd-").write_text("backup")
        run(root, self.SCRIPT, resolved_image(), tmp_path)
        assert (etc / "passwd").read_text().split(":x:")[0] == "root"
        assert [line.split(":")[0] for line in (etc / "shadow").read_text().splitlines()] == ["root", "a", "z"]
        assert [line.split(":")[2] for line in (etc / "shadow").read_text().splitlines()] == ["", "", ""]
        assert not (etc / "passwd-").exists()

    def test_version_of_the_recipe_stays(self, root: Path, tmp_path: Path) -> None:
        write(root, "/usr/bin/x", "/etc/x")
        (root / "etc/os-release").write_text("IMAGE_VERSION=1.2\n")
        run(root, self.SCRIPT, resolved_image(version="1.2"), tmp_path)
        assert (root / "etc/os-release").read_text() == "IMAGE_VERSION=1.2\n"

    def test_identities_versions_and_logs_go(self, root: Path, tmp_path: Path) -> None:
        write(root, "/etc/machine-id", "/etc/ssh/ssh_host_ed25519_key", "/var/log/apt/history.log")
        write(root, "/var/cache/ldconfig/aux-cache", "/usr/lib/python3/__pycache__/x.pyc", "/usr/bin/tool")
        (root / "usr/lib/os-release").write_text("ID=debian\nIMAGE_ID=node\nIMAGE_VERSION=1-dirty\n")
        (root / "etc/os-release").symlink_to("../usr/lib/os-release")
        run(root, self.SCRIPT, resolved_image(), tmp_path)
        assert left(root) == {"/etc/machine-id", "/etc/os-release", "/usr/lib/os-release", "/usr/bin/tool"}
        assert (root / "etc/machine-id").read_bytes() == b""
        assert (root / "usr/lib/os-release").read_text() == "ID=debian\nIMAGE_ID=node\n"
        assert (root / "var/log/apt").is_dir()


class TestModes:
    """scripts/10-postinst-rootfs.sh."""

    SCRIPT = "10-postinst-rootfs.sh"

    def test_modes_do_not_depend_on_the_working_copy(self, root: Path, tmp_path: Path) -> None:
        image = resolved_image(
            files=(
                File(span=SPAN, path="/root/.key", content=Blob.of(b"k"), mode=0o600),
                File(span=SPAN, path="/usr/bin/run me", content=Blob.of(b"x"), mode=0o755),
                File(span=SPAN, path="/usr/share/plain ", content=Blob.of(b"x")),
            ),
            directories=(Directory(span=SPAN, path="/srv/a b/c", mode=0o1770),),
        )
        tree = tmp_path / "tree"
        write_tree(emit_image(CompiledImage(span=SPAN, image=image)), tree)
        subprocess.run(["cp", "--recursive", "--preserve=mode", f"{tree}/mkosi.extra/.", str(root)], check=True)
        subprocess.run(["chmod", "-R", "go-rwx", str(root), str(tree)], check=True)
        env = {"BUILDROOT": str(root), "SRCDIR": str(tree), "PATH": "/usr/bin:/bin"}
        subprocess.run(["bash", str(tree / "scripts" / self.SCRIPT)], env=env, check=True, umask=0o077)
        modes = {"root": 0o700, "root/.key": 0o600, "usr": 0o755, "usr/bin/run me": 0o755, "usr/share/plain ": 0o644}
        modes |= {"srv/a b/c": 0o1770, "srv/a b": 0o755, "srv": 0o755}
        assert {path: (root / path).stat().st_mode & 0o7777 for path in modes} == modes
