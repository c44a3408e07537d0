"""What systemd would refuse of a unit is an error of the compiler, and nothing else is."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import invoke
from tdxc.passes.check_units import command_fault
from tdxc.passes.known_directives import known_directives

GOOD = [
    "/bin/true",
    "true",
    "-+/bin/true x",
    "@/bin/true zero",
    '"/bin/true" x',
    '/bin/true "a"b c\\"d',
    "/bin/true %n %%F",
    "/bin/true \\q",
    "/bin/true ; /bin/true",
    "/bin/sh -c 'echo \"a'",
    "/bin/true %",
    "/bin/true 100%% %i",
    "/bin/true %-",
]
BAD = [
    '/bin/true "x',
    "/bin/true 'x",
    "/bin/true it's",
    "bin/true",
    "./true",
    "/bin/",
    "-",
    "/bin/true %Z",
    "/bin/true %n%F",
    "/bin/true 5%0",
    "/bin/true 'a\\'",
]


@pytest.mark.parametrize(("line", "good"), [(line, True) for line in GOOD] + [(line, False) for line in BAD])
def test_command_lines_as_systemd_reads_them(tmp_path: Path, line: str, good: bool) -> None:
    unit = tmp_path / "t.service"
    unit.write_text(f"[Service]\nType=oneshot\nExecStart={line}\n")
    verify = ["systemd-analyze", "verify", "--man=no", str(unit)]
    said = subprocess.run(verify, capture_output=True, text=True, timeout=60, check=False).stderr
    refused = [text for text in said.splitlines() if f"{unit}:3:" in text and "unknown escape sequences" not in text]
    assert (not refused) is good, said
    assert (command_fault(line) is None) is good


HEAD = 'from tdx import Image\nimg = Image("n", base="debian/trixie")\n'


@pytest.mark.parametrize(
    ("text", "code", "message", "fix"),
    [
        ('img.service("a", exec="/a \\"b")', "E_SYNTAX", "a quote in it is not closed", "close it"),
        ('img.service("a", exec="/a", exec_stop="stop/a")', "E_SYNTAX", "'stop/a' is neither", "its whole path"),
        ('img.service("a", exec="/bin/date +%F")', "E_SYNTAX", "'%F' is no specifier", "write '%%F'"),
        ('img.unit("a.service", {"Service": {"ExecStart": "/a \'b"}})', "E_SYNTAX", "not closed", "close it"),
        ('img.drop_in("a.service", {"Service": {"ExecStartPre": "./b"}})', "E_SYNTAX", "'./b'", "whole path"),
        ('img.service("a", exec=["/a", "/b"])', "E_VALUE", "'a.service' starts 2 commands", "type='oneshot'"),
        (
            'img.service("a", exec="/a", extra_unit={"Service": {"ExecStart": "/b"}})',
            "E_VALUE",
            "starts 2 commands",
            "type='oneshot'",
        ),
        (
            'img.service("a", exec="/a", extra_unit={"service": {"MemoryMax": "8G"}})',
            "E_KEY",
            "section [service]",
            "did you mean 'Service'?",
        ),
        ('img.drop_in("a.timer", {"Service": {"Nice": 5}})', "E_KEY", "section [Service]", "Unit, Install, Timer"),
        ('img.socket("a")', "E_VALUE", "'a.socket' listens nowhere", "listen_stream"),
        ('img.timer("a", persistent=True)', "E_VALUE", "'a.timer' never elapses", "on_calendar"),
    ],
)
def test_a_unit_that_systemd_would_not_take(tmp_path: Path, text: str, code: str, message: str, fix: str) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text(f"{HEAD}{text}\n")
    (fault,) = invoke("check", recipe, "--format", "json").data()["diagnostics"]
    assert (fault["code"], fault["line"], fault["column"]) == (code, 3, 1)
    assert message in fault["message"]
    assert fix in fault["fix"]


@pytest.mark.parametrize(
    "text",
    [
        'img.service("a", exec=["/a", "/b"], type="oneshot")',
        'img.service("a", exec="/a", extra_unit={"Service": {"ExecStart": ["", "/b"]}})',
        'img.service("a", exec=["/a", "/b"], extra_unit={"Service": {"Type": "oneshot"}, "X-Mine": {"A": "b"}})',
        'img.socket("a", extra_unit={"Socket": {"ListenFIFO": "/run/a"}}, service="systemd-journald")',
        'img.service("a", exec="/a", extra_unit={"Service": {"X-Mine": "b", "StartLimitBurst": 1, "MemoryMax": "8G"}})',
    ],
)
def test_what_systemd_takes_compiles(tmp_path: Path, text: str) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text(f"{HEAD}{text}\n")
    assert invoke("check", recipe, "--strict").status == 0


@pytest.mark.parametrize(
    ("text", "code", "message", "fix"),
    [
        (
            'img.service("a", exec="/a", extra_unit={"Service": {"MemoryMx": "8G"}})',
            "W_UNKNOWN_DIRECTIVE",
            "'a.service': [Service] has no MemoryMx= that systemd 257 knows",
            "did you mean 'MemoryMax'?",
        ),
        (
            'img.service("a", exec="/a", overrides={"ProtectSytem": "full"})',
            "W_UNKNOWN_DIRECTIVE",
            "[Service] has no ProtectSytem=",
            "did you mean 'ProtectSystem'?",
        ),
        (
            'img.service("a", exec="/a", overrides={"privateTmp": False})',
            "E_KEY",
            "[Service] has no privateTmp=, so",
            "did you mean 'PrivateTmp'?",
        ),
        ('img.drop_in("a.path", {"Path": {"path-changed": "/x"}})', "E_KEY", "no path-changed=", "'PathChanged'"),
        (
            'img.service("a", exec="/a", extra_unit={"Service": {"StartLimitIntervalSec": 5}})',
            "W_UNKNOWN_DIRECTIVE",
            "[Service] has no StartLimitIntervalSec=",
            "it belongs into [Unit]",
        ),
        (
            'img.unit("a.target", {"Unit": {"Description": "x"}, "Install": {"Wants": "b.service"}})',
            "W_UNKNOWN_DIRECTIVE",
            "'a.target': [Install] has no Wants=",
            "it belongs into [Unit]",
        ),
        (
            'img.drop_in("a.timer", {"Timer": {"Elapses": "x"}})',
            "W_UNKNOWN_DIRECTIVE",
            "[Timer] has no Elapses=",
            "begins with 'X-'",
        ),
    ],
)
def test_a_directive_that_systemd_ignores(tmp_path: Path, text: str, code: str, message: str, fix: str) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text(f"{HEAD}{text}\n")
    [found] = invoke("check", recipe, "--format", "json").data()["diagnostics"]
    assert (found["code"], found["line"], found["column"]) == (code, 3, 1)
    assert message in found["message"]
    assert fix in found["fix"]


def test_no_two_names_are_twins() -> None:
    """Which makes a name that differs in case or dashes from a known one surely wrong."""
    for names in known_directives().values():
        assert len({name.lower() for name in names}) == len(names)
        assert all(name.isascii() and name.isalnum() for name in names)


def test_a_recipe_without_free_settings_does_not_read_the_list(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.py"
    recipe.write_text(f'{HEAD}img.service("a", exec="/a")\n')
    script = "import sys; from tdxc.cli.main import run_program; run_program(sys.argv[1:]); print(*sys.modules)"
    ran = subprocess.run(
        [sys.executable, "-c", script, "check", str(recipe)], capture_output=True, text=True, check=True
    )
    assert "tdxc.passes.check_units" in ran.stdout.split()
    assert "tdxc.passes.known_directives" not in ran.stdout.split()
