"""TDVF metadata, MRTD and the traits of firmware files."""

import hashlib
import lzma
import struct
import uuid
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.efi_images import DEFAULT_AREAS, Area, build_firmware, table_bytes
from support.event_logs import needs_vectors, vector
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.measure.firmware.load import (
    Firmware,
    declare_release,
    firmware_warnings,
    parse_firmware,
    read_firmware,
    unsigned_warning,
)
from tdxc_runtime.measure.firmware.mrtd import PageOrder, mrtd
from tdxc_runtime.measure.firmware.table import SECTION_COLUMNS, firmware_to_json, section_rows
from tdxc_runtime.measure.firmware.tdvf import METADATA_GUID, SectionType, guid_table, parse_tdvf
from tdxc_runtime.measure.firmware.traits import DXE_VOLUME, FirmwareTraits, parse_release
from tdxc_runtime.measure.firmware.varstore import read_variables

OTHER = uuid.UUID("00112233-4455-6677-8899-aabbccddeeff")


def real(name: str) -> bytes:
    return lzma.decompress(vector(f"debian-ovmf/{name}.xz"))


def complaint(data: bytes) -> str:
    with pytest.raises(DiagnosticError) as caught:
        parse_tdvf(data, name="OVMF.fd")
    diagnostic = caught.value.diagnostics[0]
    assert diagnostic.code is Code.E_FIRMWARE
    assert diagnostic.span.file == "OVMF.fd"
    assert diagnostic.fix
    return diagnostic.message


def test_metadata_are_read_in_their_order() -> None:
    tdvf = parse_tdvf(build_firmware(), name="OVMF.fd")
    assert [s.type for s in tdvf.sections] == [
        SectionType.BFV,
        SectionType.CFV,
        SectionType.TEMP_MEM,
        SectionType.TD_HOB,
    ]
    assert [s.measured for s in tdvf.sections] == [True, False, False, False]


def test_the_table_is_walked_backwards_past_other_entries() -> None:
    image = b"\xaa" * 300 + table_bytes(((METADATA_GUID, b"meta"), (OTHER, b"")), 90) + bytes(32)
    assert guid_table(image) == {OTHER: b"", METADATA_GUID: b"meta"}


@pytest.mark.parametrize("data", [b"", b"x" * 40, bytes(4096), b"\xff" * 4096])
def test_a_file_without_metadata_is_no_td_firmware(data: bytes) -> None:
    assert "no TDVF metadata" in complaint(data)


def _with(number: int, **changes: int) -> bytes:
    areas = list(DEFAULT_AREAS)
    areas[number] = attrs.evolve(areas[number], **changes)
    return build_firmware(areas)


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (build_firmware(version=2), "version 2"),
        (build_firmware(length=100), "in 100 bytes"),
        (build_firmware(count=0x10000000), "sections"),
        (_with(0, raw_size=0x4000), "more data than memory"),
        (_with(0, offset=0x4000), "beyond the end of the file"),
        (_with(0, address=0xFFFFD001), "whole pages"),
        (_with(0, memory_size=0x3001), "whole pages"),
        (_with(0, attributes=8), "unknown attributes"),
        (_with(0, attributes=3), "too late"),
        (_with(0, attributes=0), "no boot firmware volume"),
        (_with(2, raw_size=0x1000), "has data"),
        (_with(2, memory_size=0), "is empty"),
        (_with(2, address=0x80A000), "overlap"),
        (_with(2, address=1 << 62), "address space"),
        (_with(2, memory_size=1 << 40), "too large"),
        (_with(2, kind=77), "unknown section type 77"),
    ],
)
def test_impossible_sections_are_refused_with_the_reason(data: bytes, words: str) -> None:
    assert words in complaint(data)


def test_a_table_that_does_not_add_up_is_refused() -> None:
    data = bytearray(build_firmware())
    struct.pack_into("<H", data, len(data) - 32 - 18, 0x7FFF)
    assert "GUIDs" in complaint(bytes(data))


def test_a_descriptor_offset_outside_the_file_is_refused() -> None:
    data = bytearray(build_firmware())
    struct.pack_into("<I", data, bytes(data).rindex(METADATA_GUID.bytes_le) - 6, 0x7FFFFFFF)
    assert "before the end" in complaint(bytes(data))


def reference_mrtd(data: bytes, order: PageOrder) -> bytes:
    """MRTD once more, as the specification words it, one record after the other."""
    hasher = hashlib.sha384()

    def add(address: int) -> None:
        hasher.update(b"MEM.PAGE.ADD\0\0\0\0" + struct.pack("<Q", address) + bytes(104))

    def extend(address: int, page: bytes) -> None:
        for start in range(0, 4096, 256):
            hasher.update(b"MR.EXTEND\0\0\0\0\0\0\0" + struct.pack("<Q", address + start) + bytes(104))
            hasher.update(page[start : start + 256])

    for section in parse_tdvf(data, name="x").sections:
        content = data[section.offset : section.offset + section.raw_size].ljust(section.memory_size, b"\0")
        pages = [(section.address + at, content[at : at + 4096]) for at in range(0, section.memory_size, 4096)]
        if order is PageOrder.ADDS_FIRST:
            for address, _ in pages:
                add(address)
        for address, page in pages:
            if order is PageOrder.INTERLEAVED and not section.attributes & 2:
                add(address)
            if section.measured:
                extend(address, page)
    return hasher.digest()


@pytest.mark.parametrize("order", list(PageOrder))
def test_mrtd_follows_the_page_order(order: PageOrder) -> None:
    areas = (Area(0x2000, 0x2345, 0xFFFFD000, 0x3000, 0, 1), *DEFAULT_AREAS[1:])
    data = build_firmware(areas)
    assert mrtd(parse_tdvf(data, name="x"), data, order) == reference_mrtd(data, order)


def test_mrtd_depends_on_the_boot_volume_and_not_on_the_variable_store() -> None:
    data = bytearray(build_firmware())
    tdvf = parse_tdvf(bytes(data), name="x")
    before = mrtd(tdvf, bytes(data))
    data[0x10] ^= 1
    assert mrtd(tdvf, bytes(data)) == before
    assert mrtd(tdvf, bytes(data), extend_all=True) != before
    data[0x2010] ^= 1
    assert mrtd(tdvf, bytes(data)) != before


def test_pages_that_come_later_are_not_added() -> None:
    later = build_firmware((*DEFAULT_AREAS[:2], attrs.evolve(DEFAULT_AREAS[2], attributes=2), DEFAULT_AREAS[3]))
    assert mrtd(parse_tdvf(later, name="x"), later) == reference_mrtd(later, PageOrder.INTERLEAVED)


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ("2025.02-8+deb13u1", 202502),
        ("edk2-stable202505", 202505),
        ("edk2-20250523-1.fc42", 202505),
        ("unknown", 0),
        ("", 0),
    ],
)
def test_releases_are_read_from_version_texts(text: str, release: int) -> None:
    assert parse_release(text) == release


def plain(**changes: Any) -> Firmware:
    """A made-up firmware with made-up traits."""
    traits = FirmwareTraits(oldest=202502, newest=202502, measures_td=True, setup_volume=DXE_VOLUME)
    data = build_firmware()
    return Firmware(
        name="OVMF.fd",
        data=data,
        sha256="",
        tdvf=parse_tdvf(data, name="OVMF.fd"),
        traits=attrs.evolve(traits, **changes),
        configuration=b"",
        variables=(),
    )


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"needs_smm": True}, "system management mode"),
        ({"measures_td": False}, "does not measure"),
        ({"has_menu_app": True, "menu_volume": None}, "stops in a TD"),
    ],
)
def test_what_keeps_a_td_from_booting_is_a_warning_that_says_how_one_can_tell(
    changes: dict[str, object], words: str
) -> None:
    (warning,) = firmware_warnings(plain(**changes))
    assert warning.code is Code.W_FIRMWARE
    assert words in warning.message
    assert "one can tell because" in warning.notes[0].message
    assert warning.fix
    assert not firmware_warnings(plain())


def test_bounds_leave_a_rule_open_or_decide_it() -> None:
    traits = FirmwareTraits(oldest=202405, newest=202502)
    assert [traits.at_least(release) for release in (202405, 202411, 202505)] == [True, None, False]


def test_a_stated_release_must_fit_the_traces() -> None:
    firmware = plain(oldest=202302, newest=202502)
    decided = declare_release(firmware, "202411").traits
    assert decided is not None
    assert (decided.oldest, decided.newest) == (202411, 202411)
    for release in ("202508", "tomorrow"):
        with pytest.raises(DiagnosticError) as caught:
            declare_release(firmware, release)
        assert caught.value.diagnostics[0].code is Code.E_FIRMWARE


def test_a_firmware_that_cannot_be_read_is_a_diagnostic(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as caught:
        read_firmware(tmp_path / "missing.fd")
    assert caught.value.diagnostics[0].code is Code.E_FIRMWARE


def test_a_damaged_variable_store_is_refused() -> None:
    with pytest.raises(DiagnosticError) as caught:
        parse_firmware(build_firmware(), name="OVMF.fd")
    assert "variable store is damaged" in caught.value.diagnostics[0].message


@needs_vectors
def test_mrtd_of_a_real_firmware_in_both_page_orders() -> None:
    data = real("OVMF.inteltdx.ms.fd")
    tdvf = parse_tdvf(data, name="OVMF.inteltdx.ms.fd")
    assert mrtd(tdvf, data).hex() == (
        "a7a1f751abc454f9cbab198ca8d2edb2821935df525c74182b5e776cb0929e8c59aefecce725b0d08a5e9d3d3183bd08"
    )
    assert mrtd(tdvf, data, PageOrder.ADDS_FIRST).hex() == (
        "b90b236113eb4c0d4df4ef590568c14e6028a3a31d7e8ac63dee9845df5008d3ebf82d4f5974e933798f65d7a279b9a9"
    )


@needs_vectors
def test_a_real_firmware_as_a_table() -> None:
    firmware = parse_firmware(real("OVMF.inteltdx.ms.fd"), name="OVMF.inteltdx.ms.fd")
    assert hashlib.sha384(firmware.configuration).hexdigest() == (
        "327d4a91229b3993a7f6f64740d94ff689d44b45edada6e255596d4c7aa287576a92fb1f5c350c287caf60670a5bad5a"
    )
    rows = section_rows(firmware)
    assert rows[0] == ("BFV", "0x84000", "0x37c000", "0xffc84000", "0x37c000", "content", "added")
    assert len({len(row) for row in (*rows, SECTION_COLUMNS)}) == 1
    described = firmware_to_json(firmware)
    assert described["secure_boot"] is True
    assert described["traits"] is not None


@needs_vectors
def test_traits_of_a_real_td_firmware() -> None:
    firmware = parse_firmware(real("OVMF.inteltdx.ms.fd"), name="OVMF.inteltdx.ms.fd")
    traits = firmware.traits
    assert traits is not None
    assert (traits.oldest, traits.newest) == (202608, 202608)
    assert traits.measures_fw_cfg
    assert traits.measures_smbios
    assert traits.menu_volume == DXE_VOLUME
    assert traits.setup_volume is None, "the setup application lies in the volume for other machines"
    assert not firmware_warnings(firmware)
    assert [w.code for w in unsigned_warning(firmware, signed=False)] == [Code.W_FIRMWARE]
    assert not unsigned_warning(firmware, signed=True)


@needs_vectors
def test_the_variables_of_real_stores() -> None:
    assert read_variables(real("OVMF_VARS_4M.fd")) == ()
    names = {variable.name for variable in read_variables(real("OVMF_VARS_4M.ms.fd"))}
    assert {"PK", "KEK", "db", "dbx"} <= names
