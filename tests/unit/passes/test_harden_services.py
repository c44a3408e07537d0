"""The default sandbox, what opens it, what overrides it, and what real systemd thinks of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from support.images import at, image, run, unit, unit_of
from support.systemd import field, load_units, security_scores, verify_units
from tdxc.diagnostics import Code
from tdxc.ir import (
    Directive,
    Directory,
    Hardening,
    NetworkBackend,
    ResolvedNetwork,
    SandboxNeeds,
    Unit,
)
from tdxc.passes.harden_services import HardenServices
from tdxc.passes.sandbox_rules import CAPABILITY_GRANTS, DEFAULT_RULES
from tdxc_emitters.systemd import render_unit


def needs(**fields: Any) -> SandboxNeeds:
    return SandboxNeeds(span=at(20), **fields)


def app(*rows: tuple[str, str], name: str = "app.service", **fields: Any) -> Unit:
    return unit(name, service=(("ExecStart", "/usr/bin/true"), *rows), needs=needs(**fields))


def hardened(before: Unit, vsock: bool = False) -> Unit:
    network = ResolvedNetwork(vsock=vsock, backend=NetworkBackend.NETWORKD, resolver=False)
    after, found = run(HardenServices(), image(units=(before,), network=network))
    assert not found
    return unit_of(after, before.name)


def test_a_plain_service_gets_every_default_with_a_reason() -> None:
    service = hardened(app())
    for rule in DEFAULT_RULES:
        if rule.key != "RemoveIPC":
            assert rule.value in service.values("Service", rule.key), rule
    added = [d for s in service.sections for d in s.directives if d.key != "ExecStart"]
    assert all(d.cause.startswith("harden-services: ") and d.span == at(20) for d in added)


def test_hardening_none_and_other_kinds_are_left_alone() -> None:
    for before in (app(hardening=Hardening.NONE), unit("a.socket"), unit("a.target")):
        assert hardened(before) == before


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"ports": (80,)}, {"CapabilityBoundingSet": ("CAP_NET_BIND_SERVICE",), "AmbientCapabilities": ("",),
                            "SocketBindDeny": ("any",), "SocketBindAllow": ("80",)}),
        ({"ports": (8545, 1024), "user": "app"}, {"CapabilityBoundingSet": ("",), "SocketBindAllow": ("1024", "8545")}),
        ({"ports": (443,), "user": "app"}, {"AmbientCapabilities": ("CAP_NET_BIND_SERVICE",), "RemoveIPC": ("yes",)}),
        ({"capabilities": ("net_admin", "CAP_SYS_TIME")}, {
            "CapabilityBoundingSet": ("CAP_NET_ADMIN CAP_SYS_TIME",), "ProtectClock": (),
            "SystemCallFilter": ("@system-service", "~@privileged @resources", "@clock")}),
        ({"capabilities": ("CAP_NET_RAW",)}, {
            "RestrictAddressFamilies": ("AF_UNIX AF_NETLINK AF_INET AF_INET6", "AF_PACKET")}),
        ({"devices": ("/dev/tdx_guest", "char-rtc")}, {
            "PrivateDevices": (), "DevicePolicy": ("closed",), "DeviceAllow": ("/dev/tdx_guest rw", "char-rtc rw")}),
        ({"writes": ("/var/lib/app", "/var/lib/a/b", "/run/app", "/var/log/app", "/var/cache/app")}, {
            "StateDirectory": ("app", "a/b"), "RuntimeDirectory": ("app",), "RuntimeDirectoryPreserve": ("yes",),
            "LogsDirectory": ("app",), "CacheDirectory": ("app",), "ReadWritePaths": ()}),
        ({"writes": ("/persistent/a b", "/var/lib", "/var/lib/a b")}, {
            "ReadWritePaths": ('"/persistent/a b"', "/var/lib", '"/var/lib/a b"'), "StateDirectory": ()}),
        ({"writes": ("/home/app",)}, {"ProtectHome": ("read-only",), "ReadWritePaths": ("/home/app",)}),
        ({"writes": ("/tmp/x",)}, {"PrivateTmp": (), "ReadWritePaths": ("/tmp/x",)}),
    ],
)  # fmt: skip
def test_needs_open_the_sandbox(fields: Mapping[str, Any], expected: Mapping[str, tuple[str, ...]]) -> None:
    service = hardened(app(**fields))
    assert {key: service.values("Service", key) for key in expected} == expected


def test_vsock_opens_its_address_family() -> None:
    assert "AF_VSOCK" in hardened(app(), vsock=True).values("Service", "RestrictAddressFamilies")


def test_paths_of_the_image_and_shared_paths_are_not_given_away() -> None:
    units = (
        app(name="a.service", writes=("/var/lib/shared", "/var/lib/own")),
        app(name="b.service", writes=("/var/lib/shared", "/var/lib/placed")),
    )
    before = image(units=units, directories=(Directory(span=at(2), path="/var/lib/placed", owner="x"),))
    after, _ = run(HardenServices(), before)
    assert unit_of(after, "a.service").values("Service", "StateDirectory") == ("own",)
    assert unit_of(after, "a.service").values("Service", "ReadWritePaths") == ("/var/lib/shared",)
    assert unit_of(after, "b.service").values("Service", "ReadWritePaths") == ("/var/lib/shared", "/var/lib/placed")


def test_what_the_unit_says_wins_and_lists_add() -> None:
    service = hardened(app(("ProtectSystem", "no"), ("SystemCallFilter", "@mount"), ("ReadWritePaths", "/x"),
                           writes=("/y",)))  # fmt: skip
    assert service.values("Service", "ProtectSystem") == ("no",)
    assert service.values("Service", "SystemCallFilter") == ("@system-service", "~@privileged @resources", "@mount")
    assert service.values("Service", "ReadWritePaths") == ("/y", "/x")


def test_overrides_replace_defaults_and_lines_of_their_key() -> None:
    overrides = (
        Directive(span=at(5), key="MemoryDenyWriteExecute", value="no"),
        Directive(span=at(5), key="SystemCallFilter", value="@system-service"),
        Directive(span=at(5), key="ProtectSystem", value="full"),
    )
    service = hardened(app(("ProtectSystem", "no"), ("SystemCallFilter", "@mount"), overrides=overrides))
    assert service.values("Service", "MemoryDenyWriteExecute") == ("no",)
    assert service.values("Service", "SystemCallFilter") == ("@system-service",)
    assert service.values("Service", "ProtectSystem") == ("full",)


@pytest.mark.parametrize(
    ("fields", "text"),
    [
        ({"capabilities": ("CAP_NET_ADMINN",)}, "is not a capability"),
        ({"ports": (0,)}, "between 1 and 65535"),
        ({"ports": (65536,)}, "between 1 and 65535"),
        ({"devices": ("tdx_guest",)}, "neither a path below /dev"),
        ({"writes": ("var/lib",)}, "not absolute"),
        ({"writes": ("/a/../etc",)}, "not normalised"),
    ],
)
def test_needs_that_cannot_be_met_are_refused(fields: Mapping[str, Any], text: str) -> None:
    before = app(**fields)
    after, (found,) = run(HardenServices(), image(units=(before,)))
    assert found.code is Code.E_VALUE
    assert text in found.message
    assert found.span == at(20)
    assert after.units == (before,)


SCORED: dict[str, Unit] = {
    f"{name}.service": app(*rows, name=f"{name}.service", **fields)
    for name, rows, fields in (
        ("root", (), {}),
        ("user", (("User", "daemon"),), {"user": "daemon"}),
        ("port", (("User", "daemon"),), {"user": "daemon", "ports": (80, 443)}),
        ("device", (("User", "daemon"),), {"user": "daemon", "devices": ("/dev/tdx_guest", "/dev/tpmrm0")}),
        ("writes", (), {"writes": ("/var/lib/app", "/persistent/x", "/run/app")}),
        ("all", (), {"ports": (22,), "writes": ("/var/lib/a",), "devices": ("/dev/tpmrm0",)}),
    )
}  # fmt: skip


@pytest.mark.integration
def test_exposure_of_default_services_is_at_most_two() -> None:
    """Scores were 9.2 to 9.6 without a sandbox. vsock alone costs 0.3: systemd counts it as an exotic family."""
    texts = {name: render_unit(hardened(before), "test") for name, before in SCORED.items()}
    scores = security_scores(texts)
    assert max(scores.values()) <= 2.0, scores
    assert scores["user.service"] <= 1.6, scores
    with_vsock = render_unit(hardened(SCORED["port.service"], vsock=True), "test")
    assert security_scores({"port.service": with_vsock})["port.service"] <= 2.0


@pytest.mark.integration
def test_real_systemd_accepts_every_directive_and_capability() -> None:
    services = [*SCORED.values(), app(name="caps.service", capabilities=tuple(CAPABILITY_GRANTS))]
    texts = {before.name: render_unit(hardened(before, vsock=True), "test") for before in services}
    assert verify_units(texts) == []
    loaded = load_units(texts)
    assert "Unit Load State: loaded" in loaded["caps.service"]
    bounding = field(loaded["caps.service"], "CapabilityBoundingSet").split()
    assert sorted(name.upper() for name in bounding) == sorted(CAPABILITY_GRANTS)
