"""A QEMU that crashes by itself, which a script plays: started again where nothing is lost, else told as such."""

from __future__ import annotations

from pathlib import Path

import pytest
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.vm import Accelerator, ConsoleLine, FromDisks, Machine, VmTools, boot, boot_attached

ASSERTION = (
    "qemu-system-x86_64: ../system/physmem.c:2523: iotlb_to_section: "
    "Assertion `section_index < d->map.sections_nb' failed."
)
MACHINE = Machine(boot=FromDisks(), uefi=False, tpm=False, network=False, accelerator=Accelerator.TCG)
TOOLS = VmTools(qemu_version="10.0")


@pytest.fixture
def starts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder whose file ``script`` is what QEMU does; ``$turn`` counts its starts, which ``starts`` lists."""
    (tmp_path / "bin").mkdir()
    program = tmp_path / "bin/qemu-system-x86_64"
    head = f"#!/bin/sh\necho start >>{tmp_path}/starts\nturn=$(wc -l <{tmp_path}/starts)\n"
    (tmp_path / "assertion").write_text(f"{ASSERTION}\n")
    program.write_text(f"{head}crash() {{ cat {tmp_path}/assertion >&2; kill -ABRT $$; }}\n. {tmp_path}/script\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}/bin:/usr/bin:/bin")
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    return tmp_path


def count(starts: Path) -> int:
    return len((starts / "starts").read_text().splitlines())


def test_a_crash_before_the_first_word_is_no_end(starts: Path) -> None:
    (starts / "script").write_text('[ "$turn" -gt 1 ] || crash\necho hello; exec sleep 300\n')
    told: list[str] = []
    lines: list[ConsoleLine] = []
    with boot(MACHINE, tools=TOOLS, on_line=lines.append, progress=told.append) as machine:
        machine.console.wait_for("hello", 60)
    assert count(starts) == 2
    assert [line.text for line in lines] == [ASSERTION, "hello"]
    assert told[-1] == "QEMU crashed before the machine said anything; it is started once more"


@pytest.mark.parametrize(("script", "times"), [("crash", 2), ("echo BdsDxe: loading; crash", 1)])
def test_what_crashes_again_or_later_is_told_from_a_fault_of_the_guest(starts: Path, script: str, times: int) -> None:
    (starts / "script").write_text(f"{script}\n")
    with boot(MACHINE, tools=TOOLS) as machine, pytest.raises(DiagnosticError) as raised:
        machine.console.wait_for("hello", 60)
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.fix == "start the machine again: it is QEMU itself that crashed, not the guest"
    assert diagnostic.notes[-1].message == ASSERTION
    assert count(starts) == times


@pytest.mark.parametrize("script", ["exit 1", "echo 'qemu-system-x86_64: no such disk'; exit 1", "kill -KILL $$"])
def test_what_is_no_crash_is_not_tried_again(starts: Path, script: str) -> None:
    (starts / "script").write_text(f"{script}\n")
    with boot(MACHINE, tools=TOOLS) as machine, pytest.raises(DiagnosticError) as raised:
        machine.console.wait_for("hello", 60)
    assert "QEMU itself" not in raised.value.diagnostics[0].fix
    assert count(starts) == 1


def test_a_crash_of_an_attached_machine_is_an_error(starts: Path) -> None:
    (starts / "script").write_text("crash\n")
    with pytest.raises(DiagnosticError) as raised:
        boot_attached(MACHINE, tools=TOOLS)
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.code is Code.E_BACKEND_EXECUTION
    assert diagnostic.message == "QEMU was ended by SIGABRT"
    (starts / "script").write_text("exit 3\n")
    assert boot_attached(MACHINE, tools=TOOLS) == 3
