"""The DSL's declarations as IR: settings, profiles, kernel, builds, scripts, policy, storage."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.declared import faults_of, new_image
from tdx import Build, Image, Kernel
from tdx._values import size_bytes
from tdx.modules import TimeSynchronisation
from tdx.platforms import AzurePlatform, GcpPlatform
from tdx.policy import Policy
from tdxc.diagnostics import Code
from tdxc.ir import AuthoredImage, Layer, MutableRefPolicy, NetworkMode


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
    image.locale, image.docs, image.firmware = None, True, "ovmf"
    image.cloud, image.attestation_backend, image.default_target = "azure", "azure", "my.target"
    layer = image.freeze().layer
    found = (layer.init, layer.locale, layer.docs, layer.firmware, layer.cloud, layer.default_target)
    assert [setting.value for setting in found if setting] == ["/usr/bin/my-init", "", "yes", "ovmf", "azure",
                                                               "my.target"]  # fmt: skip
    assert (image.init, image.docs, image.locale) == ("/usr/bin/my-init", True, None)


def test_a_firmware_of_the_recipes_folder_is_read(tmp_path: Path) -> None:
    image = new_image(tmp_path)
    (tmp_path / "fw").mkdir()
    (tmp_path / "fw/OVMF.fd").write_bytes(b"firmware")
    image.firmware = "./fw/OVMF.fd"
    firmware = image.freeze().layer.firmware
    assert firmware is not None
    assert firmware.value == "fw/OVMF.fd"
    assert firmware.content is not None
    assert firmware.content.data == b"firmware"


def test_profiles_hold_what_is_declared_inside_of_them(tmp_path: Path) -> None:
    image = new_image(tmp_path)
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
    image = new_image(tmp_path)
    with pytest.raises(ValueError, match="mine"), image.profile("a"):
        raise ValueError("mine")
    image.install("base")
    assert [package.name for package in image.freeze().layer.packages] == ["base"]


def test_profiles_do_not_nest_and_all_of_none_is_a_fault(tmp_path: Path) -> None:
    image = new_image(tmp_path)
    with image.all_profiles():
        pass
    with image.profile("a"), image.profile("b"):
        image.install("x")
    with image.module("M"), image.profile("c"):
        pass
    with image.profile("not a name"):
        image.install("x")
    codes = [code for code, _message in faults_of(image)]
    assert sorted(codes) == sorted([Code.E_REFERENCE, Code.E_UNSUPPORTED, Code.E_UNSUPPORTED, Code.E_VALUE])


def test_calls_that_add_up_and_calls_that_replace(tmp_path: Path) -> None:
    image = new_image(tmp_path)
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
    image = new_image(tmp_path)
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
    image = new_image(tmp_path)
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
    image = new_image(tmp_path / "recipe")
    image.build(Build.script(name="t", src="tool", build_script="x", artifacts={"a": "/a"}))
    assert faults_of(image)[0][0] is Code.E_PATH


def test_scripts_keep_the_recipes_order_and_lose_their_shebang(tmp_path: Path) -> None:
    (tmp_path / "hard en.sh").write_text("#!/usr/bin/env bash\necho hi\n")
    (tmp_path / "python.sh").write_text("#!/usr/bin/python3\n")
    (tmp_path / "empty.sh").write_text("#!/bin/sh\n\n")
    image = new_image(tmp_path)
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
    assert [code for code, _message in faults_of(image)] == [Code.E_UNSUPPORTED, Code.E_VALUE]


def test_policy_and_repository(tmp_path: Path) -> None:
    (tmp_path / "key.asc").write_text("KEY")
    image = new_image(tmp_path)
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
    image = new_image(tmp_path)
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
    image = new_image(tmp_path)
    TimeSynchronisation(servers=["a.example.org"]).apply(image)
    with image.profile("azure"):
        AzurePlatform().apply(image)
    with image.profile("gcp"):
        GcpPlatform().apply(image)
    frozen = image.freeze()
    assert [module.name for module in frozen.layer.modules] == ["TimeSynchronisation"]
    targets = [profile.layer.modules[0].layer.output_targets[0].name for profile in frozen.profiles]
    assert targets == ["azure", "gcp"]


def test_copying_and_hasattr_are_not_misled(tmp_path: Path) -> None:
    image = new_image(tmp_path)
    assert not hasattr(image, "no_such_thing")
    assert hasattr(image, "install")
