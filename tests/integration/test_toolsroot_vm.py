"""Machines for real, without an image: firmware, software TPM, console, and that nothing of them stays."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.vm import Accelerator, FromDisks, Machine, UkiOnDisk, boot, find_vm_tools
from tdxc_runtime.vm.accelerator import run_probe

pytestmark = pytest.mark.integration

_BOOTER = """\
import sys
from pathlib import Path
from tdxc_runtime.vm import FromDisks, Machine, boot
with boot(Machine(boot=FromDisks(), network=False, memory_mib=256), on_line=lambda l: print(l.text, flush=True)) as vm:
    vm.wait(300)
"""


def _mentions(text: str) -> list[str]:
    found = []
    for command in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = command.read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            continue
        if text in words:
            found.append(words[:200])
    return found


def test_the_probe_runs_to_its_exit_where_guests_run(tmp_path: Path) -> None:
    assert run_probe(find_vm_tools(), tmp_path, Accelerator.TCG) == ""
    assert not any(tmp_path.iterdir())


def test_firmware_speaks_and_state_is_kept_and_nothing_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path / "scratch"))
    monkeypatch.setattr("tempfile.tempdir", None)
    (tmp_path / "scratch").mkdir()
    state = tmp_path / "state, kept"
    machine = Machine(boot=FromDisks(), memory_mib=256, state=state)
    for _ in range(2):
        with boot(machine) as vm:
            vm.console.wait_for("BdsDxe|UEFI|Shell|PXE|HTTP", 420)
            assert _mentions(str(tmp_path))
        assert not _mentions(str(tmp_path))
        assert not any((tmp_path / "scratch").iterdir())
        assert (state / "uefi-variables.fd").stat().st_size == 540672
        assert any((state / "tpm").iterdir())


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGINT])
def test_a_killed_booter_takes_its_machine_along(number: signal.Signals, tmp_path: Path) -> None:
    (tmp_path / "scratch").mkdir()
    booter = subprocess.Popen(
        [sys.executable, "-c", _BOOTER],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        env={**os.environ, "TMPDIR": str(tmp_path / "scratch")},
    )
    assert booter.stdout is not None
    assert booter.stdout.readline() != b""
    assert any("qemu-system" in words for words in _mentions(str(tmp_path)))
    booter.send_signal(number)
    booter.communicate(timeout=120)
    assert booter.returncode != 0
    deadline = time.monotonic() + 90
    while _mentions(str(tmp_path)) or any((tmp_path / "scratch").iterdir()):
        assert time.monotonic() < deadline, _mentions(str(tmp_path))
        time.sleep(0.1)


def test_a_missing_image_is_a_diagnostic_before_anything_starts(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as raised, boot(Machine(boot=UkiOnDisk(uki=tmp_path / "absent.efi"))):
        pytest.fail("booted")
    assert raised.value.diagnostics[0].code is Code.E_ARTIFACT
