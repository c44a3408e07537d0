"""The DSL's declarations as IR, and the checks of their arguments."""

from __future__ import annotations

import subprocess
import types
from pathlib import Path
from typing import Any

import attrs
import pytest
from tdx import Build, Image, Kernel
from tdx._declare import signature_of
from tdx._session import recipe_session
from tdx._values import size_bytes
from tdx.backends import LimaMkosiBackend
from tdx.modules import TimeSynchronisation
from tdx.platforms import AzurePlatform, GcpPlatform
from tdx.policy import Policy
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import AuthoredImage, Directive, Layer, MutableRefPolicy, NetworkMode, Section, Service
from tdxc.quoting import unit_name_of_path


def _image(folder: Path) -> Image:
    with recipe_session(folder):
        return Image("x")


def _section(section: Section) -> tuple[str, list[tuple[str, str]]]:
    return (section.name, [(directive.key, directive.value) for directive in section.directives])


def _faults(image: Image) -> list[tuple[Code, str]]:
    with pytest.raises(DiagnosticError) as caught:
        image.freeze()
    return [(fault.code, fault.message) for fault in caught.value.diagnostics]


def test_an_image_has_sensible_defaults() -> None:
    image = Image("my-vm")
    assert (image.name, image.base, image.reproducible, image.init) == ("my-vm", "debian/trixie", True, "systemd")
    frozen = image.freeze()
    assert isinstance(frozen, AuthoredImage)
    assert frozen.layer == Layer()
    assert (frozen.base.reference, frozen.reproducible, frozen.profiles) == ("debian/trixie", True, ())


def test_identity_can_be_assigned() -> None:
    image = Image()
    image.name, image.base, image.version = "node", "alpine/3.20", "1.2"
    image.mirror, image.snapshot, image.reproducible = "https://mirror.example.org/x", "20251113T083151Z", False
    frozen = image.freeze()
    assert (frozen.name, frozen.base.reference, frozen.version) == ("node", "alpine/3.20", "1.2")
    assert (frozen.mirror, frozen.snapshot, frozen.reproducible) == (
        "https://mirror.example.org/x",
        "20251113T083151Z",
        False,
    )


def test_settings_are_kept_as_text_and_the_last_one_counts() -> None:
    image = Image()
    image.init, image.init = "busybox", "/usr/bin/my-init"
    image.locale, image.docs, image.firmware = None, True, "./OVMF.fd"
    image.cloud, image.attestation_backend, image.default_target = "azure", "azure", "my.target"
    layer = image.freeze().layer
    found = (layer.init, layer.locale, layer.docs, layer.firmware, layer.cloud, layer.default_target)
    assert [setting.value for setting in found if setting] == ["/usr/bin/my-init", "", "yes", "./OVMF.fd", "azure",
                                                               "my.target"]  # fmt: skip
    assert (image.init, image.docs, image.locale) == ("/usr/bin/my-init", True, None)


def test_services_take_every_directive(tmp_path: Path) -> None:
    image = _image(tmp_path)
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
    assert [_section(section) for section in service.extra_unit] == [
        ("Unit", [("After", "y")]),
        ("Service", [("Limit", "a"), ("Limit", "b")]),
        ("Install", [("Also", "x")]),
    ]


def test_every_field_of_a_service_can_be_declared(tmp_path: Path) -> None:
    fields = {field.name for field in attrs.fields(Service)} - {"span", "cause"}
    assert {parameter.name for parameter in signature_of(Image.service).parameters} == fields
    image = _image(tmp_path)
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
        image = _image(tmp_path)
        names: Any = ["a", "b", "c"]
        mapping = {name.upper(): name for name in order(names)}
        image.service("app", exec="/a", environment=mapping, extra_unit={"Service": mapping}, overrides=mapping)
        image.template("/t", content="", vars=mapping)
        image.kernel = Kernel.tdx(config=mapping)
        image.build(Build.script(name="b", build_script="x", artifacts={k: "/" + k for k in mapping}))
        found.append(image.freeze())
    assert found[0] == found[1]


def test_raw_units_of_each_kind(tmp_path: Path) -> None:
    image = _image(tmp_path)
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
    assert _section(units[0].sections[0]) == (
        "Socket",
        [("ListenStream", "/run/a.sock"), ("ListenStream", "80"), ("Service", "b.service"), ("SocketMode", "0660")],
    )
    assert _section(units[1].sections[0]) == ("Unit", [("Description", "50%% done")])
    assert dict(_section(units[3].sections[0])[1])["Options"] == "ro,nodev"
    assert units[4].early


@pytest.mark.parametrize("path", ["/", "/var/lib/a-b", "/a b/ü", "/.hidden/x", "/a\\b", "/x:y_z.é", "/-", "/a/.b"])
def test_mount_names_are_those_of_systemd_escape(path: str) -> None:
    done = subprocess.run(["systemd-escape", "--path", "--", path], capture_output=True, text=True, check=True)
    assert unit_name_of_path(path) == done.stdout.rstrip("\n")


def test_boot_steps_keep_their_place_in_the_recipe(tmp_path: Path) -> None:
    image = _image(tmp_path)
    image.on_boot("a")
    image.on_boot("b", name="keys", priority=10)
    with image.profile("dev"):
        image.on_boot("c", after=["keys"])
    image.on_boot("d")
    frozen = image.freeze()
    steps = [(step.name, step.priority, step.index) for step in frozen.layer.boot_steps]
    assert steps == [("on-boot-1", 50, 0), ("keys", 10, 1), ("on-boot-3", 50, 3)]
    assert frozen.profiles[0].layer.boot_steps[0].name == "on-boot-2"


def test_profiles_hold_what_is_declared_inside_of_them(tmp_path: Path) -> None:
    image = _image(tmp_path)
    with image.profile("a"):
        image.install("one")
        image.docs = True
    with image.profile("b"):
        pass
    with image.all_profiles():
        image.install("all")
    with image.profile("a"):
        image.install("two")
    image.install("base")
    frozen = image.freeze()
    assert [package.name for package in frozen.layer.packages] == ["base"]
    assert {profile.name: [p.name for p in profile.layer.packages] for profile in frozen.profiles} == {
        "a": ["one", "all", "two"],
        "b": ["all"],
    }


def test_a_profile_is_left_even_by_an_exception(tmp_path: Path) -> None:
    image = _image(tmp_path)
    with pytest.raises(ValueError, match="mine"), image.profile("a"):
        raise ValueError("mine")
    image.install("base")
    assert [package.name for package in image.freeze().layer.packages] == ["base"]


def test_profiles_do_not_nest_and_all_of_none_is_a_fault(tmp_path: Path) -> None:
    image = _image(tmp_path)
    with image.all_profiles():
        pass
    with image.profile("a"), image.profile("b"):
        image.install("x")
    with image.module("M"), image.profile("c"):
        pass
    with image.profile("not a name"):
        image.install("x")
    codes = [code for code, _message in _faults(image)]
    assert sorted(codes) == sorted([Code.E_REFERENCE, Code.E_UNSUPPORTED, Code.E_UNSUPPORTED, Code.E_VALUE])


def test_calls_that_add_up_and_calls_that_replace(tmp_path: Path) -> None:
    image = _image(tmp_path)
    image.network(vsock=True, firewall_rules=["ACCEPT icmp"])
    image.network(firewall_rules=["DROP all"])
    image.debloat(enabled=False, keep=["/usr/bin/x", "a.service", "perf", "/etc/b.service"])
    image.debloat(keep_modules=["m"])
    image.ssh(port=22)
    image.ssh(port=2222)
    layer = image.freeze().layer
    assert layer.network is not None
    assert layer.debloat is not None
    assert layer.ssh is not None
    assert (layer.network.vsock, [rule.text for rule in layer.network.firewall_rules]) == (
        True,
        ["ACCEPT icmp", "DROP all"],
    )
    assert (layer.debloat.keep_paths, layer.debloat.keep_units, layer.debloat.keep_binaries) == (
        ("/usr/bin/x", "/etc/b.service"),
        ("a.service",),
        ("perf",),
    )
    assert (layer.debloat.enabled, layer.debloat.keep_modules, layer.ssh.port) == (True, ("m",), 2222)


def test_kernel_reads_its_files_and_writes_options_as_config_does(tmp_path: Path) -> None:
    (tmp_path / "base.config").write_text("CONFIG_A=y\n")
    (tmp_path / "more.config").write_text("# CONFIG_B is not set\n")
    image = _image(tmp_path)
    image.kernel = Kernel.tdx(
        version="6.13.12",
        config_file="base.config",
        fragments=["./more.config"],
        config={"CONFIG_Y": True, "N": False, "M": "m", "I": 7, "H": "0x1F", "S": 'a"b\\', "Q": '"quoted"'},
    )
    kernel = image.freeze().layer.kernel
    assert kernel is not None
    assert kernel.config_file is not None
    assert kernel.config_file.data == b"CONFIG_A=y\n"
    assert [(f.name, f.source, f.text) for f in kernel.fragments] == [
        ("more.config", "more.config", "# CONFIG_B is not set\n")
    ]
    assert {option.name: option.value for option in kernel.config} == {
        "Y": "y", "N": "n", "M": "m", "I": "7", "H": "0x1F", "S": '"a\\"b\\\\"', "Q": '"quoted"',
    }  # fmt: skip
    assert [option.name for option in kernel.config] == sorted(option.name for option in kernel.config)


def test_build_script_takes_its_source_folder_along(tmp_path: Path) -> None:
    (tmp_path / "tool" / "src").mkdir(parents=True)
    (tmp_path / "tool" / ".git").mkdir()
    (tmp_path / "tool" / ".git" / "config").write_text("not this")
    (tmp_path / "tool" / "src" / "main.c").write_text("int main;")
    (tmp_path / "tool" / "configure").write_text("#!/bin/sh\n")
    (tmp_path / "tool" / "configure").chmod(0o755)
    image = _image(tmp_path)
    image.build(
        Build.script(
            name="tool",
            src="./tool/",
            build_script="make",
            artifacts={"build/tool": "/usr/bin/tool"},
            build_deps=["cmake"],
        )
    )
    (build,) = image.freeze().layer.builds
    assert [(f.path, f.executable) for f in build.source.files] == [("configure", True), ("src/main.c", False)]
    assert [(a.source, a.dest) for a in build.artifacts] == [("build/tool", "/usr/bin/tool")]


def test_source_folder_with_a_link_out_of_the_recipe_is_refused(tmp_path: Path) -> None:
    (tmp_path / "recipe" / "tool").mkdir(parents=True)
    (tmp_path / "secret").write_text("x")
    (tmp_path / "recipe" / "tool" / "link").symlink_to(tmp_path / "secret")
    image = _image(tmp_path / "recipe")
    image.build(Build.script(name="t", src="tool", build_script="x", artifacts={"a": "/a"}))
    assert _faults(image)[0][0] is Code.E_PATH


def test_scripts_keep_the_recipes_order_and_lose_their_shebang(tmp_path: Path) -> None:
    (tmp_path / "hard en.sh").write_text("#!/usr/bin/env bash\necho hi\n")
    (tmp_path / "python.sh").write_text("#!/usr/bin/python3\n")
    (tmp_path / "empty.sh").write_text("#!/bin/sh\n\n")
    image = _image(tmp_path)
    image.run("true", name="first")
    image.run_script("hard en.sh", phase="finalize")
    image.run("false")
    scripts = image.freeze().layer.scripts
    assert [(s.name, s.phase.value, s.text) for s in scripts] == [
        ("first", "postinst", "true"),
        ("hard-en", "finalize", "echo hi\n"),
        ("run-1", "postinst", "false"),
    ]
    image.run_script("python.sh")
    image.run_script("empty.sh")
    assert [code for code, _message in _faults(image)] == [Code.E_UNSUPPORTED, Code.E_VALUE]


def test_policy_and_repository(tmp_path: Path) -> None:
    (tmp_path / "key.asc").write_text("KEY")
    image = _image(tmp_path)
    image.set_policy(Policy(require_frozen_lock=True, mutable_ref_policy="error", network_mode="offline"))
    image.repository("extra", uri="https://packages.example.org/x", suites=["s"], components=["main"], key="key.asc")
    layer = image.freeze().layer
    assert layer.policy is not None
    assert (layer.policy.mutable_ref_policy, layer.policy.network_mode) == (
        MutableRefPolicy.ERROR,
        NetworkMode.OFFLINE,
    )
    assert layer.repositories[0].key is not None
    assert layer.repositories[0].key.data == b"KEY"


def test_partitions_and_encryption(tmp_path: Path) -> None:
    image = _image(tmp_path)
    image.partitions(
        Image.partition("/", fs="ext4", size="2G"),
        Image.partition("/var", fs="ext4", size="10G", label="state"),
    )
    image.encryption(type="luks2", key_source="tpm")
    layer = image.freeze().layer
    assert [(p.mount_point, p.size_bytes, p.label) for p in layer.partitions] == [
        ("/", 2 << 30, ""),
        ("/var", 10 << 30, "state"),
    ]
    assert layer.encryption is not None


@pytest.mark.parametrize(("text", "size"), [("1", 1), ("4K", 4096), ("3T", 3 << 40), ("0", 0), ("1.5G", 0), ("2g", 0)])
def test_sizes(text: str, size: int) -> None:
    assert size_bytes(text) == size


def test_platforms_and_modules_are_grouped(tmp_path: Path) -> None:
    image = _image(tmp_path)
    TimeSynchronisation(servers=["a.example.org"]).apply(image)
    with image.profile("azure"):
        AzurePlatform().apply(image)
    with image.profile("gcp"):
        GcpPlatform().apply(image)
    frozen = image.freeze()
    assert [module.name for module in frozen.layer.modules] == ["TimeSynchronisation"]
    targets = [profile.layer.modules[0].layer.output_targets[0].name for profile in frozen.profiles]
    assert targets == ["azure", "gcp"]


FILE = {"content": "x"}

BAD_CALLS: list[tuple[str, tuple[Any, ...], dict[str, Any], Code]] = [
    ("install", ("Curl Jq",), {}, Code.E_VALUE),
    ("install", (["curl"],), {}, Code.E_TYPE),
    ("install", ("curl;rm",), {}, Code.E_VALUE),
    ("file", ("/x",), {}, Code.E_VALUE),
    ("file", ("/x",), {"content": "a", "src": "b"}, Code.E_VALUE),
    ("file", (), {"content": "a"}, Code.E_TYPE),
    ("file", ("/x", "content"), {}, Code.E_TYPE),
    ("file", ("/",), FILE, Code.E_PATH),
    ("file", ("/a/../b",), FILE, Code.E_PATH),
    ("file", ("//a",), FILE, Code.E_PATH),
    ("file", ("/a/",), FILE, Code.E_PATH),
    ("file", ("/a\nb",), FILE, Code.E_PATH),
    ("file", ("/" + "a" * 256,), FILE, Code.E_PATH),
    ("file", ("/a" * 3000,), FILE, Code.E_PATH),
    ("file", ("/x\ud800",), FILE, Code.E_ENCODING),
    ("file", ("/x",), {"content": "\ud800"}, Code.E_ENCODING),
    ("file", ("/x",), {"content": "x", "mode": 0o10000}, Code.E_VALUE),
    ("file", ("/x",), {"content": "x", "mode": -1}, Code.E_VALUE),
    ("file", ("/x",), {"content": "x", "mode": True}, Code.E_TYPE),
    ("file", ("/x",), {"content": "x", "owner": "Ro ot"}, Code.E_VALUE),
    ("file", ("/x",), {"src": ""}, Code.E_PATH),
    ("file", ("/x",), {"src": "a\0b"}, Code.E_PATH),
    ("file", ("/x",), {"src": "/dev/null"}, Code.E_PATH),
    ("file", ("/x",), {"src": "/dev/null", "outside": True}, Code.E_PATH),
    ("file", ("/x",), {"src": "."}, Code.E_PATH),
    ("file", ("/x",), {"self": 1, "content": "x"}, Code.E_KEY),
    ("template", ("/x",), {"content": "a", "vars": {"a": 1.5}}, Code.E_TYPE),
    ("template", ("/x",), {"content": "a", "vars": {"a": {1: 2}}}, Code.E_TYPE),
    ("template", ("/x",), {"content": "a", "vars": {"a": object()}}, Code.E_TYPE),
    ("symlink", ("/x", ""), {}, Code.E_VALUE),
    ("user", ("root user",), {}, Code.E_VALUE),
    ("user", ("a",), {"uid": 70000}, Code.E_VALUE),
    ("user", ("a",), {"home": "home/a"}, Code.E_PATH),
    ("user", ("a", "b"), {}, Code.E_TYPE),
    ("service", ("a",), {"exec": ""}, Code.E_VALUE),
    ("service", ("a",), {"exec": "/a\n/b"}, Code.E_VALUE),
    ("service", ("a b",), {"exec": "/a"}, Code.E_VALUE),
    ("service", ("a.socket",), {"exec": "/a"}, Code.E_VALUE),
    ("service", ("a",), {"exec": "/a", "restart": "allways"}, Code.E_VALUE),
    ("service", ("a",), {"exec": "/a", "after": "b.target"}, Code.E_TYPE),
    ("service", ("a",), {"exec": "/a", "environment": {"A": 1}}, Code.E_TYPE),
    ("service", ("a",), {"exec": "/a", "environment": {"1A": "x"}}, Code.E_VALUE),
    ("service", ("a",), {"exec": "/a", "hardening": "off"}, Code.E_VALUE),
    ("service", ("a",), {"exec": "/a", "capabilities": ["net_admin"]}, Code.E_VALUE),
    ("service", ("a",), {"exec": "/a", "restart_sec": "soon"}, Code.E_VALUE),
    ("service", ("a",), {"exec": "/a", "state_directory": "/var/lib/a"}, Code.E_VALUE),
    ("service", ("a",), {"exec": "/a", "extra_unit": {"Service": {"A": "b\nc"}}}, Code.E_VALUE),
    ("service", ("a",), {"exec": "/a", "extra_unit": {"Ser vice": {"A": "b"}}}, Code.E_VALUE),
    ("service", ("a",), {"exec": "/a", "extra_unit": {"Service": {"A=B": "b"}}}, Code.E_VALUE),
    ("service", ("a",), {"exec": "/a", "extra_unit": {"Service": "x"}}, Code.E_TYPE),
    ("unit", ("a", {}), {}, Code.E_VALUE),
    ("mount", ("relative", "/dev/x"), {}, Code.E_PATH),
    ("drop_in", ("a",), {"sections": {}}, Code.E_VALUE),
    ("run", ("  ",), {}, Code.E_VALUE),
    ("run", ("x",), {"phase": "later"}, Code.E_VALUE),
    ("on_boot", ("x",), {"priority": 10000}, Code.E_VALUE),
    ("on_boot", ("x",), {"name": "../x"}, Code.E_VALUE),
    ("on_boot", ("a\0b",), {}, Code.E_VALUE),
    ("network", (), {"backend": "ifupdown"}, Code.E_VALUE),
    ("network", (), {"firewall_rules": "DROP all"}, Code.E_TYPE),
    ("ssh", (), {"port": 0}, Code.E_VALUE),
    ("ssh", (), {"port": "22"}, Code.E_TYPE),
    ("output_targets", ("aws",), {}, Code.E_VALUE),
    ("efi_stub", ("257",), {"sha256": "xyz"}, Code.E_VALUE),
    ("repository", ("x",), {"uri": "not a uri", "suites": ["s"]}, Code.E_VALUE),
    ("repository", ("x",), {"uri": "https://e.example.org", "suites": []}, Code.E_VALUE),
    ("encryption", (), {"type": "luks1", "key_source": "tpm"}, Code.E_VALUE),
    ("set_policy", ({},), {}, Code.E_TYPE),
    ("partitions", ("/",), {}, Code.E_TYPE),
    ("build", ("make",), {}, Code.E_TYPE),
]


@pytest.mark.parametrize(
    ("method", "arguments", "keywords", "code"), BAD_CALLS, ids=[f"{i}-{c[0]}" for i, c in enumerate(BAD_CALLS)]
)
def test_bad_arguments_are_collected_and_declare_nothing(
    tmp_path: Path, method: str, arguments: tuple[Any, ...], keywords: dict[str, Any], code: Code
) -> None:
    image = _image(tmp_path)
    getattr(image, method)(*arguments, **keywords)
    (fault,) = image.faults
    assert fault.code is code
    assert fault.span.file.endswith("test_image.py")
    assert image._layer.freeze() == Layer()


UNTYPED: Any = types.SimpleNamespace(
    Kernel=Kernel,
    Image=Image,
    Build=Build,
    Policy=Policy,
    LimaMkosiBackend=LimaMkosiBackend,
    TimeSynchronisation=TimeSynchronisation,
)
"""The same names for calls that a type checker refuses."""


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (lambda: UNTYPED.Kernel.tdx(versoin="6"), Code.E_KEY),
        (lambda: UNTYPED.Kernel.tdx("6.8"), Code.E_TYPE),
        (lambda: UNTYPED.Kernel.tdx(version=6.8), Code.E_TYPE),
        (lambda: UNTYPED.Kernel.tdx(cmdline="a\nb"), Code.E_VALUE),
        (lambda: UNTYPED.Kernel.tdx(config={"A": "y", "CONFIG_A": "n"}), Code.E_CONFLICT),
        (lambda: UNTYPED.Kernel.tdx(config={"A B": "y"}), Code.E_VALUE),
        (lambda: UNTYPED.Kernel.tdx(config={"A": "x\ny"}), Code.E_VALUE),
        (lambda: UNTYPED.Kernel.tdx(config={"A": None}), Code.E_TYPE),
        (lambda: UNTYPED.Image.partition("/", fs="ntfs", size="1G"), Code.E_VALUE),
        (lambda: UNTYPED.Image.partition("/", fs="ext4", size="huge"), Code.E_VALUE),
        (lambda: UNTYPED.Image.partition("/", fs="ext4", size=-1), Code.E_VALUE),
        (lambda: UNTYPED.Build.script(name="x", build_script="y", artifacts={}), Code.E_VALUE),
        (lambda: UNTYPED.Build.script(name="x", build_script="y", artifacts={"../a": "/a"}), Code.E_PATH),
        (lambda: UNTYPED.Build.script(name="x", build_script="y", artifacts={"a": "a"}), Code.E_PATH),
        (lambda: UNTYPED.Build.script(name="x"), Code.E_TYPE),
        (lambda: UNTYPED.Policy(network_mode="off"), Code.E_VALUE),
        (lambda: UNTYPED.Policy(True), Code.E_TYPE),
        (lambda: UNTYPED.LimaMkosiBackend(memory="12GB"), Code.E_VALUE),
        (lambda: UNTYPED.LimaMkosiBackend(cpus=0), Code.E_VALUE),
        (lambda: UNTYPED.TimeSynchronisation(servers=["a b"]), Code.E_VALUE),
    ],
)
def test_bad_values_are_raised_where_they_are_made(make: Any, code: Code) -> None:
    with pytest.raises(DiagnosticError) as caught:
        make()
    fault = caught.value.diagnostics[0]
    assert (fault.code, fault.span.file) == (code, "test_image.py")
    assert fault.span.line > 0


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [
        ("base", "debian", Code.E_VALUE),
        ("name", "a/b", Code.E_VALUE),
        ("kernel", "6.8", Code.E_TYPE),
        ("init", "runit", Code.E_VALUE),
        ("default_target", "minimal", Code.E_VALUE),
        ("snapshot", "2025", Code.E_VALUE),
        ("mirror", "mirror", Code.E_VALUE),
        ("locale", "", Code.E_VALUE),
        ("docs", None, Code.E_TYPE),
        ("cloud", "aws", Code.E_VALUE),
        ("backend", "local", Code.E_TYPE),
        ("nmae", "x", Code.E_KEY),
        ("install", "x", Code.E_KEY),
    ],
)
def test_bad_assignments_are_collected(name: str, value: object, code: Code) -> None:
    image = Image()
    setattr(image, name, value)
    (fault,) = image.faults
    assert fault.code is code


def test_an_argument_given_twice_is_a_fault() -> None:
    image = Image()
    image.install("curl")
    getattr(image, "file")("/a", dest="/b", content="x")  # noqa: B009 - what a type checker refuses
    assert [fault.code for fault in image.faults] == [Code.E_TYPE]


def test_copying_and_hasattr_are_not_misled(tmp_path: Path) -> None:
    image = _image(tmp_path)
    assert not hasattr(image, "no_such_thing")
    assert hasattr(image, "install")
