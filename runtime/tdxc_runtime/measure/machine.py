"""The virtual machine as far as its firmware measures it: memory, processors, devices and the QEMU that makes it.

RTMR0 depends on every one of these through the TD HOB and the ACPI tables. :meth:`GuestMachine.argv` is the command
line of the machine, the same for a launch and for reading out the tables.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Self

import attrs
from tdxc.diagnostics import Code, DiagnosticError

MIB = 1 << 20
GIB = 1 << 30
_LOW_RAM_WHEN_SPLIT = 0x80000000
_SPLIT_FROM = 0xB0000000
_TCG_PHYSICAL_BITS = 40
_SIZE = re.compile(r"(\d{1,9})([KMGT]?)(?:i?B)?", re.ASCII | re.IGNORECASE)
_UNITS = {"": MIB, "K": 1 << 10, "M": MIB, "G": GIB, "T": 1 << 40}
_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})(?:\.(\d{1,3}))?")


def low_ram(memory: int) -> int:
    """RAM below 4 GiB of a q35 machine with ``memory`` bytes (QEMU ``hw/i386/pc_q35.c``, ``pc_q35_init``)."""
    return memory if memory < _SPLIT_FROM else _LOW_RAM_WHEN_SPLIT


def parse_memory(text: str) -> int:
    """Bytes in QEMU's spelling: ``4G``, ``2048M``, and MiB where there is no unit. E_VALUE for anything else."""
    match = _SIZE.fullmatch(text.strip())
    size = int(match[1]) * _UNITS[match[2].upper()] if match else 0
    if not 64 * MIB <= size <= 1 << 46 or size % MIB:
        raise DiagnosticError.of(
            Code.E_VALUE, f"'{text}' is no memory size", fix="write it like 4G or 2048M, in whole MiB from 64M on"
        )
    return size


def parse_processor_id(text: str) -> str:
    """A processor's identity as ``dmidecode -t processor`` prints it (``F2 06 0C 00 FF FB 8B 1F``), as 16 hex digits.

    These are EAX and EDX of CPUID leaf 1, little-endian. E_VALUE for anything else.
    """
    digits = re.sub(r"[ :]", "", text).lower()
    if not re.fullmatch(r"[0-9a-f]{16}", digits):
        raise DiagnosticError.of(
            Code.E_VALUE,
            f"'{text}' is no processor's identity",
            fix="give the 8 bytes that `dmidecode -t processor` shows as ID in a guest on such a host",
        )
    return digits


@attrs.frozen(kw_only=True, order=True)
class QemuVersion:
    """A version of QEMU."""

    major: int
    minor: int
    micro: int = 0

    @classmethod
    def parse(cls, text: str) -> QemuVersion:
        """Read ``10.1`` or ``QEMU emulator version 10.0.13 (Debian …)``; E_VALUE when there is no version in it."""
        match = _VERSION.search(text)
        if match is None:
            raise DiagnosticError.of(Code.E_VALUE, f"'{text}' names no version of QEMU", fix="write it like 10.1")
        return cls(major=int(match[1]), minor=int(match[2]), micro=int(match[3] or 0))

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.micro}"


QEMU_10_0 = QemuVersion(major=10, minor=0)
QEMU_10_2 = QemuVersion(major=10, minor=2)


@attrs.frozen(kw_only=True)
class GuestMachine:
    """A q35 machine.

    ``memory`` is in bytes. ``machine_options`` follow the type in ``-machine``. ``devices`` are the values of
    ``-device`` in order; an ``id`` of a drive or network in them refers to ``backends``, whose words come before.
    ``physical_bits`` are the guest physical address bits that the firmware sees; they matter when a device has a
    64-bit memory window, as does whether the processor is AMD's (``amd``; TCG's is). ``tpm`` says whether there is a
    TPM (the device ``tpm0``), which a TD has not. ``processor`` is QEMU's ``-cpu`` where QEMU itself plays the
    processor (TCG); otherwise ``processor_id`` may give the host processor's identity: 16 hex digits as ``dmidecode``
    prints them, which SMBIOS shows.
    """

    memory: int = 2 * GIB
    vcpus: int = 2
    machine_type: str = "q35"
    machine_options: tuple[str, ...] = ("kernel-irqchip=split", "smm=off", "pic=off")
    devices: tuple[str, ...] = ()
    backends: tuple[str, ...] = ()
    physical_bits: int | None = None
    amd: bool = False
    tpm: bool = False
    processor: str = ""
    processor_id: str = ""

    def argv(self) -> list[str]:
        """The words that describe the hardware, without accelerator, firmware and what to boot."""
        options = ",".join((self.machine_type, *self.machine_options))
        words = ["-nodefaults", "-no-user-config", "-display", "none", "-machine", options]
        words += ["-smp", str(self.vcpus), "-m", f"{self.memory // MIB}M", *self.backends]
        devices = (*(("tpm-crb,tpmdev=tpm0",) if self.tpm else ()), *self.devices)
        return [*words, *(word for device in devices for word in ("-device", device))]

    @classmethod
    def of_argv(cls, argv: Sequence[str], *, physical_bits: int | None = None, processor_id: str = "") -> Self:
        """The machine that a QEMU command line (without the program's name) describes, such as that of ``tdxc run``.

        Under TCG the processor is QEMU's own, an AMD one with 40 bits of address. E_VALUE when the command line does
        not state a q35 machine with plain ``-m`` and ``-smp``.
        """
        memory, vcpus, machine, devices, backends = "", "1", "", [], []
        processor = next((value for option, value in _options(argv) if option == "-cpu" and value), "qemu64")
        accelerators = [value for option, value in _options(argv) if option == "-accel" and value]
        tcg = any(accelerator.split(",")[0] == "tcg" for accelerator in accelerators)
        for option, value in _options(argv):
            if value is None or option in _NOT_HARDWARE:
                continue
            if option == "-m":
                memory = value.removeprefix("size=")
            elif option == "-smp":
                vcpus = value.removeprefix("cpus=")
            elif option in {"-machine", "-M"}:
                machine = value
            elif option == "-device":
                devices.append(value)
            else:
                backends += [option, value]
        kind, *options = machine.removeprefix("type=").split(",")
        if "q35" not in kind or not vcpus.isdecimal() or not int(vcpus):
            raise DiagnosticError.of(
                Code.E_VALUE,
                "this QEMU command line does not describe a machine that can be measured",
                fix="name a q35 machine type, the memory (-m 4G) and the number of processors (-smp 2)",
            )
        tpms = [device for device in devices if device.startswith("tpm-")]
        return cls(
            memory=parse_memory(memory),
            vcpus=int(vcpus),
            machine_type=kind,
            machine_options=tuple(o for o in options if o.split("=")[0] not in _DROPPED_MACHINE_OPTIONS),
            devices=tuple(device for device in devices if device not in tpms),
            backends=tuple(backends),
            physical_bits=physical_bits or (_TCG_PHYSICAL_BITS if tcg else None),
            amd=tcg,
            tpm=bool(tpms),
            processor=processor if tcg else "",
            processor_id=processor_id,
        )


_DROPPED_WITH_VALUE = frozenset(
    {
        "-accel",
        "-append",
        "-bios",
        "-chardev",
        "-cpu",
        "-drive",
        "-blockdev",
        "-initrd",
        "-kernel",
        "-mon",
        "-monitor",
        "-name",
        "-netdev",
        "-object",
        "-pidfile",
        "-qmp",
        "-serial",
        "-tpmdev",
        "-D",
        "-d",
    }
)
_NOT_HARDWARE = frozenset({"-accel", "-append", "-bios", "-cpu", "-display", "-initrd", "-kernel", "-tpmdev"})
_DROPPED = frozenset({"-daemonize", "-enable-kvm", "-nographic", "-no-reboot", "-S", "-snapshot"})
_DROPPED_MACHINE_OPTIONS = frozenset({"accel", "confidential-guest-support", "memory-encryption", "memory-backend"})
_SUBSTITUTES = {"vhost-vsock-pci": "virtio-balloon-pci", "vhost-user-fs-pci": "virtio-balloon-pci"}
"""Devices that need something of the host, and one that takes their place on the bus with the same tables."""


def inert_argv(argv: Sequence[str]) -> list[str]:
    """A machine's command line rewritten so that it starts anywhere and never runs, with the same hardware.

    What only decides how the guest runs goes (accelerator, TDX, firmware, files, consoles); drives become empty,
    network backends user mode, serial ports null; host-bound devices are replaced by ones of the same shape. The
    program's name is not expected in ``argv``.
    """
    words: list[str] = ["-nodefaults", "-no-user-config", "-display", "none"]
    for option, value in _options(argv):
        words.extend(_inert_option(option, value))
    return words


def _options(argv: Sequence[str]) -> Iterator[tuple[str, str | None]]:
    """Split a command line into options and their values; an option's value never begins with ``-`` here."""
    position = 0
    while position < len(argv):
        option = argv[position]
        takes = position + 1 < len(argv) and (not argv[position + 1].startswith("-") or option == "-append")
        yield option, argv[position + 1] if takes else None
        position += 2 if takes else 1


def _inert_option(option: str, value: str | None) -> list[str]:
    if option in {"-nodefaults", "-no-user-config", "-display"} or option in _DROPPED:
        return []
    if option == "-serial" and value != "none":
        return ["-serial", "null"]
    if option in {"-drive", "-blockdev"} and value is not None:
        return _empty_drive(value)
    if option == "-netdev" and value is not None:
        return ["-netdev", f"user,id={_property(value, 'id')}"]
    if option in _DROPPED_WITH_VALUE and not (option == "-object" and (value or "").startswith("rng-")):
        return []
    if option in {"-machine", "-M"} and value is not None:
        words = value.split(",")
        return ["-machine", ",".join(word for word in words if word.split("=")[0] not in _DROPPED_MACHINE_OPTIONS)]
    if option == "-device" and value is not None:
        model, _, rest = value.partition(",")
        kept = [
            part for part in rest.split(",") if part and not (model in _SUBSTITUTES and part.startswith("guest-cid="))
        ]
        return ["-device", ",".join((_SUBSTITUTES.get(model, model), *kept))]
    return [option] if value is None else [option, value]


def _empty_drive(value: str) -> list[str]:
    """A drive of the same name without a medium; firmware flash chips are no hardware that the tables show."""
    if _property(value, "if") == "pflash":
        return []
    name = _property(value, "id") or _property(value, "node-name")
    return ["-drive", f"if=none,id={name},driver=null-co,read-zeroes=on,size=1G"]


def _property(value: str, name: str) -> str:
    found = (part.partition("=")[2] for part in value.split(",") if part.startswith(f"{name}="))
    return next(found, "")
