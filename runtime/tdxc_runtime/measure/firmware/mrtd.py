"""MRTD: the measurement that the TDX module makes while the VMM builds the TD.

It is one SHA-384 over a stream of records: for each page added a 128-byte record, for each 256-byte chunk extended a
128-byte record and the chunk. QEMU's order differs between lineages, which is a fact about the host and cannot be read
off the firmware. Sources: Intel TDX Module Base Architecture Specification, section "MRTD: Build-Time Measurement
Register", and the descriptions of TDH.MEM.PAGE.ADD and TDH.MR.EXTEND; QEMU ``target/i386/kvm/tdx.c``
(``tdx_finalize_vm``: one pass) against the staging lineage that Ubuntu 24.04 shipped (two passes).
"""

from __future__ import annotations

import enum
import hashlib
import struct
from collections.abc import Iterator

from .tdvf import PAGE, Tdvf, TdvfSection

_CHUNK = 256
_ADD = b"MEM.PAGE.ADD".ljust(16, b"\0")
_EXTEND = b"MR.EXTEND".ljust(16, b"\0")
_PAD = bytes(104)
_BATCH = 1 << 16
_ADDRESS = struct.Struct("<Q")


class PageOrder(enum.StrEnum):
    """In which order the host's VMM adds and extends the pages of a section.

    ``INTERLEAVED``: each page is added and at once extended (QEMU from 10.1 on, Google). ``ADDS_FIRST``: all pages are
    added, then all are extended (the staging lineage of QEMU 8.x that Ubuntu 24.04 shipped for TDX).
    """

    INTERLEAVED = "one-pass"
    ADDS_FIRST = "two-pass"


def mrtd(tdvf: Tdvf, firmware: bytes, order: PageOrder = PageOrder.INTERLEAVED, *, extend_all: bool = False) -> bytes:
    """The 48 bytes of MRTD for a firmware file.

    ``extend_all`` also extends sections that are not marked for it, as a former version of Google's VMM did with the TD
    HOB and temporary memory.
    """
    hasher = hashlib.sha384()
    for section in tdvf.sections:
        extended = section.measured or extend_all
        for records in _batched(_records(section, firmware, order, extended=extended)):
            hasher.update(records)
    return hasher.digest()


def _batched(records: Iterator[bytes]) -> Iterator[bytes]:
    """Join small records: one hash call per record would cost more than the hashing."""
    batch: list[bytes] = []
    size = 0
    for record in records:
        batch.append(record)
        size += len(record)
        if size >= _BATCH:
            yield b"".join(batch)
            batch, size = [], 0
    yield b"".join(batch)


def _records(section: TdvfSection, firmware: bytes, order: PageOrder, *, extended: bool) -> Iterator[bytes]:
    pages = range(0, section.memory_size, PAGE)
    if order is PageOrder.ADDS_FIRST:
        if section.added_at_build:
            yield from (_add_record(section.address + page) for page in pages)
        if extended:
            yield from (_extend_records(section, firmware, page) for page in pages)
        return
    for page in pages:
        if section.added_at_build:
            yield _add_record(section.address + page)
        if extended:
            yield _extend_records(section, firmware, page)


def _add_record(address: int) -> bytes:
    return _ADD + _ADDRESS.pack(address) + _PAD


def _extend_records(section: TdvfSection, firmware: bytes, page: int) -> bytes:
    """The sixteen extend records of one page, each followed by its chunk."""
    stored = min(PAGE, max(0, section.raw_size - page))
    start = section.offset + page
    content = firmware[start : start + stored].ljust(PAGE, b"\0")
    address = section.address + page
    return b"".join(
        part
        for chunk in range(0, PAGE, _CHUNK)
        for part in (_EXTEND, _ADDRESS.pack(address + chunk), _PAD, content[chunk : chunk + _CHUNK])
    )
