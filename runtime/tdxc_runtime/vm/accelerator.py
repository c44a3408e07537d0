"""Finds out whether KVM really runs guests, by running one.

That ``/dev/kvm`` opens says little: under some hypervisors it does, and the guest then dies on the first instruction
that KVM has to emulate. The probe is a 64 KiB firmware image whose few instructions include one of those and then leave
QEMU through its debug exit device with a known status.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from tdxc.diagnostics import DiagnosticError

from tdxc_runtime.process import Bind
from tdxc_runtime.toolsroot.make import scratch_folder
from tdxc_runtime.vm.machine import Accelerator
from tdxc_runtime.vm.tools import VmTools

KVM_DEVICE = Path("/dev/kvm")
KVM_FAILURE = re.compile(r"KVM internal error|emulation failure|failed to initialize kvm", re.IGNORECASE)
"""What QEMU says when KVM cannot run a guest after all."""

_PROBE_TIMEOUT_S = 30.0
_ROM_SIZE = 0x10000
_EXIT_VALUE = 0x10
# isa-debug-exit ends QEMU with (value << 1) | 1
_EXIT_STATUS = (_EXIT_VALUE << 1) | 1
_CODE = bytes(
    [
        *(0xDB, 0xE3),  # fninit
        *(0x9B,),  # fwait
        *(0xBA, 0xF4, 0x00),  # mov dx, 0xf4
        *(0xB0, _EXIT_VALUE),  # mov al, value
        *(0xEE,),  # out dx, al
        *(0xF4,),  # hlt
    ]
)
_RESET_VECTOR = 0xFFF0
_JUMP_TO_START = bytes([0xEA, 0x00, 0x00, 0x00, 0xF0])  # jmp far f000:0000


def probe_rom() -> bytes:
    """The probe's firmware: code at its start, a jump to it at the reset vector (16 bytes below the end)."""
    rom = bytearray(b"\xf4" * _ROM_SIZE)
    rom[: len(_CODE)] = _CODE
    rom[_RESET_VECTOR : _RESET_VECTOR + len(_JUMP_TO_START)] = _JUMP_TO_START
    return bytes(rom)


def choose_accelerator(tools: VmTools, scratch_parent: Path) -> Accelerator:
    """KVM when :func:`kvm_fault` finds nothing wrong with it, else TCG."""
    return Accelerator.TCG if kvm_fault(tools, scratch_parent) else Accelerator.KVM


def kvm_fault(tools: VmTools, scratch_parent: Path) -> str:
    """Why KVM cannot be used, in words; empty when a guest ran."""
    if not KVM_DEVICE.exists():
        return "there is no /dev/kvm: virtualization is off or not passed on, or the kernel module is missing"
    if not os.access(KVM_DEVICE, os.R_OK | os.W_OK):
        return "/dev/kvm may not be opened by this user: join the group kvm"
    return run_probe(tools, scratch_parent, Accelerator.KVM)


class _GuestDiedError(Exception):
    """KVM gave up on the probe; carries QEMU's line."""


def run_probe(tools: VmTools, scratch_parent: Path, accelerator: Accelerator) -> str:
    """Run the probe; an empty string when the guest's instructions were executed, else what went wrong."""
    argv = ["qemu-system-x86_64", "-nodefaults", "-no-user-config", "-display", "none", "-machine", "pc"]
    argv += ["-accel", accelerator, "-m", "16M", "-device", "isa-debug-exit,iobase=0xf4,iosize=0x04"]
    with scratch_folder(scratch_parent, "kvm-probe") as scratch:
        (scratch / "probe.rom").write_bytes(probe_rom())
        inside = Path("/tdxvm/probe") if tools.root else scratch
        argv += ["-bios", str(inside / "probe.rom")]
        binds = (Bind(source=scratch, target=inside),)
        try:
            completed = tools.run(
                argv, binds, devices=("kvm",), on_line=_stop_on_failure, timeout_s=_PROBE_TIMEOUT_S, check=False
            )
        except _GuestDiedError as fault:
            return f"a guest dies at once: {fault}"
        except DiagnosticError as fault:
            return f"a guest does not run: {fault}"
    if completed.status == _EXIT_STATUS:
        return ""
    return f"a guest does not run: {' '.join(completed.lines[-2:]) or f'exit status {completed.status}'}"


def _stop_on_failure(line: str) -> None:
    if KVM_FAILURE.search(line):
        raise _GuestDiedError(line)
