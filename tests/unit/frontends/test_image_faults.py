"""The checks of the DSL's arguments: each wrong one is a diagnostic at its line, and declares nothing."""

from __future__ import annotations

import types
from pathlib import Path
from typing import Any

import pytest
from support.declared import new_image
from tdx import Build, Image, Kernel
from tdx.backends import LimaMkosiBackend
from tdx.modules import TimeSynchronisation
from tdx.policy import Policy
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import Layer

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
    image = new_image(tmp_path)
    getattr(image, method)(*arguments, **keywords)
    (fault,) = image.faults
    assert fault.code is code
    assert fault.span.file.endswith("test_image_faults.py")
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
    assert (fault.code, fault.span.file) == (code, "test_image_faults.py")
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
