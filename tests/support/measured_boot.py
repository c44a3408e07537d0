"""Boot a machine with a TPM until Linux runs, and take the firmware's event log out of its memory."""

from __future__ import annotations

import contextlib
import mmap
import os
import select
import socket
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import attrs
from tdxc.diagnostics import DiagnosticError
from tdxc_runtime.disk.esp import make_esp_disk
from tdxc_runtime.disk.extents import write_raw
from tdxc_runtime.measure.acpi.tpm import software_tpm
from tdxc_runtime.measure.logs import EventLog, LogKind, parse_event_log
from tdxc_runtime.process import Bind
from tdxc_runtime.vm.machine import Accelerator, DirectKernel, Machine, UkiOnDisk
from tdxc_runtime.vm.qemu_argv import Firmware, Resources, qemu_argv
from tdxc_runtime.vm.tools import VmTools

HEADER = b"Spec ID Event03\0"
INSIDE = Path("/tdxvm/measured")
TIMEOUT_S = 420.0
KERNEL_RUNS = b"Linux version"


@attrs.frozen
class MeasuredBoot:
    """A boot's log, the words of QEMU's command line that describe the machine, and the console until the end."""

    log: EventLog
    argv: tuple[str, ...]
    console: bytes


def measured_boot(
    tools: VmTools, machine: Machine, scratch: Path, variables: Path, until: bytes = KERNEL_RUNS
) -> MeasuredBoot:
    """Boot; ``variables`` is the variable store to start with. The log is the longest that memory holds.

    The boot ends when the serial console has shown ``until``.
    """
    scratch.mkdir()
    (scratch / "vars.fd").write_bytes(variables.read_bytes())
    names = {path: INSIDE / f"file{number}" for number, path in enumerate(files_of(machine))}
    binds = [Bind(source=scratch, target=INSIDE, writable=True)]
    for path, inside in names.items():
        (scratch / inside.name).write_bytes(path.read_bytes())
    esp = None
    if isinstance(machine.boot, UkiOnDisk):
        write_disk(machine.boot.uki, scratch / "esp.raw")
        esp = INSIDE / "esp.raw"
    with software_tpm(tools) as tpm:
        resources = Resources(
            accelerator=Accelerator.TCG,
            names=names,
            firmware=Firmware(code=tools.ovmf_code, variables=INSIDE / "vars.fd"),
            esp_disk=esp,
            tpm_socket=tpm.socket,
        )
        argv = qemu_argv(machine, resources)
        monitor = ["-monitor", f"unix:{INSIDE / 'monitor'},server=on,wait=off"]
        seen, log = boot_and_dump([*argv, *monitor], tools, [*binds, *tpm.binds], scratch, machine.memory_mib, until)
    return MeasuredBoot(log=log, argv=tuple(argv[1:]), console=seen)


def files_of(machine: Machine) -> list[Path]:
    if not isinstance(machine.boot, DirectKernel):
        return []
    return [path for path in (machine.boot.kernel, machine.boot.initrd) if path is not None]


def write_disk(uki: Path, target: Path) -> None:
    """A disk with the UKI where firmware looks for it."""
    with target.open("wb") as file:
        write_raw(make_esp_disk(uki, uuid.UUID(int=5)).image, file)


def boot_and_dump(
    argv: list[str], tools: VmTools, binds: list[Bind], scratch: Path, memory_mib: int, until: bytes
) -> tuple[bytes, EventLog]:
    """Run until the console shows something, stop, and read the log in the guest's memory; gives the console, too."""
    with tools.start(argv, binds) as running:
        output = running.popen.stdout
        assert output is not None
        deadline = time.monotonic() + TIMEOUT_S
        seen = b""
        while until not in seen:
            assert select.select([output], [], [], max(0.0, deadline - time.monotonic()))[0], seen[-2000:]
            data = os.read(output.fileno(), 1 << 16)
            assert data, seen[-2000:]
            seen += data
        with monitor(scratch / "monitor") as command:
            command("stop")
            command(f'pmemsave 0 {memory_mib << 20} "{INSIDE / "memory"}"')
    with (scratch / "memory").open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as memory:
        log = longest_log(memory)
    (scratch / "memory").unlink()
    return seen, log


@contextlib.contextmanager
def monitor(path: Path) -> Iterator[Callable[[str], bytes]]:
    """QEMU's human monitor as a function of a command."""
    with socket.socket(socket.AF_UNIX) as connection:
        connection.settimeout(TIMEOUT_S)
        connection.connect(str(path))

        def answer() -> bytes:
            received = b""
            while not received.endswith(b"(qemu) "):
                data = connection.recv(1 << 16)
                assert data, received
                received += data
            return received

        def command(line: str) -> bytes:
            connection.sendall(line.encode() + b"\n")
            return answer()

        answer()
        yield command


def longest_log(memory: mmap.mmap) -> EventLog:
    found = []
    place = memory.find(HEADER)
    while place >= 0:
        with contextlib.suppress(DiagnosticError):
            data = memory[place - 32 : place - 32 + 65536]
            found.append(parse_event_log(data, name="memory", kind=LogKind.TPM, tolerant=True))
        place = memory.find(HEADER, place + 1)
    assert found, "the guest's memory holds no event log"
    return max(found, key=len)
