"""Builds QEMU's command line: pure, so that every option can be tested without a machine.

Option syntax: qemu(1); a comma inside a value is doubled.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import attrs

from tdxc_runtime.vm.machine import Accelerator, DirectKernel, Disk, Forward, Machine


@attrs.frozen(kw_only=True)
class Firmware:
    """OVMF's code and the private copy of its variable store, or a firmware that is one file (``-bios``)."""

    code: Path
    variables: Path | None = None


@attrs.frozen(kw_only=True)
class Resources:
    """What was prepared for one launch, all as QEMU sees it.

    ``names``: host path to the path inside, for every file of the machine. ``esp_disk``: the disk made for
    :class:`~tdxc_runtime.vm.machine.UkiOnDisk`. ``tpm_socket``: swtpm's control socket. ``oem_strings``: files that
    each hold one SMBIOS string.
    """

    accelerator: Accelerator
    names: Mapping[Path, Path]
    firmware: Firmware | None = None
    esp_disk: Path | None = None
    tpm_socket: Path | None = None
    oem_strings: tuple[Path, ...] = ()


def qemu_argv(machine: Machine, resources: Resources, *, binary: str = "qemu-system-x86_64") -> list[str]:
    """The whole command line; the first serial port is standard input and output."""
    return [
        binary,
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        *("-display", "none"),
        *("-machine", machine.machine_type),
        *_acceleration(resources.accelerator),
        *("-smp", str(machine.vcpus)),
        *("-m", f"{machine.memory_mib}M"),
        *("-chardev", "stdio,id=console,signal=on"),
        *("-serial", "chardev:console"),
        *("-device", "virtio-rng-pci"),
        *_firmware(resources.firmware),
        *_boot(machine, resources),
        *_disks(machine, resources),
        *_tpm(resources.tpm_socket),
        *_network(machine),
        *_vsock(machine.vsock_cid),
        *(word for path in resources.oem_strings for word in ("-smbios", _options("type=11", path=path))),
    ]


def _acceleration(accelerator: Accelerator) -> list[str]:
    if accelerator is Accelerator.KVM:
        return ["-accel", "kvm", "-cpu", "host"]
    # One thread for all processors: with a thread each, one may look up a region of device memory that another is just
    # changing, and QEMU 10 then ends with a failed assertion (iotlb_to_section); once a boot stood still for minutes.
    return ["-accel", "tcg,thread=single", "-cpu", "max"]


def _firmware(firmware: Firmware | None) -> list[str]:
    if firmware is None:
        return []
    if firmware.variables is None:
        return ["-bios", str(firmware.code)]
    return [
        *("-drive", _options("if=pflash", "format=raw", "unit=0", "readonly=on", file=firmware.code)),
        *("-drive", _options("if=pflash", "format=raw", "unit=1", file=firmware.variables)),
    ]


def _boot(machine: Machine, resources: Resources) -> list[str]:
    boot = machine.boot
    if not isinstance(boot, DirectKernel):
        return []
    words = ["-kernel", str(resources.names[boot.kernel])]
    if boot.initrd is not None:
        words += ["-initrd", str(resources.names[boot.initrd])]
    if boot.command_line:
        words += ["-append", boot.command_line]
    return words


def _disks(machine: Machine, resources: Resources) -> list[str]:
    disks = [] if resources.esp_disk is None else [(Disk(path=resources.esp_disk), resources.esp_disk)]
    disks += [(disk, resources.names[disk.path]) for disk in machine.disks]
    words: list[str] = []
    for number, (disk, path) in enumerate(disks):
        snapshot = "snapshot=off" if disk.persistent else "snapshot=on"
        words += ["-drive", _options("if=none", f"id=disk{number}", f"format={disk.format}", snapshot, file=path)]
        words += ["-device", f"virtio-blk-pci,drive=disk{number},bootindex={number + 1}"]
    return words


def _tpm(socket: Path | None) -> list[str]:
    if socket is None:
        return []
    return [
        *("-chardev", _options("socket", "id=tpm", path=socket)),
        *("-tpmdev", "emulator,id=tpm0,chardev=tpm"),
        *("-device", "tpm-crb,tpmdev=tpm0"),
    ]


def _network(machine: Machine) -> list[str]:
    if not machine.network:
        return ["-nic", "none"]
    forwards = [_forward(forward) for forward in machine.forwards]
    return ["-netdev", ",".join(["user", "id=net0", *forwards]), "-device", "virtio-net-pci,netdev=net0"]


def _vsock(cid: int | None) -> list[str]:
    return [] if cid is None else ["-device", f"vhost-vsock-pci,guest-cid={cid}"]


def _forward(forward: Forward) -> str:
    return f"hostfwd={forward.protocol}:127.0.0.1:{forward.host_port}-:{forward.guest_port}"


def _options(*words: str, **paths: Path) -> str:
    return ",".join([*words, *(f"{name}={str(path).replace(',', ',,')}" for name, path in paths.items())])
