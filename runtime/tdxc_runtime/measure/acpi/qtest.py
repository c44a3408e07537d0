"""Talk to a stopped QEMU through its test protocol: ports, memory, PCI configuration space and fw_cfg.

No guest code runs and no acceleration is needed. Sources: QEMU ``system/qtest.c`` (protocol), ``docs/specs/fw_cfg.rst``
(selector, data and DMA interface); PCI Local Bus Specification 3.0, section 3.2.2.3.2 (configuration mechanism).
"""

from __future__ import annotations

import contextlib
import os
import select
import struct
import subprocess
import time
from collections.abc import Iterator, Sequence
from typing import IO

from tdxc.diagnostics import Code, DiagnosticError, Note

from tdxc_runtime.process import Bind, Running

from .qemu import Qemu

_FW_CFG_SELECTOR, _FW_CFG_DATA, _FW_CFG_DMA_LOW, _FW_CFG_DMA_HIGH = 0x510, 0x511, 0x518, 0x514
_PCI_ADDRESS, _PCI_DATA = 0xCF8, 0xCFC
_KEY_SIGNATURE, _KEY_DIRECTORY = 0x00, 0x19
_DMA_READ, _DMA_SELECT = 0x02, 0x08
_DESCRIPTOR, _BUFFER = 0x1000, 0x200000
_MAX_ITEM = 16 << 20
_TIMEOUT_S = 30.0


class QtestSession:
    """A conversation with one stopped QEMU. Every method raises E_BACKEND_EXECUTION when QEMU does not answer."""

    def __init__(self, running: Running, argv: Sequence[str]) -> None:
        self._argv = tuple(argv)
        self._stdin = _require(running.popen.stdin)
        self._stdout = _require(running.popen.stdout)
        self._poll = select.poll()
        self._poll.register(self._stdout, select.POLLIN)
        self._buffer = b""
        self._noise: list[str] = []
        self._deadline = time.monotonic() + _TIMEOUT_S
        self._directory: dict[str, tuple[int, int]] | None = None

    def commands(self, *lines: str) -> list[str]:
        """Send some lines at once, which is faster than one by one; each one's answer without its leading ``OK``."""
        try:
            self._stdin.write("".join(f"{line}\n" for line in lines).encode("ascii"))
            self._stdin.flush()
        except OSError:
            self._drain()
            raise self._failure("QEMU ended early") from None
        return [self._answer(line) for line in lines]

    def _answer(self, line: str) -> str:
        while True:
            answer = self._read_line()
            if answer.startswith("OK"):
                return answer[2:].strip()
            if answer.startswith(("FAIL", "ERR")):
                raise self._failure(f"QEMU refused '{line}': {answer}")
            if not answer.startswith("IRQ"):
                self._noise.append(answer)

    def _read_line(self) -> str:
        while b"\n" not in self._buffer:
            data = self._receive()
            if not data:
                raise self._failure("QEMU ended early")
            self._buffer += data
        line, self._buffer = self._buffer.split(b"\n", 1)
        return line.decode("utf-8", "replace").strip()

    def _receive(self) -> bytes:
        if not self._poll.poll(1000 * max(0.0, self._deadline - time.monotonic())):
            raise self._failure(f"QEMU did not answer within {_TIMEOUT_S:.0f} seconds")
        return os.read(self._stdout.fileno(), 1 << 16)

    def _drain(self) -> None:
        """Take what QEMU said before it ended."""
        with contextlib.suppress(DiagnosticError):
            while data := self._receive():
                self._buffer += data
        self._noise.extend(self._buffer.decode("utf-8", "replace").splitlines())

    def _failure(self, message: str) -> DiagnosticError:
        said = [line for line in (*self._noise, *self._buffer.decode("utf-8", "replace").splitlines()) if line.strip()]
        return DiagnosticError.of(
            Code.E_BACKEND_EXECUTION,
            f"{message} while its tables were read",
            notes=tuple(Note(message=line) for line in said[-4:]),
            fix="check that the machine's command line is right for this QEMU",
        )

    def pci_read(self, *places: tuple[int, int, int]) -> list[int]:
        """32-bit registers on bus 0, each given as device, function and offset."""
        lines = [line for place in places for line in (_pci_select(*place), f"inl {_PCI_DATA:#x}")]
        return [int(answer, 16) for answer in self.commands(*lines)[1::2]]

    def pci_write(self, device: int, function: int, offset: int, value: int, width: str = "l") -> None:
        """Write a register of a function on bus 0; ``width`` is ``b``, ``w`` or ``l``."""
        self.commands(_pci_select(device, function, offset), f"out{width} {_PCI_DATA + (offset & 3):#x} {value:#x}")

    def fw_cfg_directory(self) -> dict[str, tuple[int, int]]:
        """Named fw_cfg items: key and size by name."""
        if self._directory is None:
            (count,) = struct.unpack(">I", self.fw_cfg_read(_KEY_DIRECTORY, 4))
            rows = self.fw_cfg_read(_KEY_DIRECTORY, 4 + 64 * min(count, 4096))[4:]
            self._directory = {}
            for start in range(0, len(rows), 64):
                size, key, name = struct.unpack(">IHxx56s", rows[start : start + 64])
                self._directory[name.split(b"\0", 1)[0].decode("ascii", "replace")] = (key, size)
        return self._directory

    def fw_cfg_file(self, name: str) -> bytes | None:
        """A named item, or ``None`` when there is none of that name."""
        if name not in self.fw_cfg_directory():
            return None
        key, size = self.fw_cfg_directory()[name]
        return self.fw_cfg_read(key, min(size, _MAX_ITEM))

    def fw_cfg_read(self, key: int, size: int) -> bytes:
        """The first ``size`` bytes of an item, by DMA into guest memory. All of fw_cfg is big-endian."""
        if not size:
            return b""
        descriptor = struct.pack(">IIQ", key << 16 | _DMA_SELECT | _DMA_READ, size, _BUFFER)
        *_, status, data = self.commands(
            f"write {_DESCRIPTOR:#x} {len(descriptor):#x} 0x{descriptor.hex()}",
            f"outl {_FW_CFG_DMA_HIGH:#x} 0x0",
            f"outl {_FW_CFG_DMA_LOW:#x} {int.from_bytes(struct.pack('<I', _DESCRIPTOR), 'big'):#x}",
            f"read {_DESCRIPTOR:#x} 0x4",
            f"read {_BUFFER:#x} {size:#x}",
        )
        if int(status, 16):
            raise self._failure(f"fw_cfg item {key:#x} cannot be read")
        return bytes.fromhex(data.removeprefix("0x"))


def _require(stream: IO[bytes] | None) -> IO[bytes]:
    if stream is None:
        raise RuntimeError("QEMU was started without pipes")
    return stream


def _pci_select(device: int, function: int, offset: int) -> str:
    return f"outl {_PCI_ADDRESS:#x} {0x80000000 | device << 11 | function << 8 | (offset & 0xFC):#x}"


@contextlib.contextmanager
def qtest_session(qemu: Qemu, hardware: Sequence[str], binds: Sequence[Bind] = ()) -> Iterator[QtestSession]:
    """Start QEMU with the given hardware, stopped; it is gone when the block ends. ``binds`` is what it has to see."""
    argv = [qemu.program, *hardware, "-accel", "tcg", "-S", "-qtest", "stdio", "-qtest-log", "none"]
    with qemu.tools.start(argv, binds, stdin=subprocess.PIPE) as running:
        yield QtestSession(running, argv)
