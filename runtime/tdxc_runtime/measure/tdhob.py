"""The TD HOB: the list of memory ranges that the VMM gives to the firmware, the first event of RTMR0.

It holds a hand-off block and one resource descriptor per range. The firmware's own areas are marked as memory, the rest
of RAM as memory that is not accepted yet. Sources: QEMU ``hw/i386/tdvf-hob.c`` (``tdvf_hob_create``) and
``target/i386/kvm/tdx.c`` (``tdx_init_ram_entries``); UEFI PI 1.8 volume 3, sections 5.3 and 5.5; edk2
``OvmfPkg/IntelTdx/TdxHelperLib/SecTdxHelper.c``: the list is measured without its final entry. All integers
little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

import attrs

from .firmware.tdvf import SectionType, Tdvf
from .machine import low_ram

_FOUR_GIB = 1 << 32
_HANDOFF, _RESOURCE = 1, 3
_SYSTEM_MEMORY, _UNACCEPTED = 0, 7
_ATTRIBUTES = 7
_HANDOFF_SIZE, _RESOURCE_SIZE, _END_SIZE = 56, 48, 8


@attrs.frozen(kw_only=True, order=True)
class MemoryRange:
    """A range of guest memory, and whether the firmware owns it already (``accepted``)."""

    start: int
    size: int
    accepted: bool

    @property
    def end(self) -> int:
        """The address after the range."""
        return self.start + self.size


def ram_ranges(memory: int) -> tuple[tuple[int, int], ...]:
    """``(start, end)`` of the RAM of a q35 machine with ``memory`` bytes: below 4 GiB, and from 4 GiB on."""
    low = low_ram(memory)
    return ((0, low),) if memory == low else ((0, low), (_FOUR_GIB, _FOUR_GIB + memory - low))


def memory_ranges(tdvf: Tdvf, ram: Iterable[tuple[int, int]]) -> tuple[MemoryRange, ...]:
    """RAM in ascending order, cut at the firmware's sections (HOB and temporary memory).

    ``ValueError`` when such a section does not lie in RAM.
    """
    owned = sorted(
        (section.address, section.end)
        for section in tdvf.sections
        if section.type in {SectionType.TD_HOB, SectionType.TEMP_MEM}
    )
    ranges: list[MemoryRange] = []
    placed = 0
    for start, end in ram:
        position = start
        for section_start, section_end in owned:
            if not start <= section_start < section_end <= end:
                continue
            placed += 1
            if section_start > position:
                ranges.append(MemoryRange(start=position, size=section_start - position, accepted=False))
            ranges.append(MemoryRange(start=section_start, size=section_end - section_start, accepted=True))
            position = section_end
        if end > position:
            ranges.append(MemoryRange(start=position, size=end - position, accepted=False))
    if placed != len(owned):
        raise ValueError("the machine's RAM does not hold the firmware's temporary memory")
    return tuple(ranges)


def build_td_hob(tdvf: Tdvf, ram: Iterable[tuple[int, int]]) -> bytes:
    """The measured bytes of the list. ``ValueError`` when the firmware has no place for it or RAM does not fit."""
    hob = tdvf.first(SectionType.TD_HOB)
    if hob is None:
        raise ValueError("the firmware's metadata name no place for the TD HOB")
    ranges = memory_ranges(tdvf, ram)
    total = _HANDOFF_SIZE + _RESOURCE_SIZE * len(ranges) + _END_SIZE
    if total > hob.memory_size:
        raise ValueError(f"the TD HOB of {total} bytes does not fit its {hob.memory_size}")
    handoff = struct.pack("<HHIII4QQ", _HANDOFF, _HANDOFF_SIZE, 0, 9, 0, 0, 0, 0, 0, hob.address + total)
    return handoff + b"".join(_resource(memory_range) for memory_range in ranges)


def _resource(memory_range: MemoryRange) -> bytes:
    kind = _SYSTEM_MEMORY if memory_range.accepted else _UNACCEPTED
    return struct.pack(
        "<HHI16sIIQQ",
        _RESOURCE,
        _RESOURCE_SIZE,
        0,
        bytes(16),
        kind,
        _ATTRIBUTES,
        memory_range.start,
        memory_range.size,
    )
