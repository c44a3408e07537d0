"""The DSL's services, raw units and boot steps as IR."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.declared import new_image, pairs
from tdx import Build, Image, Kernel
from tdx._declare import signature_of
from tdxc.ir import Directive, Service
from tdxc.quoting import unit_name_of_path


def test_services_take_every_directive(tmp_path: Path) -> None:
    image = new_image(tmp_path)
    image.service(
        "app.service",
        ["/usr/bin/a", "/usr/bin/b"],
        type="oneshot",
        environment={"B": "2", "A": "1"},
        ports=[80],
        overrides={"ProtectHome": False, "DevicePolicy": "closed"},
        extra_unit={"Service": {"Limit": ["a", "b"]}, "Install": {"Also": "x"}, "Unit": {"After": "y"}},
    )
    (service,) = image.freeze().layer.services
    assert (service.name, service.exec, service.type) == ("app", ("/usr/bin/a", "/usr/bin/b"), "oneshot")
    assert [(variable.name, variable.value) for variable in service.environment] == [("A", "1"), ("B", "2")]
    assert service.overrides == (
        Directive(key="DevicePolicy", value="closed"),
        Directive(key="ProtectHome", value="no"),
    )
    assert [pairs(section) for section in service.extra_unit] == [
        ("Unit", [("After", "y")]),
        ("Service", [("Limit", "a"), ("Limit", "b")]),
        ("Install", [("Also", "x")]),
    ]


def test_every_field_of_a_service_can_be_declared(tmp_path: Path) -> None:
    fields = {field.name for field in attrs.fields(Service)} - {"span", "cause"}
    assert {parameter.name for parameter in signature_of(Image.service).parameters} == fields
    image = new_image(tmp_path)
    unlike_default: dict[str, Any] = {
        name: ["x.target"] if name in {"after", "before", "requires", "wants", "binds_to", "part_of", "conflicts",
                                       "wanted_by"} else "x"
        for name in fields - {"type", "restart", "hardening", "overrides", "extra_unit", "enabled", "early", "ports",
                              "capabilities", "writes", "devices", "environment", "environment_files",
                              "credentials", "secrets", "supplementary_groups", "remain_after_exit", "restart_sec",
                              "timeout_start_sec", "timeout_stop_sec", "working_directory"}
    } | {
        "type": "exec", "restart": "no", "hardening": "none", "overrides": {"A": "b"}, "enabled": False, "early": True,
        "ports": [80], "capabilities": ["CAP_CHOWN"], "writes": ["/w"], "devices": ["/dev/x"],
        "environment": {"A": "b"}, "environment_files": ["-/etc/x"], "credentials": ["a:/b"], "secrets": ["token"],
        "supplementary_groups": ["g"], "remain_after_exit": True, "restart_sec": "1s", "timeout_start_sec": "1s",
        "timeout_stop_sec": "1s", "working_directory": "/w", "extra_unit": {"Unit": {"A": "b"}},
    }  # fmt: skip
    image.service(**unlike_default)
    (service,) = image.freeze().layer.services
    defaults = {field.name: field.default for field in attrs.fields(Service)}
    assert not [name for name in fields if getattr(service, name) == defaults[name]]


def test_the_order_of_a_mapping_never_reaches_the_image(tmp_path: Path) -> None:
    found = []
    for order in (list, reversed):
        image = new_image(tmp_path)
        names: Any = ["a", "b", "c"]
        mapping = {name.upper(): name for name in order(names)}
        image.service("app", exec="/a", environment=mapping, extra_unit={"Service": mapping}, overrides=mapping)
        image.template("/t", content="", vars=mapping)
        image.kernel = Kernel.tdx(config=mapping)
        image.build(Build.script(name="b", build_script="x", artifacts={k: "/" + k for k in mapping}))
        found.append(image.freeze())
    assert found[0] == found[1]


def test_raw_units_of_each_kind(tmp_path: Path) -> None:
    image = new_image(tmp_path)
    image.socket("a", listen_stream=["/run/a.sock", "80"], socket_mode="0660", service="b")
    image.timer("t", on_boot_sec="5min", persistent=True, description="50% done")
    image.target("g", requires=["a.socket"], allow_isolate=True)
    image.mount("/var/lib/my-app", "/dev/vdb", type="ext4", options=["ro", "nodev"])
    image.unit("p.path", {"Path": {"PathExists": "/x"}}, wanted_by=["g.target"], early=True)
    units = image.freeze().layer.units
    assert [(unit.name, unit.wanted_by) for unit in units] == [
        ("a.socket", ("sockets.target",)),
        ("t.timer", ("timers.target",)),
        ("g.target", ()),
        (r"var-lib-my\x2dapp.mount", ("local-fs.target",)),
        ("p.path", ("g.target",)),
    ]
    assert pairs(units[0].sections[0]) == (
        "Socket",
        [("ListenStream", "/run/a.sock"), ("ListenStream", "80"), ("Service", "b.service"), ("SocketMode", "0660")],
    )
    assert pairs(units[1].sections[0]) == ("Unit", [("Description", "50%% done")])
    assert dict(pairs(units[3].sections[0])[1])["Options"] == "ro,nodev"
    assert units[4].early


@pytest.mark.parametrize("path", ["/", "/var/lib/a-b", "/a b/ü", "/.hidden/x", "/a\\b", "/x:y_z.é", "/-", "/a/.b"])
def test_mount_names_are_those_of_systemd_escape(path: str) -> None:
    done = subprocess.run(["systemd-escape", "--path", "--", path], capture_output=True, text=True, check=True)
    assert unit_name_of_path(path) == done.stdout.rstrip("\n")


def test_boot_steps_keep_their_place_in_the_recipe(tmp_path: Path) -> None:
    image = new_image(tmp_path)
    image.on_boot("a")
    image.on_boot("b", name="keys", priority=10)
    with image.profile("dev"):
        image.on_boot("c", after=["keys"])
    image.on_boot("d")
    frozen = image.freeze()
    steps = [(step.name, step.priority, step.index) for step in frozen.layer.boot_steps]
    assert steps == [("on-boot-1", 50, 0), ("keys", 10, 1), ("on-boot-3", 50, 3)]
    assert frozen.profiles[0].layer.boot_steps[0].name == "on-boot-2"
