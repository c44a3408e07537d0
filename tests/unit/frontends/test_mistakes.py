"""Plausible mistakes of a recipe's author: one diagnostic for each, at its place, with a fix that works."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import invoke

HEAD = """\
from tdx import Build, Image, Kernel, SecretTarget, git
from tdx.modules import DiskEncryption, KeyGeneration, SecretDelivery
img = Image("n", base="debian/trixie")
"""

PYTHON = [
    # what is called, and how
    ('img.module(KeyGeneration(strategy="tpm"))', "E_TYPE 4:1", "not a KeyGeneration", "Module(…).apply(image)"),
    ('with img.module(""):\n    img.install("jq")', "E_VALUE 4:6", "is empty", ""),
    (
        'img.profile("dev")\nimg.install("gdb")',
        "E_RECIPE 4:1",
        "no `with` enters it",
        "write `with image.profile('dev'):`",
    ),
    ('KeyGeneration("tpm").aply(img)', "E_RECIPE 4:1", "no attribute 'aply'", "did you mean 'apply'?"),
    ("from tdx.modules import KeyGenerator", "E_RECIPE 4:1", "'KeyGenerator'", "did you mean 'KeyGeneration'?"),
    ('img.kernel = Kernel(version="6.12")', "E_RECIPE 4:14", "unexpected keyword argument 'version'", ""),
    # how many arguments, and which
    ('img.file("/etc/motd", "hello")', "E_TYPE 4:1", "no more than 1 argument without", "name them: dest"),
    ('img.debloat("yes")', "E_TYPE 4:1", "takes no arguments without a name", "name them: enabled"),
    ('img.install(["jq", "curl"])', "E_TYPE 4:1", "not a list", "leave the brackets out"),
    ('img.partitions("/", "ext4", "2G")', "E_TYPE 4:1", "not the string '/'", ""),
    ('img.service("a", execs="/usr/bin/a")', "E_KEY 4:1", "no keyword 'execs'", "did you mean 'exec'?"),
    # values
    ('DiskEncryption(device="vdb").apply(img)', "E_PATH 4:1", "device 'vdb'", "write '/dev/vdb'"),
    ('img.service("a", exec="/a", devices=["dev/sda"])', "E_PATH 4:1", "item 1: 'dev/sda'", "write '/dev/sda'"),
    ('img.service("a", exec="/a", restart_sec="5 minuts")', "E_VALUE 4:1", "'5 minuts' is not a time span", ""),
    ('img.file("~/x", content="x")', "E_PATH 4:1", "'~/x'", "write where it is in the image"),
    (
        'token = SecretDelivery().secret("t")\nimg.service("a", exec="/a", secrets=token)',
        "E_TYPE 5:1",
        "secrets must be a list",
        "put it into a list",
    ),
    (
        'Build.go(name="p", src=git("git@example.org:a/b.git", rev="v1"), output="/usr/bin/p")',
        "E_VALUE 4:24",
        "is not a URI",
        "write 'https://example.org/a/b.git'",
    ),
    ('img.mirror = "deb.example.org/debian"', "E_VALUE 4:1", "not a URI", "write 'https://deb.example.org/debian'"),
    (
        'img.firmware = "./my.fd"',
        "E_PATH 4:1",
        "the source './my.fd' does not exist",
        "paths start at the recipe's folder",
    ),
    ('img.file("/var/run/x", content="x")', "E_PATH 4:1", "below /var/run, which the running", "that the image keeps"),
    ('img.repository("a", "https://b", ["c"])', "E_TYPE 4:1", "no more than 1 argument", "name them: name, uri"),
    ('img.mirror = "somewhere"', "E_VALUE 4:1", "not a URI", "begin with the scheme"),
    (
        "img.template('/etc/x', content=\"{% include 'y' %}\", vars={})",
        "E_TEMPLATE 4:1",
        "takes in another template",
        "write the other's text into it",
    ),
    (
        'img.install("jq/trixie-backports")',
        "E_REFERENCE 4:1",
        "the suite 'trixie-backports', which no source",
        "declare it: suite('trixie-backports')",
    ),
    (
        'img.suite("trixie-backports")\nimg.install("jq/trixie-backport")',
        "E_REFERENCE 5:1",
        "'trixie-backport'",
        "did you mean 'trixie-backports'?",
    ),
    (
        'SecretDelivery().secret("t", targets=SecretTarget.file("/run/secrets/t"))',
        "E_TYPE 4:1",
        "not a SecretTarget",
        "put it into a list: […]",
    ),
    (
        'img.build(Build.go(name="p", src="https://example.org/p.git", output="/usr/bin/p"))',
        "E_PATH 4:11",
        "is an address",
        "git(url, rev=…)",
    ),
    (
        'Build.script(name="p", build_script="make", artifacts={"/x": "/usr/bin/x"})',
        "E_PATH 4:1",
        "artifacts key '/x' is not a path",
        "",
    ),
    ('Kernel.tdx(version="6.12", config={"TLS": "yes"})', "E_VALUE 4:1", "['TLS']: 'yes' is neither", "write 'y'"),
]

YAML = [
    ("install:\n\t- jq", "E_SYNTAX 3:1", "found character '\\t'", "indent with spaces"),
    ("install:\n  - jq\n  -curl", "E_SYNTAX 5:1", "could not find expected ':'", "'- ' with its blank"),
    ("install: [jq", "E_SYNTAX 3:1", "stream end", "close the bracket"),
    ("version: 'it's'", "E_SYNTAX 2:14", "expected <block end>", "a quote is written twice"),
    ('version: "1', "E_SYNTAX 3:1", "unexpected end of stream", "close the quote"),
    ("services:\n  - name: a\n    exec: /a: b", "E_SYNTAX 4:13", "mapping values", "': ' into quotes"),
    ("run: [echo hi: there]", "E_KEY 2:7", "no key 'echo hi'", "it takes: command"),
    ("files:\n  - /etc/motd: hello", "E_KEY 3:5", "no key '/etc/motd'", "it takes: dest"),
    ("modules:\n  - use: Tdxs", "E_MODULE 3:10", "not the dotted name", "write 'tdx.modules.Tdxs'"),
    ("modules:\n  - use: GcpPlatform", "E_MODULE 3:10", "not the dotted name", "write 'tdx.platforms.GcpPlatform'"),
    (
        'kernel:\n  version: "6.12"\n  config: {IO_URING: no}',
        "E_VALUE 4:11",
        "config ['IO_URING']: 'no' is neither y, m nor n",
        "write 'n'",
    ),
]


def _check(recipe: Path, text: str, place: str, message: str, fix: str) -> None:
    recipe.write_text(text, encoding="utf-8")
    outcome = invoke("compile", recipe, "-o", recipe.parent / "out", "--format", "json")
    assert outcome.status == 1
    assert [entry.name for entry in recipe.parent.iterdir()] == [recipe.name]
    (fault,) = outcome.diagnostics()
    assert f"{fault['code']} {fault['line']}:{fault['column']}" == place, fault
    assert fault["file"] == recipe.name
    assert message in fault["message"]
    assert fix in (fault["fix"] or "")
    assert bool(fix) == bool(fault["fix"])


@pytest.mark.parametrize(("text", "place", "message", "fix"), PYTHON)
def test_a_mistake_in_python(tmp_path: Path, text: str, place: str, message: str, fix: str) -> None:
    _check(tmp_path / "recipe.py", f"{HEAD}{text}\n", place, message, fix)


def test_two_disks_that_differ_in_nothing_say_what_to_change(tmp_path: Path) -> None:
    disks = "".join(f"DiskEncryption(device='/dev/vd{letter}').apply(img)\n" for letter in "bc")
    (tmp_path / "recipe.py").write_text(f"{HEAD}KeyGeneration().apply(img)\n{disks}", encoding="utf-8")
    faults = invoke("check", tmp_path / "recipe.py", "--format", "json").data()["diagnostics"]
    assert sorted(fault["fix"].split(",")[0] for fault in faults) == [
        "give one of them another mount_at=",
        "give one of them another name=",
    ]


@pytest.mark.parametrize(("text", "place", "message", "fix"), YAML)
def test_a_mistake_in_yaml(tmp_path: Path, text: str, place: str, message: str, fix: str) -> None:
    _check(tmp_path / "recipe.yaml", f"name: n\n{text}\n", place, message, fix)


@pytest.mark.parametrize("span", ["5", "5s", "1min 30s", "1min30s", "1.5h", "2 days 3 h", "500ms", "infinity", "3µs"])
def test_time_spans_of_systemd_are_taken(tmp_path: Path, span: str) -> None:
    (tmp_path / "recipe.py").write_text(f"{HEAD}img.service('a', exec='/a', restart_sec={span!r})\n", encoding="utf-8")
    assert invoke("check", tmp_path / "recipe.py").status == 0


def test_packages_of_declared_suites_and_of_the_release_itself(tmp_path: Path) -> None:
    lines = (
        'img.suite("sid")',
        'img.repository("own", uri="https://example.org/debian", suites=["main"], key="key.asc")',
        'img.install("a/sid", "b/main", "c/trixie", "d/trixie-security", "e=1.0")',
        'with img.profile("dev"):\n    img.suite("trixie-backports")\n    img.install("f/trixie-backports", "g/sid")',
    )
    (tmp_path / "recipe.py").write_text(HEAD + "\n".join(lines), encoding="utf-8")
    (tmp_path / "key.asc").write_text("-----BEGIN PGP PUBLIC KEY BLOCK-----\n", encoding="utf-8")
    outcome = invoke("check", tmp_path / "recipe.py")
    assert outcome.status == 0, outcome.err


def test_a_file_that_is_no_configuration_is_one_mistake(tmp_path: Path) -> None:
    (tmp_path / "k.config").write_text("a line of something else\n" * 5000, encoding="utf-8")
    (tmp_path / "recipe.py").write_text(f"{HEAD}img.kernel = Kernel.tdx(config_file='k.config')\n", encoding="utf-8")
    faults = invoke("check", tmp_path / "recipe.py", "--format", "json").data()["diagnostics"]
    assert [(fault["file"], fault["line"]) for fault in faults] == [("k.config", line) for line in (1, 2, 3)]
    assert faults[-1]["notes"][0]["message"].startswith("4997 more lines are none either")
