"""A virtual machine as data: what to boot, with how much of what."""

from __future__ import annotations

import enum
import uuid
from pathlib import Path

import attrs

NO_SEED = uuid.UUID(int=0)
FIRST_GUEST_CID = 3
"""Context identifiers below this one are the hypervisor's, the local and the host's; the last one is any (vsock(7))."""


class Accelerator(enum.StrEnum):
    """How guest instructions are run: by the processor (``KVM``) or translated (``TCG``)."""

    KVM = "kvm"
    TCG = "tcg"


class DiskFormat(enum.StrEnum):
    """Disk image formats, as QEMU names its block drivers (``vpc`` is the fixed or dynamic VHD of Azure)."""

    RAW = "raw"
    QCOW2 = "qcow2"
    VHD = "vpc"


class Protocol(enum.StrEnum):
    """Transport protocols of a forwarded port."""

    TCP = "tcp"
    UDP = "udp"


@attrs.frozen(kw_only=True)
class Disk:
    """A disk of the machine. Unless ``persistent``, what the guest writes is dropped when the machine ends."""

    path: Path
    format: DiskFormat = DiskFormat.RAW
    persistent: bool = False


@attrs.frozen(kw_only=True)
class Forward:
    """A port of the host's loopback address that leads to a port of the guest."""

    host_port: int
    guest_port: int
    protocol: Protocol = Protocol.TCP


@attrs.frozen(kw_only=True)
class Credential:
    """A system credential (systemd.system-credentials(7)) that the machine is started with, as an SMBIOS string.

    ``name``: systemd's, such as ``tdx.secret.api_token``. ``path``: file with the value, which is on no command line.
    """

    name: str = attrs.field(validator=attrs.validators.matches_re(r"[A-Za-z0-9_.@-]+"))
    path: Path


@attrs.frozen(kw_only=True)
class UkiOnDisk:
    """Boot a UKI from the EFI system partition of a disk that is made for it, as a cloud's firmware would.

    ``seed``: what the disk's identifiers are derived from, which the firmware measures.
    """

    uki: Path
    seed: uuid.UUID = NO_SEED


@attrs.frozen(kw_only=True)
class DirectKernel:
    """Boot with QEMU's ``-kernel``: a UKI (then without the other two), or a kernel with initrd and command line."""

    kernel: Path
    initrd: Path | None = None
    command_line: str = ""


@attrs.frozen(kw_only=True)
class FromDisks:
    """Boot whatever the firmware finds on the machine's own disks."""


Boot = UkiOnDisk | DirectKernel | FromDisks


@attrs.frozen(kw_only=True)
class Machine:
    """A machine to boot.

    ``memory_mib``: in MiB. ``vcpus``: number of virtual processors. ``machine_type``: QEMU's; name a version
    (``pc-q35-10.0``) where the ACPI tables must not change. ``uefi``: OVMF, else SeaBIOS. ``tpm``: a software TPM
    with SHA-256 and SHA-384 banks. ``network``: user-mode networking with ``forwards``. ``vsock_cid``: context
    identifier by which the host reaches the guest over vsock(7), None for no such device. ``state``: folder that keeps
    TPM state and UEFI variables from boot to boot; without it both start fresh. ``firmware``: a file in place of OVMF,
    started as a trust domain's is, without a variable store of its own. ``accelerator``: None to choose.
    """

    boot: Boot
    memory_mib: int = attrs.field(default=2048, validator=attrs.validators.ge(64))
    vcpus: int = attrs.field(default=2, validator=attrs.validators.ge(1))
    machine_type: str = attrs.field(default="q35", validator=attrs.validators.matches_re(r"[a-z0-9.-]+"))
    uefi: bool = True
    tpm: bool = True
    disks: tuple[Disk, ...] = ()
    network: bool = True
    forwards: tuple[Forward, ...] = ()
    vsock_cid: int | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.in_(range(FIRST_GUEST_CID, 0xFFFFFFFF)))
    )
    credentials: tuple[Credential, ...] = ()
    state: Path | None = None
    firmware: Path | None = None
    accelerator: Accelerator | None = None
