"""lower-guest: what the mount of an encrypted disk hides, and what would run from the disk."""

from __future__ import annotations

from typing import Any

import pytest
from support.authored import at, resolved, run
from tdxc import records
from tdxc.diagnostics import Code, Diagnostic
from tdxc.ir import (
    Artifact,
    Blob,
    BuildLanguage,
    BuildSource,
    Directive,
    Directory,
    EncryptedDisk,
    File,
    GuestKey,
    Partition,
    QuoteService,
    RawUnit,
    ResolvedBuild,
    Section,
    Service,
    Symlink,
    Toolchain,
)
from tdxc.passes.guest_mounts import check_mounts
from tdxc.passes.lower_guest import LowerGuest

KEY = GuestKey(span=at(2), name="disk", strategy="tpm", pcrs=(4, 11))
DISK = EncryptedDisk(span=at(3), name="data", key="disk", strategy="path", device="/dev/vdb", mount_at="/srv/data")
INNER = EncryptedDisk(span=at(4), name="b", key="disk", strategy="path", device="/dev/vdc", mount_at="/srv/data/sub")


def file(path: str) -> File:
    return File(span=at(10), path=path, content=Blob.of(b"x"))


def service(exec_: str, **fields: Any) -> Service:
    return Service(span=at(11), name="app", exec=(exec_,), **fields)


def mount(where: str, *more: tuple[str, str]) -> RawUnit:
    def directives(*pairs: tuple[str, str]) -> tuple[Directive, ...]:
        return tuple(Directive(span=at(12), key=key, value=value) for key, value in pairs)

    sections = (
        Section(span=at(12), name="Unit", directives=directives(*more)),
        Section(span=at(12), name="Mount", directives=directives(("What", "tmpfs"), ("Where", where))),
    )
    return RawUnit(span=at(12), name=f"{where.strip('/').replace('/', '-')}.mount", sections=sections)


def listening(path: str, *more: tuple[str, str]) -> RawUnit:
    def directives(*pairs: tuple[str, str]) -> tuple[Directive, ...]:
        return tuple(Directive(span=at(14), key=key, value=value) for key, value in pairs)

    sections = (
        Section(span=at(14), name="Unit", directives=directives(*more)),
        Section(span=at(14), name="Socket", directives=directives(("ListenStream", "8080"), ("ListenStream", path))),
    )
    return RawUnit(span=at(14), name="a.socket", sections=sections)


def build(destination: str) -> ResolvedBuild:
    return ResolvedBuild(
        span=at(13),
        name="tool",
        language=BuildLanguage.SCRIPT,
        source=BuildSource(span=at(13)),
        toolchain=Toolchain(span=at(13)),
        artifacts=(Artifact(span=at(13), source="tool", dest=destination),),
    )


def found(disk: EncryptedDisk = DISK, *disks: EncryptedDisk, **declarations: Any) -> tuple[Diagnostic, ...]:
    return tuple(check_mounts(resolved(encrypted_disks=(disk, *disks), **declarations)))


HIDDEN: dict[str, tuple[int, dict[str, Any]]] = {
    "file": (10, {"files": (file("/srv/data/a/b"),)}),
    "directory": (10, {"directories": (Directory(span=at(10), path="/srv/data/a"),)}),
    "link": (10, {"symlinks": (Symlink(span=at(10), path="/srv/data/a", target="b"),)}),
    "partition": (10, {"partitions": (Partition(span=at(10), mount_point="/srv/data/p", fs="ext4", size_bytes=1),)}),
    "socket": (14, {"units": (listening("/srv/data/a.sock"),)}),
    "socket for quotes": (
        15,
        {"quote_service": QuoteService(span=at(15), source="auto", group="tdx", socket="/srv/data/tdxs.sock")},
    ),
    "mount unit": (12, {"units": (mount("/srv/data/m"),)}),
}


@pytest.mark.parametrize("name", sorted(HIDDEN))
def test_what_a_mount_hides_is_refused(name: str) -> None:
    line, declarations = HIDDEN[name]
    (only,) = found(**declarations)
    assert (only.code, only.span.line, only.notes[0].span.line) == (Code.E_CONFLICT, line, 3)
    assert "'/srv/data'" in only.message
    assert only.fix


def test_what_a_mount_hides_of_a_build_is_refused() -> None:
    for destination, count in (("/srv/data/bin/", 1), ("/srv/data/bin/tool", 1), ("/usr/bin/tool", 0)):
        image = records.evolve(resolved(encrypted_disks=(DISK,)), builds=(build(destination),))
        assert [only.span.line for only in check_mounts(image)] == [13] * count


@pytest.mark.parametrize(
    "declarations",
    [
        {"files": (file("/srv/data2"), file("/srv/x"))},
        {"directories": (Directory(span=at(10), path="/srv/data"), Directory(span=at(10), path="/srv"))},
        {"partitions": (Partition(span=at(10), mount_point="/srv", fs="ext4", size_bytes=1),)},
        {"units": (mount("/srv/data/m", ("After", "runtime-init.service")),)},
        {"units": (listening("/srv/data/a.sock", ("After", "runtime-init.service")),)},
        {"units": (listening("/srv/data2/a.sock"),)},
        {"services": (service("/usr/bin/app --data /srv/data/app"),)},
    ],
)
def test_what_stays_visible_is_fine(declarations: dict[str, Any]) -> None:
    assert found(**declarations) == ()


def test_the_outer_one_of_two_disks_is_mounted_first() -> None:
    (only,) = found(INNER, DISK)
    assert (only.code, only.span.line, only.notes[0].span.line) == (Code.E_CONFLICT, 3, 4)
    assert "declare the disk for '/srv/data' first" in only.fix
    inner_folder = Directory(span=at(10), path="/srv/data/sub")
    assert found(DISK, INNER, directories=(inner_folder,)) == (), "the guest makes mount points that are missing"


@pytest.mark.parametrize("prefix", ["", "-", "@", "+", "!!"])
def test_a_program_on_a_disk_is_not_measured(prefix: str) -> None:
    (only,) = found(services=(service(f"{prefix}/srv/data/app --flag"),))
    assert (only.code, only.span.line) == (Code.W_UNMEASURED, 11)
    (only,) = found(services=(service("/usr/bin/app", exec_start_pre=(f"{prefix}/srv/data/app",)),))
    assert only.code is Code.W_UNMEASURED


def test_a_program_on_a_disk_without_programs_cannot_start() -> None:
    (only,) = found(records.evolve(DISK, mount_options=("noexec",)), services=(service("/srv/data/app"),))
    assert (only.code, only.span.line) == (Code.E_CONFLICT, 11)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"early": True}, "early=True"),
        ({"before": ("network.target",)}, "Before=network.target"),
        ({"wanted_by": ("network-online.target",)}, "WantedBy=network-online.target"),
    ],
)
def test_a_service_of_early_boot_has_no_disk_yet(fields: dict[str, Any], reason: str) -> None:
    (only,) = found(services=(service("/usr/bin/app --data /srv/data/app", **fields),))
    assert (only.code, only.span.line, only.notes[0].span.line) == (Code.E_CONFLICT, 11, 3)
    assert only.message.endswith(reason)
    assert found(services=(service("/usr/bin/app", writes=("/srv/data",), **fields),))
    assert found(services=(service("/usr/bin/app --data /srv/data2", **fields),)) == ()
    assert found(services=(service("/usr/bin/app /srv/data", after=("runtime-init.service",), **fields),)) == ()


def test_a_place_of_programs_is_for_measured_ones() -> None:
    for place in ("/opt", "/opt/app"):
        (only,) = found(records.evolve(DISK, mount_at=place))
        assert (only.code, only.span.line) == (Code.W_UNMEASURED, 3)
        assert found(records.evolve(DISK, mount_at=place, mount_options=("noexec",))) == ()
    assert found(records.evolve(DISK, mount_at="/optional")) == ()


def test_a_mount_point_is_closed_until_the_disk_is_there() -> None:
    directories = (Directory(span=at(10), path="/srv"), Directory(span=at(10), path="/srv/data"))
    image, _ = run(LowerGuest(), resolved(guest_keys=(KEY,), encrypted_disks=(DISK,), directories=directories))
    assert [(each.path, each.mode) for each in image.directories] == [("/srv", 0o755), ("/srv/data", 0)]
    own = (Directory(span=at(10), path="/srv/data", mode=0o700),)
    image, _ = run(LowerGuest(), resolved(guest_keys=(KEY,), encrypted_disks=(DISK,), directories=own))
    assert image.directories == own


def test_the_pass_reports_it_once() -> None:
    image = resolved(guest_keys=(KEY,), encrypted_disks=(DISK,), files=(file("/srv/data/a"),))
    _, reported = run(LowerGuest(), image)
    assert [only.code for only in reported] == [Code.E_CONFLICT]
