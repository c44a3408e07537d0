"""Who uses a secret or a disk, and whether it waits: services, drop-ins, unit files that are placed, and packages."""

from __future__ import annotations

from typing import Any

import pytest
from support.authored import at, resolved, run
from tdxc import records
from tdxc.diagnostics import Code, Diagnostic
from tdxc.ir import (
    Blob,
    BootStep,
    Directive,
    DropIn,
    EncryptedDisk,
    File,
    GuestKey,
    RawUnit,
    ResolvedImage,
    Script,
    ScriptPhase,
    Secret,
    SecretDelivery,
    SecretTarget,
    Section,
    Service,
    Symlink,
)
from tdxc.passes.init_priority import InitPriority, early_reason
from tdxc.passes.lower_guest import LowerGuest
from tdxc.passes.order_units import OrderUnits

SECRETS = "tdx-secrets.service"
STEP = BootStep(span=at(8), name="step", script="true")
KEY = GuestKey(span=at(2), name="disk", strategy="tpm", pcrs=(4, 11))
DISK = EncryptedDisk(span=at(3), name="data", key="disk", strategy="path", device="/dev/vdb", mount_at="/srv/data")


def target(path: str = "/run/secrets/token") -> SecretTarget:
    return SecretTarget(span=at(11), kind="file", path=path)


def env(scope: str) -> SecretTarget:
    return SecretTarget(span=at(12), kind="env", variable="TOKEN", scope=scope)


def delivery(*targets: SecretTarget, **fields: Any) -> SecretDelivery:
    secret = Secret(span=at(10), name="token", targets=targets, **fields)
    return SecretDelivery(span=at(9), method="http_post", port=8080, tls="generated", secrets=(secret,))


def section(name: str, *pairs: tuple[str, str]) -> Section:
    return Section(
        span=at(20), name=name, directives=tuple(Directive(span=at(20), key=key, value=value) for key, value in pairs)
    )


def raw(*pairs: tuple[str, str], name: str = "app.service", unit: tuple[tuple[str, str], ...] = ()) -> RawUnit:
    kind = name.rpartition(".")[2].capitalize()
    return RawUnit(span=at(20), name=name, sections=(section("Unit", *unit), section(kind, *pairs)))


def placed(path: str, text: str) -> File:
    return File(span=at(21), path=path, content=Blob.of_text(text))


def lower(*targets: SecretTarget, required: bool = True, **declared: Any) -> tuple[ResolvedImage, list[Diagnostic]]:
    image, found = run(LowerGuest(), resolved(secret_delivery=delivery(*targets, required=required), **declared))
    return image, [each for each in found if each.code is not Code.E_SECRET]


def waits(image: ResolvedImage, name: str, unit: str = SECRETS) -> bool:
    """Whether a unit, by itself or by drop-ins, comes after another and does not start without it."""
    parts = [each for each in image.units if each.name == name]
    parts += [records.evolve(image.units[0], sections=each.sections) for each in image.drop_ins if each.unit == name]
    return all(any(unit in part.values("Unit", key) for part in parts) for key in ("Requires", "After"))


NAMING = [
    ("ExecStart", "/bin/app -f file:///run/secrets/token"),
    ("ExecStart", "/bin/app -f/run/secrets/token"),
    ("ExecStart", "/bin/app --config=/run/secrets/token"),
    ("ExecStart", "/bin/app --dir /run/secrets"),
    ("ExecStart", "/bin/app --dir /run/secrets/"),
    ("ExecStart", "/bin/sh -c 'app /run/secrets/*'"),
    ("ExecStart", "/bin/app %t/secrets/token"),
    ("ExecStart", "/bin/app /run/secrets/%i"),
    ("ExecStartPre", "/bin/test -e /run/secrets/token"),
    ("EnvironmentFile", "-/run/secrets/token"),
    ("LoadCredential", "a:/run/secrets/token"),
    ("BindReadOnlyPaths", "/run/secrets/token:/etc/token"),
    ("Environment", '"TOKEN_FILE=/run/secrets/token"'),
    ("StandardInput", "file:/run/secrets/token"),
]


@pytest.mark.parametrize(("key", "value"), NAMING)
def test_a_unit_that_names_the_place_of_a_secret_waits_for_it(key: str, value: str) -> None:
    image, found = lower(target(), units=(raw((key, value)),))
    assert found == []
    assert waits(image, "app.service")


@pytest.mark.parametrize("key", ["ConditionPathExists", "AssertFileNotEmpty", "RequiresMountsFor"])
def test_a_condition_on_a_secret_is_looked_at_after_it_came(key: str) -> None:
    image, _ = lower(target(), units=(raw(unit=((key, "/run/secrets/token"),)),))
    assert waits(image, "app.service")


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("ExecStart", "/bin/app /run/secrets/token2"),
        ("ExecStart", "/bin/app /run/secrets/token/more"),
        ("ExecStart", "/bin/app /run/secrets/other"),
        ("ExecStart", "/bin/app /mnt/run/secrets/token"),
        ("ExecStart", "/bin/app --state /run"),
        ("ReadWritePaths", "/run"),
        ("InaccessiblePaths", "/run/secrets"),
    ],
)
def test_a_unit_that_names_something_else_does_not_wait(key: str, value: str) -> None:
    image, found = lower(target(), units=(raw((key, value)),))
    assert found == []
    assert not waits(image, "app.service")


def test_the_files_of_variables_are_places_too() -> None:
    other = raw(("ExecStart", "/bin/x /run/tdx-guest/secrets/env/app.service.env"), name="other.service")
    image, _ = lower(env("app.service"), services=(Service(span=at(20), name="app", exec=("/bin/x",)),), units=(other,))
    assert waits(image, "other.service")
    assert not [
        each for each in image.units if each.name == "other.service" and each.values("Service", "EnvironmentFile")
    ]


def test_an_optional_secret_is_only_waited_for() -> None:
    image, _ = lower(target(), required=False, units=(raw(("ExecStart", "/bin/app /run/secrets/token")),))
    (app,) = (unit for unit in image.units if unit.name == "app.service")
    assert (app.values("Unit", "Requires"), app.values("Unit", "Wants")) == ((), (SECRETS,))


UNIT_FOLDERS = ["/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system"]


@pytest.mark.parametrize("folder", UNIT_FOLDERS)
def test_a_unit_file_that_is_placed_waits_like_a_unit(folder: str) -> None:
    file = placed(f"{folder}/app.service", "[Service]\nExecStart=/bin/app \\\n  /run/secrets/token\n")
    image, found = lower(target(), env("global"), env("app.service"), files=(file,))
    assert found == []
    (drop_in,) = image.drop_ins
    assert (drop_in.unit, drop_in.span.line) == ("app.service", 21)
    assert waits(image, "app.service")
    files = [directive.value for part in drop_in.sections for directive in part.directives if part.name == "Service"]
    assert files == [f"/run/tdx-guest/secrets/env/{name}.env" for name in ("app.service", "global")]


def test_a_drop_in_makes_a_service_of_a_package_wait() -> None:
    change = section("Service", ("EnvironmentFile", "/run/secrets/token"))
    image, _ = lower(
        target(), env("global"), drop_ins=(DropIn(span=at(20), unit="db.service", name="x", sections=(change,)),)
    )
    assert waits(image, "db.service")
    assert not any(part.name == "Service" for part in image.drop_ins[-1].sections if part.directives), (
        "not of the image"
    )
    file = placed("/etc/systemd/system/db.service.d/x.conf", "[Service]\nEnvironmentFile=/run/secrets/token\n")
    image, _ = lower(target(), files=(file,))
    assert waits(image, "db.service")


def test_a_drop_in_makes_a_service_of_the_image_wait_itself() -> None:
    change = section("Service", ("EnvironmentFile", "/run/secrets/token"))
    declared: dict[str, Any] = {"drop_ins": (DropIn(span=at(20), unit="app.service", name="x", sections=(change,)),)}
    image, _ = lower(target(), units=(raw(("ExecStart", "/bin/app")),), **declared)
    assert image.drop_ins == resolved(**declared).drop_ins
    assert waits(image, "app.service")


EARLY: dict[str, tuple[dict[str, Any], str]] = {
    "early": ({"early": True, "secrets": ("token",)}, "early=True"),
    "before": ({"before": ("network.target",), "secrets": ("token",)}, "Before=network.target"),
    "wanted": ({"wanted_by": ("sysinit.target",), "secrets": ("token",)}, "WantedBy=sysinit.target"),
    "named": ({"early": True, "exec": ("/bin/app /run/secrets/token",)}, "early=True"),
    "folder": ({"early": True, "exec": ("/bin/app /run/secrets",)}, "early=True"),
    "variable": ({"early": True, "name": "scoped"}, "early=True"),
}


@pytest.mark.parametrize("name", sorted(EARLY))
def test_a_unit_of_early_boot_that_uses_a_secret_is_refused(name: str) -> None:
    fields, reason = EARLY[name]
    service = Service(span=at(20), **{"name": "app", "exec": ("/bin/app",), **fields})
    scoped = () if name == "variable" else (Service(span=at(22), name="scoped", exec=("/bin/x",)),)
    _, found = lower(target(), env("scoped.service"), services=(service, *scoped))
    assert [(each.code, each.span.line, each.notes[0].span.line) for each in found] == [(Code.E_CONFLICT, 20, 10)]
    assert found[0].message.endswith(reason)


def test_a_placed_unit_file_of_early_boot_is_refused_too() -> None:
    text = "[Unit]\nDefaultDependencies=no\n[Service]\nExecStart=/bin/app /run/secrets/token\n"
    _, found = lower(target(), files=(placed("/usr/lib/systemd/system/app.service", text),))
    assert [(each.code, each.span.line) for each in found] == [(Code.E_CONFLICT, 21)]
    assert found[0].message.endswith("DefaultDependencies=no")


def test_a_mount_with_a_secret_among_its_options_is_refused() -> None:
    share = raw(("What", "//host/share"), ("Options", "credentials=/run/secrets/token"), name="srv-x.mount")
    _, found = lower(target(), units=(share,))
    assert [(each.code, each.span.line) for each in found] == [(Code.E_CONFLICT, 20)]
    watching = raw(("PathExists", "/run/secrets/token"), name="x.path")
    assert lower(target(), units=(watching,))[1] == []


def test_variables_of_all_services_are_not_for_early_boot() -> None:
    _, found = lower(env("global"), services=(Service(span=at(20), name="app", exec=("/bin/app",), early=True),))
    assert found == []


def test_who_says_that_it_comes_after_the_secrets_gets_them() -> None:
    early = raw(("ExecStart", "/bin/app /run/secrets/token"), unit=(("DefaultDependencies", "no"), ("After", SECRETS)))
    image, found = lower(target(), units=(early,))
    assert found == []
    (app,) = (unit for unit in image.units if unit.name == "app.service")
    assert (app.values("Unit", "Requires"), app.values("Unit", "After")) == ((SECRETS,), (SECRETS,))


# Boot steps


@pytest.mark.parametrize("folder", UNIT_FOLDERS)
def test_a_unit_file_that_is_placed_waits_for_the_boot_steps(folder: str) -> None:
    files = (
        placed(f"{folder}/app.service", "[Service]\nExecStart=/bin/app\n"),
        placed(f"{folder}/early.service", "[Unit]\nBefore=network-pre.target\n[Service]\nExecStart=/bin/app\n"),
        placed(f"{folder}/wanted.service", "[Service]\nExecStart=/bin/app\n[Install]\nWantedBy=sysinit.target\n"),
        placed(f"{folder}/masked.service", ""),
        placed(f"{folder}/x.timer", "[Timer]\nOnBootSec=1\n"),
        placed(f"{folder}/db.service.d/x.conf", "[Service]\nNice=1\n"),
    )
    image, found = run(InitPriority(), resolved(boot_steps=(STEP,), files=files))
    assert found == ()
    assert [each.unit for each in image.drop_ins] == ["app.service"]
    assert waits(image, "app.service", "runtime-init.service")
    image, _ = run(InitPriority(), resolved(files=files))
    assert image.drop_ins == ()


def test_both_drop_ins_of_a_placed_unit_file_have_names_of_their_own() -> None:
    file = placed("/usr/lib/systemd/system/app.service", "[Service]\nExecStart=/bin/app /run/secrets/token\n")
    image, _ = lower(target(), files=(file,), boot_steps=(STEP,))
    image, _ = run(InitPriority(), image)
    assert len({(each.unit, each.name) for each in image.drop_ins}) == 2
    assert waits(image, "app.service")
    assert waits(image, "app.service", "runtime-init.service")


def test_what_makes_a_unit_early_is_told_as_it_stands() -> None:
    image = resolved(services=(Service(span=at(20), name="app", exec=("/bin/x",), wanted_by=("timers.target",)),))
    assert early_reason(image.units[0]) == "WantedBy=timers.target"
    assert early_reason(records.evolve(image.units[0], wanted_by=("multi-user.target",))) == ""


# Services of packages

WAITING = section("Unit", ("Requires", "runtime-init.service"), ("After", "runtime-init.service"))


def ordered(**declared: Any) -> list[Diagnostic]:
    """What order-units says of an image with a disk and what is declared."""
    image, found = run(LowerGuest(), resolved(guest_keys=(KEY,), boot_steps=(STEP,), **declared))
    assert found == ()
    image, _ = run(InitPriority(), image)
    _, found = run(OrderUnits(), image)
    return [each for each in found if each.code is Code.W_BOOT_ORDER]


def link(name: str) -> Symlink:
    return Symlink(span=at(30), path=f"/usr/lib/systemd/system/minimal.target.wants/{name}", target=f"../{name}")


@pytest.mark.parametrize("key", ["requires", "wants", "binds_to"])
def test_a_service_of_a_package_that_the_image_starts_does_not_wait(key: str) -> None:
    started: dict[str, Any] = {key: ("cron.service",)}
    app = Service(span=at(20), name="app", exec=("/bin/app",), **started)
    (found,) = ordered(encrypted_disks=(DISK,), services=(app,))
    assert (found.span.line, found.notes[0].span.line) == (20, 3)
    assert "'/srv/data'" in found.message
    assert found.fix.startswith('let it wait: img.drop_in("cron.service", {"Unit": {"Requires": "runtime-init.service"')


def test_a_link_starts_a_service_too() -> None:
    (found,) = ordered(encrypted_disks=(DISK,), symlinks=(link("cron.service"), link("systemd-networkd.service")))
    assert found.span.line == 30


@pytest.mark.parametrize(
    ("phase", "text", "count"),
    [
        ("finalize", "mkosi-chroot systemctl --quiet enable cron nginx.service; true", 2),
        ("finalize", "systemctl --root=$BUILDROOT enable --force cron.service && systemctl disable nginx", 1),
        ("finalize", "systemctl mask cron", 0),
        ("postinst", "systemctl enable cron", 0),  # the preset takes it back
    ],
)
def test_a_late_script_that_enables_a_service_starts_it(phase: str, text: str, count: int) -> None:
    script = Script(span=at(50), phase=ScriptPhase(phase), name="enable", text=text)
    assert [each.span.line for each in ordered(encrypted_disks=(DISK,), scripts=(script,))] == [50] * count


@pytest.mark.parametrize(
    "more",
    [
        {"drop_ins": (DropIn(span=at(40), unit="cron.service", name="x", sections=(WAITING,)),)},
        {"files": (placed("/etc/systemd/system/cron.service.d/x.conf", "[Unit]\nAfter=runtime-init.service\n"),)},
        {"files": (placed("/etc/systemd/system/cron.service", "[Service]\nExecStart=/bin/cron\n"),)},
        {"services": (Service(span=at(20), name="cron", exec=("/bin/cron",)),)},
    ],
)
def test_a_service_that_waits_needs_no_warning(more: dict[str, Any]) -> None:
    assert ordered(encrypted_disks=(DISK,), symlinks=(link("cron.service"),), **more) == []


def test_a_secret_that_no_unit_takes_may_be_for_a_package() -> None:
    given: dict[str, Any] = {"symlinks": (link("cron.service"),)}
    image, _ = run(LowerGuest(), resolved(secret_delivery=delivery(target()), **given))
    _, found = run(OrderUnits(), image)
    assert [(each.code, each.span.line) for each in found] == [(Code.W_BOOT_ORDER, 30)]
    assert SECRETS in found[0].fix
    app = raw(("ExecStart", "/bin/app /run/secrets/token"))
    image, _ = run(LowerGuest(), resolved(secret_delivery=delivery(target()), units=(app,), **given))
    _, found = run(OrderUnits(), image)
    assert found == ()
