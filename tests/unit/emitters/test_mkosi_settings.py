"""mkosi.conf says what the image says, in mkosi's own words."""

from __future__ import annotations

import re

import attrs
import pytest
from support.resolved_images import SPAN, base, resolved_image
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.grammar.ini import IniDialect, parse_ini
from tdxc.ir import CompiledImage, EfiStub, KernelArgument, Package, Partition, ResolvedImage
from tdxc.tree import FileTree, TreeFile
from tdxc_emitters import emit_image

GIB = 1 << 30


def emitted(image: ResolvedImage) -> FileTree:
    return emit_image(CompiledImage(span=SPAN, image=image))


def values(image: ResolvedImage, section: str, key: str) -> list[str]:
    ini = parse_ini(emitted(image).text("mkosi.conf"), IniDialect.MKOSI)
    return [line for value in ini.values(section, key) for line in value.split("\n") if line]


def test_packages_are_the_images_and_the_stub() -> None:
    image = resolved_image(packages=(Package(span=SPAN, name="jq"), Package(span=SPAN, name="systemd")))
    assert values(image, "Content", "Packages") == ["jq", "systemd", "systemd-boot-efi"]


@pytest.mark.parametrize("name", ["systemd-boot-efi", "systemd-boot-efi=257.8-1", "systemd-boot-efi/sid"])
def test_stub_package_of_the_recipe_is_not_doubled(name: str) -> None:
    image = resolved_image(packages=(Package(span=SPAN, name=name),))
    assert values(image, "Content", "Packages") == [name]


def test_settings_that_differ_between_versions_are_left_out() -> None:
    ini = parse_ini(emitted(resolved_image()).text("mkosi.conf"), IniDialect.MKOSI)
    keys = {entry.key for section in ini.sections for entry in section.entries}
    assert not keys & {"Mirror", "Bootable", "MakeInitrd", "SandboxTrees", "ExtraTrees", "KernelModulesInclude"}


def test_command_line_is_one_word_per_line_and_specifiers_are_escaped() -> None:
    words = ("console=ttyS0,115200n8", 'dyndbg="file a +p"', "x=50%")
    kernel = attrs.evolve(
        resolved_image().kernel, cmdline=tuple(KernelArgument(span=SPAN, text=word) for word in words)
    )
    found = values(resolved_image(kernel=kernel), "Content", "KernelCommandLine")
    assert found == ["console=ttyS0,115200n8", 'dyndbg="file a +p"', "x=50%%"]


def test_without_reproducibility_no_epoch_and_no_cleanup() -> None:
    image = resolved_image()
    image = attrs.evolve(image, reproducibility=attrs.evolve(image.reproducibility, enabled=False))
    tree = emitted(image)
    assert values(image, "Content", "SourceDateEpoch") == []
    assert "scripts/90-finalize-reproducible.sh" not in tree


def test_name_that_mkosi_would_cut_is_refused_at_the_image() -> None:
    with pytest.raises(DiagnosticError) as caught:
        emitted(resolved_image(name="node #1"))
    assert caught.value.diagnostics[0].code is Code.E_VALUE
    assert caught.value.diagnostics[0].span == SPAN


def test_ubuntu_takes_the_stub_from_universe() -> None:
    assert values(resolved_image("ubuntu/noble"), "Distribution", "Repositories") == ["universe"]


def test_no_recipe_name_or_line_outside_of_origins() -> None:
    tree = emitted(resolved_image(efi_stub=EfiStub(span=SPAN, version="257.8-1", sha256="0" * 64)))
    files = [entry for entry in tree.entries.values() if isinstance(entry, TreeFile)]
    assert files
    assert not [entry for entry in files if SPAN.file.encode() in entry.data]


def test_every_file_has_an_origin() -> None:
    tree = emitted(resolved_image(partitions=(Partition(span=SPAN, mount_point="/", fs="ext4", size_bytes=GIB),)))
    assert [path for path, entry in tree.entries.items() if entry.origin is None] == []


class TestPartitions:
    """Disk images."""

    def test_root_is_named_on_the_command_line_by_a_stable_identifier(self) -> None:
        image = resolved_image(partitions=(Partition(span=SPAN, mount_point="/", fs="ext4", size_bytes=2 * GIB),))
        tree = emitted(image)
        definition = parse_ini(tree.text("mkosi.repart/10-root.conf"), IniDialect.SYSTEMD)
        (uuid,) = definition.values("Partition", "UUID")
        assert values(image, "Content", "KernelCommandLine")[-1] == f"root=PARTUUID={uuid}"
        assert definition.values("Partition", "SizeMinBytes") == (str(2 * GIB),)
        assert definition.values("Partition", "SizeMinBytes") == definition.values("Partition", "SizeMaxBytes")
        assert values(image, "Output", "Format") == ["disk"]

    def test_directory_hash_of_ext4_is_the_same_in_each_build(self) -> None:
        root = Partition(span=SPAN, mount_point="/", fs="ext4", size_bytes=GIB)
        (word,) = values(resolved_image(partitions=(root,)), "Build", "Environment")
        assert re.fullmatch(r"'SYSTEMD_REPART_MKFS_OPTIONS_EXT4=-E \S+,hash_seed=[0-9a-f-]{36}'", word)
        assert values(resolved_image(partitions=(attrs.evolve(root, fs="erofs"),)), "Build", "Environment") == []

    def test_nested_mount_points_are_left_out_of_the_outer_partition(self) -> None:
        partitions = tuple(
            Partition(span=SPAN, mount_point=path, fs="ext4", size_bytes=GIB) for path in ("/", "/var", "/var/log")
        )
        tree = emitted(resolved_image(partitions=partitions))
        root = parse_ini(tree.text("mkosi.repart/10-root.conf"), IniDialect.SYSTEMD)
        var = parse_ini(tree.text("mkosi.repart/20-var.conf"), IniDialect.SYSTEMD)
        assert root.values("Partition", "ExcludeFilesTarget") == ("/var/", "/var/log/")
        assert var.values("Partition", "CopyFiles") == ("/var:/",)
        assert var.values("Partition", "ExcludeFilesTarget") == ("/log/",)
        assert tree.text("rules/directories").splitlines()[1:] == ["0755 /var", "0755 /var/log"]

    def test_verity_root_has_a_hash_partition_and_no_fixed_identifier(self) -> None:
        root = Partition(span=SPAN, mount_point="/", fs="erofs", size_bytes=GIB, verity=True)
        tree = emitted(resolved_image(partitions=(root,)))
        data = parse_ini(tree.text("mkosi.repart/10-root.conf"), IniDialect.SYSTEMD)
        assert data.values("Partition", "UUID") == ()
        assert data.values("Partition", "Verity") == ("data",)
        assert "Verity=hash" in tree.text("mkosi.repart/11-root-verity.conf")

    @pytest.mark.parametrize(
        ("mount_point", "fs", "verity"), [("/var", "ext4", False), ("/", "ntfs", False)], ids=["no root", "unknown fs"]
    )
    def test_what_cannot_be_built_is_refused(self, mount_point: str, fs: str, verity: bool) -> None:
        partition = Partition(span=SPAN, mount_point=mount_point, fs=fs, size_bytes=GIB, verity=verity)
        with pytest.raises(DiagnosticError) as caught:
            emitted(resolved_image(partitions=(partition,)))
        assert caught.value.diagnostics[0].code is Code.E_UNSUPPORTED


class TestStub:
    """A pinned EFI stub."""

    def test_pin_replaces_the_package(self) -> None:
        image = resolved_image(efi_stub=EfiStub(span=SPAN, version="257.8-1~deb13u2", sha256="a" * 64))
        script = emitted(image).text("scripts/10-prepare-efi-stub.sh")
        assert "version='257.8-1~deb13u2'" in script or "version=257.8-1~deb13u2" in script
        assert f"sha256={'a' * 64}" in script
        assert "systemd-boot-efi" not in values(image, "Content", "Packages")

    @pytest.mark.parametrize(("version", "sha256"), [("257 8", ""), ("257.8-1", "A" * 64), ("257.8-1", "ab")])
    def test_bad_pins_are_refused(self, version: str, sha256: str) -> None:
        with pytest.raises(DiagnosticError) as caught:
            emitted(resolved_image(efi_stub=EfiStub(span=SPAN, version=version, sha256=sha256)))
        assert caught.value.diagnostics[0].code is Code.E_VALUE


class TestAlpine:
    """A distribution that mkosi cannot install."""

    def test_packages_go_to_apk(self) -> None:
        image = resolved_image("alpine/3.20", mirror="https://mirror.example/alpine")
        tree = emitted(image)
        assert values(image, "Distribution", "Distribution") == ["custom"]
        assert values(image, "Content", "Packages") == []
        assert "systemd-efistub" in tree.text("scripts/10-prepare-alpine.sh")
        assert "mirror=https://mirror.example/alpine\n" in tree.text("scripts/10-prepare-alpine.sh")

    def test_mirror_with_a_password_is_refused(self) -> None:
        with pytest.raises(DiagnosticError) as caught:
            emitted(resolved_image("alpine/3.20", mirror="https://me:secret@mirror.example/alpine"))
        assert caught.value.diagnostics[0].code is Code.E_VALUE
        assert "secret" not in caught.value.diagnostics[0].message

    def test_without_a_mirror_it_is_refused_at_the_base(self) -> None:
        with pytest.raises(DiagnosticError) as caught:
            emitted(resolved_image("alpine/3.20"))
        assert caught.value.diagnostics[0].span == base("alpine/3.20").span
