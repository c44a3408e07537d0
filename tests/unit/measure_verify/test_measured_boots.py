"""Real boots of an image of ours under OVMF with a software TPM, kept as data, against what was predicted for each.

The integration test ``test_measured_boot.py`` makes such boots anew; names say how the image was started and by which
version of systemd-stub.
"""

from __future__ import annotations

import base64
import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import ROOT, invoke
from support.measured import (
    DATA,
    MEASURED_PCRS,
    Shown,
    assert_events,
    assert_registers,
    assert_td_events,
    read_report,
    saved_boot,
)
from tdxc_runtime.measure.events import Algorithm, Register, replay, variants

BOOTS = ("direct-257", "direct-261", "direct-262", "disk-252", "disk-254", "disk-257", "disk-259", "profile-257")


def test_all_boots_are_looked_at() -> None:
    assert tuple(sorted(path.name for path in DATA.iterdir())) == BOOTS


@pytest.mark.parametrize("name", BOOTS)
def test_every_predicted_pcr_is_as_booted(name: str) -> None:
    assert len(assert_registers(*saved_boot(name))) == 2 * len(MEASURED_PCRS)


@pytest.mark.parametrize("name", BOOTS)
def test_every_predicted_event_is_in_the_firmwares_log_and_no_other(name: str) -> None:
    assert assert_events(*saved_boot(name)) >= 18


def report(shown: Shown) -> str:
    """The console's lines of a boot, as the recipe of these boots writes them."""
    data = base64.encodebytes(shown.log).decode().split()
    pcrs = [f"pcr {bank} {number} {value}" for bank, values in shown.pcrs.items() for number, value in values.items()]
    lines = ("report: begin", *(f"log {word}" for word in data), *pcrs)
    return "\n".join((*lines, f"sum {hashlib.sha256(shown.log).hexdigest()}  log", "report: end")) + "\n"


@pytest.mark.parametrize(
    ("line", "garbled"),
    [
        ("report: begin", "report: [ 9.1] rcu: x"),
        ("report: end", "report: e[ 9.1] rcu: x"),
        ("log ", "log AA\n[ 9.1] x\n"),
        ("pcr sha256 4 ", "pcr sha256 4 ab\n[ 9.1] x\n"),
    ],
)
def test_a_report_that_another_line_garbled_gives_way_to_the_next(line: str, garbled: str) -> None:
    _, shown = saved_boot("disk-257")
    whole = report(shown)
    assert read_report(whole) == shown
    spoiled = whole.replace(line, garbled, 1)
    assert read_report(spoiled) is None
    assert read_report(spoiled + whole) == shown


@pytest.mark.parametrize("name", ["direct-257", "direct-261", "direct-262", "disk-257", "disk-259"])
def test_a_td_would_receive_the_same_events(name: str) -> None:
    assert_td_events(*saved_boot(name))


def test_what_a_stub_tells_the_tpm_alone_is_not_in_rtmr2() -> None:
    """Before 256 a stub knows no TD; 257 tells a TD of the sections and not of the choice of a profile."""
    for name, missing in (("disk-252", 8), ("profile-257", 1)):
        manifest, shown = saved_boot(name)
        logged = [e for e in shown.events if e.register and e.register.index in range(8, 16) and e.is_extended]
        assert len(variants(manifest.prediction, Register.parse("rtmr2"))[0].events) == len(logged) - missing


@pytest.mark.parametrize("name", BOOTS)
def test_verify_accepts_the_boot(name: str) -> None:
    folder = DATA / name
    arguments = ("--tpm-log", folder / "log", "--pcrs", folder / "pcrs.json", "--manifest", folder / "manifest.json")
    outcome = invoke("verify", *arguments, "--format", "json")
    assert outcome.status == 0, outcome.out
    checks = {check["name"] for check in outcome.data()["checks"]}
    assert {f"pcr{index} (sha384) matches the manifest" for index in MEASURED_PCRS} <= checks


@pytest.mark.parametrize(
    ("booted", "predicted", "words"),
    [
        ("disk-252", "disk-257", "another systemd-stub runs"),
        ("direct-262", "direct-257", "another systemd-stub runs"),
        ("profile-257", "direct-257", "the command line of the running image"),
    ],
)
def test_verify_tells_one_real_boot_from_another(booted: str, predicted: str, words: str) -> None:
    outcome = invoke("verify", "--tpm-log", DATA / booted / "log", "--manifest", DATA / predicted / "manifest.json")
    assert outcome.status == 4
    assert words in outcome.out
    assert "likely cause: " in outcome.out


def test_a_changed_byte_of_a_log_is_found() -> None:
    manifest, shown = saved_boot("disk-257")
    register = Register.pcr(11)
    events = variants(manifest.prediction, register)[0].events
    assert replay(events, register, Algorithm.SHA256) == shown.pcr(register, Algorithm.SHA256)
    assert replay(events[:-1], register, Algorithm.SHA256) != shown.pcr(register, Algorithm.SHA256)


def test_the_page_on_measurement_shows_what_these_boots_give(tmp_path: Path) -> None:
    shutil.copytree(DATA, tmp_path, dirs_exist_ok=True)
    page = (ROOT / "docs/measurement.md").read_text(encoding="utf-8")
    shown = re.findall(r"^```console boots\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    assert len(shown) == 2
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    for command, expected in re.findall(r"^\$ (.*)\n((?:[^$].*\n)*)", "".join(shown), re.MULTILINE):
        arguments = ["bash", "-c", command]
        done = subprocess.run(arguments, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        lines = expected.splitlines()
        pattern = "".join(r"(?:.*\n)*" if line == "…" else re.escape(line).replace("…", ".*") + r"\n" for line in lines)
        assert re.fullmatch(pattern, done.stdout), f"{command}\n{done.stdout}\n{done.stderr}"
