from typing import Any

import pytest
from support.authored import at, resolved, run
from tdxc.diagnostics import Code, Diagnostic
from tdxc.ir import EncryptedDisk, Encryption, GuestKey, Partition, RawUnit, ResolvedImage, Setting
from tdxc.ir.verify import verify_resolved
from tdxc.passes.lower_storage import LowerStorage
from tdxc.quoting import unit_name_of_path

ROOT = Partition(span=at(4), mount_point="/", fs="erofs", size_bytes=1 << 30, verity=True)


def partition(mount_point: str, line: int = 5, fs: str = "ext4", size_bytes: int = 1 << 30, **fields: Any) -> Partition:
    return Partition(span=at(line), mount_point=mount_point, fs=fs, size_bytes=size_bytes, **fields)


def lower(*partitions: Partition, **declarations: Any) -> tuple[ResolvedImage, tuple[Diagnostic, ...]]:
    image, found = run(LowerStorage(), resolved(partitions=partitions, **declarations))
    assert verify_resolved(image) == ()
    return image, found


def codes(*partitions: Partition, **declarations: Any) -> list[tuple[Code, str]]:
    return [(d.code, str(d.span)) for d in lower(*partitions, **declarations)[1]]


def test_an_image_without_storage_is_unchanged() -> None:
    assert lower() == (resolved(), ())


def test_data_partitions_are_labelled_and_mounted() -> None:
    image, found = lower(ROOT, partition("/var/lib/my-data"), partition("/srv", label="bulk", fs="xfs"))
    assert found == ()
    assert [p.label for p in image.partitions] == ["root", "var-lib-my-data", "bulk"]
    unit = next(u for u in image.units if u.name == r"var-lib-my\x2ddata.mount")
    assert unit.values("Mount", "What") == ("/dev/disk/by-partlabel/var-lib-my-data",)
    assert unit.values("Mount", "Where") == ("/var/lib/my-data",)
    assert unit.values("Mount", "Type") == ("ext4",)
    assert unit.required_by == ("local-fs.target",)
    assert {u.name for u in image.units} == {r"var-lib-my\x2ddata.mount", "srv.mount"}


def test_a_mount_unit_of_the_recipe_stands_instead_of_ours() -> None:
    mine = RawUnit(span=at(9), name="srv.mount", sections=())
    image, _ = lower(ROOT, partition("/srv"), units=(mine,))
    assert [(u.name, u.sections) for u in image.units] == [("srv.mount", ())]


@pytest.mark.parametrize("mount_point", ["/", "/usr", "/opt"])
def test_programs_on_an_unmeasured_partition_are_warned_about(mount_point: str) -> None:
    assert codes(partition(mount_point)) == [(Code.W_UNMEASURED, "recipe.py:5:1")]
    assert codes(partition(mount_point, verity=True)) == []


@pytest.mark.parametrize(
    ("partitions", "code"),
    [
        ((partition("/a", 4, label="x"), partition("/b", label="x")), Code.E_CONFLICT),
        ((partition("/a-b", 4), partition("/a/b")), Code.E_CONFLICT),
        ((partition("/a", label="x" * 37),), Code.E_VALUE),
        ((partition("/a", label="a b"),), Code.E_VALUE),
        ((partition("/" + "d" * 40),), Code.E_VALUE),
        ((partition("/a", fs="xfs", size_bytes=299 << 20),), Code.E_VALUE),
        ((partition("/a", fs="btrfs", size_bytes=1),), Code.E_VALUE),
    ],
)
def test_bad_partitions_are_refused_at_their_line(partitions: tuple[Partition, ...], code: Code) -> None:
    assert codes(*partitions) == [(code, "recipe.py:5:1")]


def test_encryption_that_nothing_carries_out_is_refused_naming_what_is_missing() -> None:
    encryption = Encryption(span=at(8), type="luks2", key_source="tpm")
    _, (found,) = lower(encryption=encryption)
    assert (found.code, str(found.span)) == (Code.E_UNSUPPORTED, "recipe.py:8:1")
    assert "'DiskEncryption'" in found.notes[0].message
    assert "KeyGeneration(strategy='tpm')" in found.fix
    disk = EncryptedDisk(span=at(9), name="data", key="disk", strategy="largest", mount_at="/persistent")
    key = GuestKey(span=at(7), name="disk", strategy="tpm")
    assert lower(encryption=encryption, encrypted_disks=(disk,), guest_keys=(key,))[1] == ()


def test_encryption_that_says_other_than_the_modules_is_refused() -> None:
    disk = EncryptedDisk(span=at(9), name="data", key="disk", strategy="largest", mount_at="/persistent")
    key = GuestKey(span=at(7), name="disk", strategy="random")
    encryption = Encryption(span=at(8), type="luks2", key_source="tpm")
    _, (found,) = lower(encryption=encryption, encrypted_disks=(disk,), guest_keys=(key,))
    assert (found.code, str(found.span), found.notes[0].span.line) == (Code.E_CONFLICT, "recipe.py:8:1", 7)


def test_data_partitions_need_systemd() -> None:
    init = Setting(span=at(2), value="busybox")
    assert codes(ROOT, partition("/srv"), init=init) == [(Code.E_UNSUPPORTED, "recipe.py:5:1")]
    assert codes(ROOT, init=init) == []


@pytest.mark.parametrize(
    ("path", "name"),
    [
        ("/srv", "srv"),
        ("/var/lib/a", "var-lib-a"),
        ("/a-b", r"a\x2db"),
        ("/.hidden", r"\x2ehidden"),
        ("/a b/é", r"a\x20b-\xc3\xa9"),
        ("/", "-"),
    ],
)
def test_paths_are_escaped_as_systemd_does(path: str, name: str) -> None:
    assert unit_name_of_path(path) == name
