"""What stays and what goes, and that each decision has its reason and its line."""

from __future__ import annotations

import fnmatch
from typing import Any

import attrs
import pytest
from support.builds import resolved_build
from support.images import at, image, run, unit
from tdxc.ir import (
    Artifact,
    Blob,
    Debloat,
    DebloatKind,
    Encryption,
    File,
    KeepDecision,
    NetworkBackend,
    OrderedStep,
    Package,
    Partition,
    ResolvedImage,
    ResolvedNetwork,
)
from tdxc.passes.debloat import DebloatImage, keeps_unit
from tdxc.passes.debloat_rules import COMMON_REMOVALS, SYSTEMD_REMOVALS


def decided(**fields: Any) -> ResolvedImage:
    after, found = run(DebloatImage(), image(**fields))
    assert not found
    return after


def kept(kind: DebloatKind, **fields: Any) -> dict[str, KeepDecision]:
    return {d.name: d for d in decided(**fields).debloat.keep if d.kind is kind}


def network(backend: NetworkBackend, resolver: bool = False) -> ResolvedNetwork:
    return ResolvedNetwork(span=at(30), vsock=False, backend=backend, resolver=resolver)


def test_debloat_is_on_unless_the_recipe_turns_it_off() -> None:
    assert decided().debloat.enabled
    off = decided(authored_debloat=Debloat(span=at(4), enabled=False)).debloat
    assert (off.enabled, off.keep, off.remove) == (False, (), ())


@pytest.mark.parametrize(
    ("fields", "units", "binaries"),
    [
        ({"network": network(NetworkBackend.NETWORKD)}, {"systemd-networkd.service", "systemd-udevd.service"},
         {"systemd-networkd", "udevadm"}),
        ({"network": network(NetworkBackend.NETWORKD, resolver=True)}, {"systemd-resolved.service"}, {"resolvectl"}),
        ({"encryption": Encryption(span=at(5), type="luks2", key_source="tpm")}, {"cryptsetup.target"},
         {"systemd-cryptsetup"}),
        ({"partitions": (Partition(span=at(6), mount_point="/", fs="ext4", size_bytes=1, verity=True),)},
         {"systemd-remount-fs.service", "veritysetup.target"}, {"systemd-fstab-generator", "systemd-veritysetup"}),
        ({"ordered_steps": (OrderedStep(span=at(7), name="a", file_name="0010-00-a", script="x"),)}, set(),
         {"systemd-notify"}),
    ],
)  # fmt: skip
def test_features_keep_what_they_use_and_others_do_not(
    fields: dict[str, Any], units: set[str], binaries: set[str]
) -> None:
    plain: dict[str, Any] = {"network": network(NetworkBackend.NONE)}
    plain["kernel"] = attrs.evolve(image().kernel, monolithic=True)
    found = plain | fields
    assert units <= kept(DebloatKind.UNIT, **found).keys()
    assert binaries <= kept(DebloatKind.BINARY, **found).keys()
    assert not units & kept(DebloatKind.UNIT, **plain).keys()
    assert not binaries & kept(DebloatKind.BINARY, **plain).keys()


def test_a_monolithic_kernel_keeps_no_module_and_no_loader() -> None:
    kernel = attrs.evolve(image().kernel, monolithic=True)
    assert kept(DebloatKind.MODULE)
    assert not kept(DebloatKind.MODULE, kernel=kernel)
    assert "systemd-modules-load.service" in kept(DebloatKind.UNIT)
    assert "systemd-modules-load.service" not in kept(DebloatKind.UNIT, kernel=kernel)


def test_the_recipe_extends_each_list_and_comes_first() -> None:
    authored = Debloat(
        span=at(9),
        keep_binaries=("busctl", "systemctl"),
        keep_units=("getty@.service",),
        keep_paths=("/usr/share/doc/app",),
        keep_modules=("virtio-gpu", "ext4.ko"),
    )
    after = decided(authored_debloat=authored)
    said = {(d.kind, d.name) for d in after.debloat.keep if d.reason == "the recipe keeps it" and d.span == at(9)}
    assert said == {
        (DebloatKind.BINARY, "busctl"),
        (DebloatKind.BINARY, "systemctl"),
        (DebloatKind.UNIT, "getty@.service"),
        (DebloatKind.PATH, "/usr/share/doc/app"),
        (DebloatKind.MODULE, "virtio_gpu"),
        (DebloatKind.MODULE, "ext4"),
    }


def test_units_of_the_image_and_units_that_they_name_stay() -> None:
    units = (
        unit("app.service", line=11, After="chrony.service getty@tty1.service", wanted_by=("minimal.target",)),
        attrs.evolve(unit("web.service"), aliases=("www.service",)),
    )
    found = kept(DebloatKind.UNIT, units=units)
    names = {"app.service", "www.service", "chrony.service", "getty@.service", "minimal.target", "default.target"}
    assert names <= found.keys()
    assert found["chrony.service"].reason == "app.service names it"
    assert found["chrony.service"].span == at(11)
    assert "getty@.service" not in kept(DebloatKind.UNIT)


def test_packages_of_the_recipe_stay_whole_and_those_of_the_boot_do_not() -> None:
    packages = (
        Package(span=at(3), name="dropbear/trixie-backports"),
        Package(span=at(1), name="systemd", cause="init"),
        Package(span=at(8), name="nftables", cause="firewall rules"),
    )
    found = kept(DebloatKind.BINARY, packages=packages)
    assert {name for name in found if name.startswith("package:")} == {"package:dropbear", "package:nftables"}
    assert found["package:nftables"].reason == "firewall rules"
    assert found["package:dropbear"].span == at(3)
    assert "package:dropbear" in kept(DebloatKind.UNIT, packages=packages)


def test_a_package_manager_keeps_its_tools_and_state() -> None:
    packages = (Package(span=at(3), name="apt"),)
    assert {"package:apt", "package:dpkg", "package:perl-base"} <= kept(DebloatKind.BINARY, packages=packages).keys()
    assert "/var/lib/dpkg" in kept(DebloatKind.PATH, packages=packages)
    assert "package:dpkg" not in kept(DebloatKind.BINARY)


def test_settings_files_and_builds_keep_paths() -> None:
    file = File(span=at(12), path="/usr/share/doc/app/NOTICE", content=Blob.of(b""))
    other = File(span=at(13), path="/etc/app.conf", content=Blob.of(b""))
    build = resolved_build(span=at(14), artifacts=(Artifact(source="a", dest="/usr/bin/tool"),))
    found = kept(DebloatKind.PATH, files=(other, file), builds=(build,), locale="de_DE.UTF-8")
    assert {"/usr/share/doc/app/NOTICE", "/usr/bin/tool", "/usr/lib/locale"} <= found.keys()
    assert "/etc/app.conf" not in found
    assert found["/usr/bin/tool"].span == at(14)
    assert "/usr/share/man" in kept(DebloatKind.PATH, docs=True)
    assert not kept(DebloatKind.PATH)


def test_what_goes_is_the_same_for_every_systemd_image() -> None:
    """Profiles are layers over a compiled base: a profile can only add to what stays."""
    plain = decided().debloat.remove
    rich = decided(docs=True, packages=(Package(span=at(2), name="apt"),), locale="C.UTF-8").debloat.remove
    assert plain == rich
    names = {name for rule in (*COMMON_REMOVALS, *SYSTEMD_REMOVALS) for name in rule.names}
    assert {d.name for d in plain} == names


def test_other_init_systems_have_nothing_of_systemd_to_remove() -> None:
    after = decided(init="busybox").debloat
    kinds = {d.kind for d in after.keep} | {d.kind for d in after.remove}
    assert DebloatKind.UNIT not in kinds


def test_decisions_are_sorted_unique_and_explained() -> None:
    after = decided(units=(unit("app.service", After="basic.target"),)).debloat
    for decisions in (after.keep, after.remove):
        keys = [(d.kind.value, d.name) for d in decisions]
        assert keys == sorted(set(keys))
        assert all(d.reason and d.cause and d.span.line for d in decisions)


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"init": "busybox"},
        {"network": network(NetworkBackend.NETWORKD, resolver=True)},
        {"authored_debloat": Debloat(span=at(4), keep_units=("systemd-pcrphase*.service",))},
        {"units": (unit("a.service", Wants="systemd-timesyncd.service"),)},
        {"encryption": Encryption(span=at(5), type="luks2", key_source="tpm")},
    ],
)
def test_one_unit_is_decided_as_all_are(fields: dict[str, Any]) -> None:
    """The question for a single unit has the answer of the pass."""
    patterns = kept(DebloatKind.UNIT, **fields)
    names = {name.replace("*", "x").replace("?", "y") for name in patterns} | {
        "systemd-pcrphase.service", "systemd-resolved.service", "systemd-networkd.service", "no-such.service",
    }  # fmt: skip
    for name in names:
        asked = keeps_unit(image(**fields), name)
        assert asked is any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns), name


def test_every_unit_stays_where_nothing_is_removed() -> None:
    assert keeps_unit(image(authored_debloat=Debloat(span=at(4), enabled=False)), "any.service")
