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
_IDENTITY, _CLASS, _HEADER_TYPE, _FIRST_BAR, _BARS = 0x00, 0x08, 0x0C, 0x10, 6
_NOBODY = 0xFFFF
_SEVERAL_FUNCTIONS = 0x80
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
    slots = session.pci_read(*((device, 0, _IDENTITY) for device in range(32)))
    for device in (number for number, identity in enumerate(slots) if identity & 0xFFFF != _NOBODY):
        (header,) = session.pci_read((device, 0, _HEADER_TYPE))
        count = 8 if header >> 16 & _SEVERAL_FUNCTIONS else 1
        identities = session.pci_read(*((device, function, _IDENTITY) for function in range(count)))
        classes = session.pci_read(*((device, function, _CLASS) for function in range(count)))
        for function in (number for number, identity in enumerate(identities) if identity & 0xFFFF != _NOBODY):
            if classes[function] >> 16 == _BRIDGE_CLASS:
                raise DiagnosticError.of(
                    Code.E_MEASUREMENT,
                    f"the machine has a PCI bridge in slot {device}, whose windows the firmware chooses",
                    fix="put devices on the root bus, or give the tables as files",
                )
            yield device, function


def _bars(session: QtestSession) -> Iterator[Bar64]:
    """All 64-bit prefetchable base address registers; sizes by writing ones, as every firmware does."""
    for device, function in _functions(session):
        offsets = range(_FIRST_BAR, _FIRST_BAR + 4 * _BARS, 4)
        values = dict(zip(offsets, session.pci_read(*((device, function, o) for o in offsets)), strict=True))
        offset = _FIRST_BAR
        while offset in values:
            wide = values[offset] & 0x7 == 0x4
            if wide and values[offset] & 0x8:
                session.pci_write(device, function, offset, 0xFFFFFFFF)
                session.pci_write(device, function, offset + 4, 0xFFFFFFFF)
                low, high = session.pci_read((device, function, offset), (device, function, offset + 4))
                size = (1 << 64) - (high << 32 | low & ~0xF)
                if 0 < size < 1 << 64:
                    yield Bar64(size=size, device=device, function=function, offset=offset)
            offset += 8 if wide else 4


def virtio_disks(session: QtestSession) -> tuple[int, ...]:
    """The slots of the virtio block devices on the root bus."""
    slots = session.pci_read(*((device, 0, _IDENTITY) for device in range(32)))
    return tuple(device for device, identity in enumerate(slots) if identity in _VIRTIO_DISKS)
