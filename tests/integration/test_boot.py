"""The basic example in both forms: baked under different circumstances to the same bytes, and booted."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.consoles import wait_for_all
from support.qemu_crashes import unless_qemu_crashes
from tdxc_runtime.vm import ConsoleLine, Machine, UkiOnDisk, boot

ROOT = Path(__file__).resolve().parents[2]
UKI_LIMIT_BYTES = 40 * 10**6

pytestmark = pytest.mark.integration


def bake(recipe: str, folder: Path, *, umask: int, **environment: str) -> Path:
    """Bake in a process of its own, as a user does, under another umask, locale, time zone and folder."""
    folder.mkdir()
    command = [sys.executable, "-m", "tdxc.cli", "build", str(ROOT / "examples" / recipe)]
    subprocess.run(command, cwd=folder, umask=umask, env={**os.environ, **environment}, check=True)
    return folder / "build" / "output"


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The outputs of the Python recipe and of its YAML twin."""
    place = tmp_path_factory.mktemp("bakes")
    return (
        bake("qemu_basic.py", place / "one", umask=0o022, TZ="UTC", LC_ALL="C", PYTHONHASHSEED="1"),
        bake("qemu_basic.yaml", place / "another folder", umask=0o077, TZ="Asia/Tokyo", LC_ALL="C.UTF-8"),
    )


@pytest.fixture(scope="module")
def console(outputs: tuple[Path, Path]) -> list[ConsoleLine]:
    """Everything on the console up to the target of the image."""

    def attempt() -> list[ConsoleLine]:
        lines: list[ConsoleLine] = []
        with boot(Machine(boot=UkiOnDisk(uki=outputs[0] / "qemu-basic.efi")), on_line=lines.append) as machine:
            wait_for_all(machine, lines, r"greeter: sandboxed with", r"Reached target.*minimal\.target")
        return lines

    return unless_qemu_crashes(attempt)


def text(console: list[ConsoleLine]) -> str:
    return "\n".join(line.text for line in console)


def test_the_two_forms_bake_to_the_same_bytes(outputs: tuple[Path, Path]) -> None:
    for name in ("qemu-basic.efi", "qemu-basic.qcow2", "qemu-basic.manifest", "image.json"):
        assert (outputs[0] / name).read_bytes() == (outputs[1] / name).read_bytes(), name


def test_the_uki_is_small(outputs: tuple[Path, Path]) -> None:
    assert (outputs[0] / "qemu-basic.efi").stat().st_size <= UKI_LIMIT_BYTES


def test_the_target_is_reached_and_no_unit_fails(console: list[ConsoleLine]) -> None:
    found = text(console)
    assert re.search(r"Reached target.*minimal\.target", found)
    assert "FAILED" not in found
    assert "Failed to start" not in found
    assert "Dependency failed" not in found


def test_boot_steps_run_in_order_before_the_service(console: list[ConsoleLine]) -> None:
    found = text(console)
    marks = ["boot step: prepare", "boot step: announce", "runtime-init: 2 steps done", "Starting greeter.service"]
    places = [found.index(mark) for mark in marks]
    assert places == sorted(places)


def test_the_service_runs_as_its_user_inside_its_sandbox(console: list[ConsoleLine]) -> None:
    found = text(console)
    assert "greeter: hello from a trust domain, says greeter, after prepare,announce" in found
    assert "greeter: sandboxed with NoNewPrivs: 1 Seccomp: 2" in found


def test_the_firewall_is_loaded_before_the_network(console: list[ConsoleLine]) -> None:
    found = text(console)
    assert found.index("Finished nftables-load.service") < found.index("Starting systemd-networkd.service")


def test_the_time_to_the_first_line_is_recorded(console: list[ConsoleLine], record_testsuite_property: object) -> None:
    line = next(line.text for line in console if "greeter: hello" in line.text)
    match = re.match(r"\[\s*([0-9.]+)\]", line)
    assert match is not None, line
    assert callable(record_testsuite_property)
    record_testsuite_property("kernel_start_to_first_line_s", match[1])
    print(f"kernel start to the service's first line: {match[1]} s")
