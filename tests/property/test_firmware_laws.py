"""Whatever bytes come: the parsers of firmware, variable stores, endorsements and disks answer or refuse."""

import contextlib
import struct

from hypothesis import given, settings
from hypothesis import strategies as st
from support.efi_images import build_firmware, build_gpt_disk
from support.fuzzing import only_diagnosed
from tdxc.diagnostics import Code
from tdxc_runtime.measure.boot.fat import FatFileSystem, MalformedFatError
from tdxc_runtime.measure.boot.gpt import read_partition_table
from tdxc_runtime.measure.firmware.endorsement import parse_endorsement
from tdxc_runtime.measure.firmware.mrtd import PageOrder, mrtd
from tdxc_runtime.measure.firmware.tdvf import SectionType, guid_table, parse_tdvf
from tdxc_runtime.measure.firmware.traits import read_traits
from tdxc_runtime.measure.firmware.varstore import read_variables
from tdxc_runtime.measure.firmware.volumes import find_volumes
from tdxc_runtime.measure.machine import GIB, MIB, low_ram
from tdxc_runtime.measure.sources import MemorySource
from tdxc_runtime.measure.tdhob import build_td_hob, memory_ranges, ram_ranges
from unit.measure_boot.test_boot_path import ESP

FIRMWARE = build_firmware()
METADATA = len(FIRMWARE) - 0x400 - 16
edits = st.lists(st.tuples(st.integers(0, 0x400), st.binary(min_size=1, max_size=8)), min_size=1, max_size=5)


@given(edits, st.integers(0, 0x500))
@settings(max_examples=300)
def test_damaged_metadata_are_refused_or_stay_inside_the_file(changes: list[tuple[int, bytes]], cut: int) -> None:
    data = bytearray(FIRMWARE)
    for offset, value in changes:
        data[METADATA + offset : METADATA + offset + len(value)] = value
    image = bytes(data[: len(data) - cut])
    with only_diagnosed(Code.E_FIRMWARE, "x"):
        tdvf = parse_tdvf(image, name="x")
        assert all(s.offset + s.raw_size <= len(image) and s.raw_size <= s.memory_size for s in tdvf.sections)
        if sum(s.memory_size for s in tdvf.sections) < 1 << 26:
            assert len(mrtd(tdvf, image, PageOrder.ADDS_FIRST)) == 48


@given(st.binary(max_size=600))
@settings(max_examples=200)
def test_arbitrary_tables_of_guids_end(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        assert all(len(entry) <= len(data) for entry in guid_table(data + bytes(32)).values())


def volume(body: bytes, *, extended: int = 0) -> bytes:
    """A firmware volume header of FFS2 in front of ``body``."""
    guid = bytes.fromhex("78e58c8c3d8a1c4f9935896185c32dd3")
    header = bytes(16) + guid + struct.pack("<Q4sIHHHBB", 72 + len(body), b"_FVH", 0, 72, 0, extended, 0, 2)
    return header.ljust(72, b"\0") + body


@given(st.binary(max_size=400), st.integers(0, 500), st.binary(max_size=60))
@settings(max_examples=300)
def test_arbitrary_volumes_are_walked_to_an_end(body: bytes, extended: int, lzma: bytes) -> None:
    packed = bytes.fromhex("985a4eee1439594 29d6edc7bd79403cf".replace(" ", "")) + struct.pack("<HH", 24, 1) + lzma
    section = struct.pack("<I", len(packed) + 4)[:3] + b"\x02" + packed
    size = struct.pack("<I", 24 + len(section))[:3]
    file = bytes(range(16)) + b"\0\0\x0b\0" + size + b"\0" + section
    found = find_volumes(volume(file + body, extended=extended))
    assert sum(len(v.data) for v in found) < 1 << 20
    assert read_traits(volume(file + body)) is None


@given(st.binary(max_size=400))
@settings(max_examples=200)
def test_arbitrary_variable_stores_are_read_or_refused(data: bytes) -> None:
    store = bytes.fromhex("782cf3aa7b949a43a1802e144ec37792") + struct.pack("<I", 28 + len(data)) + bytes(8) + data
    image = (bytes(40) + b"_FVH" + bytes(4) + struct.pack("<H", 72)).ljust(72, b"\0") + store
    with contextlib.suppress(ValueError):
        assert sum(len(variable.data) for variable in read_variables(image)) <= len(data)


@given(st.binary(max_size=300))
@settings(max_examples=200)
def test_arbitrary_endorsements_are_refused(data: bytes) -> None:
    with only_diagnosed(Code.E_FIRMWARE, "x"):
        parse_endorsement(data, name="x")
        raise AssertionError("nobody signed this")


@given(st.lists(st.tuples(st.integers(512, 2000), st.binary(min_size=1, max_size=8)), min_size=1, max_size=4))
@settings(max_examples=200)
def test_damaged_partition_tables_are_read_or_refused(changes: list[tuple[int, bytes]]) -> None:
    disk = bytearray(build_gpt_disk([(ESP, 64, 100, b"")], sectors=128))
    for offset, value in changes:
        disk[offset : offset + len(value)] = value
    with only_diagnosed(Code.E_ARTIFACT, "x"):
        table = read_partition_table(MemorySource(name="x", data=bytes(disk)), artifact="x")
        assert len(table.event_data) == 100 + 128 * len(table.partitions)


@given(st.binary(min_size=512, max_size=3000))
@settings(max_examples=300)
def test_arbitrary_fat_file_systems_end(data: bytes) -> None:
    boot = bytearray(data)
    boot[11:16] = struct.pack("<HBH", 512, 1, 1)
    boot[510:512] = b"\x55\xaa"
    with contextlib.suppress(MalformedFatError):
        FatFileSystem(MemorySource(name="x", data=bytes(boot)), 0).find(("EFI", "BOOT", "BOOTX64.EFI"))


@given(st.integers(64, 1 << 22))
@settings(max_examples=200)
def test_the_memory_map_tiles_ram_for_every_size(mib: int) -> None:
    tdvf = parse_tdvf(FIRMWARE, name="x")
    memory = mib * MIB
    ranges = memory_ranges(tdvf, ram_ranges(memory))
    assert sum(r.size for r in ranges) == memory
    assert low_ram(memory) <= min(memory, 0xB0000000)
    assert [r for r in ranges if r.start >= 4 * GIB] == [r for r in ranges if not r.accepted and r.start >= 4 * GIB]
    hob = build_td_hob(tdvf, ram_ranges(memory))
    place = tdvf.first(SectionType.TD_HOB)
    assert place is not None
    (end,) = struct.unpack_from("<Q", hob, 48)
    assert end == place.address + len(hob) + 8
