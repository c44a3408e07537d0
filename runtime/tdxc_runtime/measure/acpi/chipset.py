"""Bring the chipset into the state in which the firmware reads the tables, because QEMU builds them from that state.

Sources: Intel 82Q35 and ICH9 datasheets for the registers (PMBASE, ACPI_CNTL, PCIEXBAR); edk2
``OvmfPkg/Library/PlatformInitLib/Platform.c`` (``PlatformMiscInitialization``) and ``MemDetect.c``
(``PlatformDynamicMmioWindow``, ``PlatformReservationConflictCB``) for the values; PCI Local Bus Specification 3.0,
section 6.2.5 for base addresses.
"""

from __future__ import annotations

from collections.abc import Iterator

import attrs
from tdxc.diagnostics import Code, DiagnosticError

from .qtest import QtestSession

MMCONFIG = 0xE0000000
MMCONFIG_BEFORE_202305 = 0xB0000000
_PMBASE = 0x601
_ACPI_ENABLE = 0x80
_BRIDGE_CLASS = 0x0604
_COMMAND_MEMORY_MASTER = 0x6
_HYPERTRANSPORT_START, _HYPERTRANSPORT_END = 0xFD00000000, 0x10000000000
_VIRTIO_DISKS = frozenset({0x10011AF4, 0x10421AF4})
"""Vendor and device of a virtio block device, transitional and modern (Virtio 1.2, section 4.1.2)."""


@attrs.frozen(kw_only=True, order=True)
class Bar64:
    """A 64-bit prefetchable base address register: which function, at which offset, how many bytes."""

    size: int
    device: int
    function: int
    offset: int


def program_chipset(session: QtestSession, *, mmconfig: int = MMCONFIG) -> None:
    """Set the power management base, switch ACPI on and place the PCI configuration window."""
    session.pci_write(31, 0, 0x40, _PMBASE)
    session.pci_write(31, 0, 0x44, _ACPI_ENABLE, "b")
    session.pci_write(0, 0, 0x64, 0)
    session.pci_write(0, 0, 0x60, mmconfig | 1)


def window_base(physical_bits: int, *, amd: bool = False) -> int:
    """Where the firmware's 64-bit window begins: the last eighth of the guest's address space.

    With an AMD processor QEMU reserves the HyperTransport range below 1 TiB; a window that would cover it moves below.
    """
    size = 1 << (physical_bits - 3)
    base = (1 << physical_bits) - size
    if amd and base < _HYPERTRANSPORT_END and base + size > _HYPERTRANSPORT_START:
        return (_HYPERTRANSPORT_START - size) & ~(size - 1)
    return base


def place_windows(session: QtestSession, physical_bits: int | None, *, amd: bool = False) -> bool:
    """Give 64-bit windows their addresses as the firmware would; whether there are any.

    E_MEASUREMENT when there are some but ``physical_bits`` is unknown, or when a device sits behind a bridge.
    """
    bars = sorted(_bars(session), reverse=True)
    if not bars:
        return False
    if physical_bits is None:
        raise DiagnosticError.of(
            Code.E_MEASUREMENT,
            "a device has a 64-bit memory window, whose place depends on the guest's physical address bits",
            fix="give the guest's physical address bits (46 on most TDX hosts)",
        )
    address = window_base(physical_bits, amd=amd)
    for bar in bars:
        address = (address + bar.size - 1) & ~(bar.size - 1)
        session.pci_write(bar.device, bar.function, bar.offset, address & 0xFFFFFFFF)
        session.pci_write(bar.device, bar.function, bar.offset + 4, address >> 32)
        address += bar.size
    for device, function in {(bar.device, bar.function) for bar in bars}:
        session.pci_write(device, function, 4, _COMMAND_MEMORY_MASTER, "w")
    return True


def _functions(session: QtestSession) -> Iterator[tuple[int, int]]:
    """Every function on bus 0; E_MEASUREMENT for a PCI bridge."""
    for device in range(32):
        for function in range(8):
            if session.pci_read(device, function, 0) & 0xFFFF == 0xFFFF:
                if function == 0:
                    break
                continue
            if session.pci_read(device, function, 8) >> 16 == _BRIDGE_CLASS:
                raise DiagnosticError.of(
                    Code.E_MEASUREMENT,
                    f"the machine has a PCI bridge in slot {device}, whose windows the firmware chooses",
                    fix="put devices on the root bus, or give the tables as files",
                )
            yield device, function
            if function == 0 and not session.pci_read(device, 0, 0x0C) >> 16 & 0x80:
                break


def _bars(session: QtestSession) -> Iterator[Bar64]:
    """All 64-bit prefetchable base address registers; sizes by writing ones, as every firmware does."""
    for device, function in _functions(session):
        offset = 0x10
        while offset < 0x28:
            value = session.pci_read(device, function, offset)
            wide = value & 0x7 == 0x4
            if wide and value & 0x8:
                session.pci_write(device, function, offset, 0xFFFFFFFF)
                session.pci_write(device, function, offset + 4, 0xFFFFFFFF)
                low = session.pci_read(device, function, offset) & ~0xF
                high = session.pci_read(device, function, offset + 4)
                size = (1 << 64) - (high << 32 | low)
                if 0 < size < 1 << 64:
                    yield Bar64(size=size, device=device, function=function, offset=offset)
            offset += 8 if wide else 4


def virtio_disks(session: QtestSession) -> tuple[int, ...]:
    """The slots of the virtio block devices on the root bus."""
    return tuple(
        device for device, function in _functions(session) if session.pci_read(device, function, 0) in _VIRTIO_DISKS
    )
