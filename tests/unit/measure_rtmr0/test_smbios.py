"""What firmware hashes of the SMBIOS tables: against a real boot, and field by field."""

from __future__ import annotations

import lzma
import struct

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.event_logs import needs_vectors, vector
from support.real_logs import digests, tpm_boot
from tdxc.diagnostics import DiagnosticError
from tdxc_runtime.measure.events import Algorithm, EventType, Register
from tdxc_runtime.measure.firmware.texts import FirmwareTexts, find_texts
from tdxc_runtime.measure.firmware.traits import read_traits
from tdxc_runtime.measure.machine import parse_processor_id
from tdxc_runtime.measure.rtmr0.smbios import measured_smbios

TEXTS = FirmwareTexts(vendor="EDK II", version="1.0-test", release_date="01/02/2026")


def structure(kind: int, handle: int, fields: bytes, *strings: str) -> bytes:
    tail = b"".join(text.encode() + b"\0" for text in strings) or b"\0"
    return struct.pack("<BBH", kind, 4 + len(fields), handle) + fields + tail + b"\0"


END = structure(127, 0x7F00, b"")
BIOS = structure(0, 0, bytes.fromhex("010200e8030008000000000000000 01c0000ffff0000".replace(" ", "")), "EDK II",
                 "1.0-test", "01/02/2026")  # fmt: skip
LAST = bytes.fromhex("7f04fffe0000")


@needs_vectors
@pytest.mark.parametrize("name", ["t1", "t9"])
def test_the_event_of_a_real_boot(name: str) -> None:
    traits = read_traits(lzma.decompress(vector("debian-ovmf/OVMF.inteltdx.ms.fd.xz")))
    assert traits is not None
    assert traits.texts is not None
    hashed = measured_smbios(vector("qemu-tcg/smbios.bin"), traits.texts)
    logged = digests(tpm_boot(name), Register.pcr(1), kind=EventType.EV_EFI_HANDOFF_TABLES)
    assert logged == [Algorithm.SHA256.digest(hashed).hex()]


def test_what_names_one_machine_is_blanked() -> None:
    system = structure(1, 0x100, b"\1\2\0\3" + bytes(range(16)) + b"\6\0\0", "QEMU", "q35", "serial")
    blank = structure(1, 0x100, b"\1\2\0\0" + bytes(19), "QEMU", "q35", "      ")
    assert measured_smbios(system + END, TEXTS) == blank + BIOS + LAST


def test_whole_structures_and_those_of_other_makers_are_blanked() -> None:
    for kind in (11, 15, 200):
        given_one = structure(kind, 7, b"\1", "text")
        assert measured_smbios(given_one + END, TEXTS)[: len(given_one)] == given_one[:4] + bytes(len(given_one) - 4)


def test_a_field_beyond_a_short_structure_stays() -> None:
    short = structure(4, 0x400, bytes(range(4, 40)))
    kept = measured_smbios(short + END, TEXTS)[: len(short)]
    assert kept[38:40] == short[38:40]
    assert kept[35:38] == bytes(3)
    assert len(kept) == len(short)


def test_the_host_s_processor_takes_the_place_of_qemu_s() -> None:
    processor = structure(4, 0x400, b"\0" * 4 + b"QEMU-CPU" + bytes(30))
    hashed = measured_smbios(processor + END, TEXTS, processor_id=b"HOST-CPU")
    assert hashed[8:16] == b"HOST-CPU"
    assert measured_smbios(processor + END, TEXTS)[8:16] == b"QEMU-CPU"


def test_the_firmware_s_own_structure_takes_the_first_free_handle_or_is_qemu_s() -> None:
    assert struct.unpack_from("<BBH", measured_smbios(structure(16, 0, b"x") + END, TEXTS), 7) == (0, 26, 1)
    own = structure(0, 5, b"\1" + bytes(21), "somebody")
    assert measured_smbios(own + END, TEXTS) == own + LAST


tables = st.lists(
    st.builds(
        structure, st.integers(0, 140), st.integers(0, 9), st.binary(max_size=50), st.sampled_from(["", "a", "bc"])
    )
)


@given(st.one_of(st.binary(max_size=300), tables.map(lambda found: b"".join((*found, END)))))
def test_damaged_tables_are_refused_or_hashed_and_never_more(data: bytes) -> None:
    try:
        hashed = measured_smbios(data, TEXTS, processor_id=bytes(8))
    except ValueError:
        return
    assert hashed.endswith(LAST)
    assert len(hashed) <= len(data) + len(BIOS) + len(LAST)


def wide(*texts: str) -> bytes:
    return b"\xff\xff".join(b"\0\0" + text.encode("utf-16-le") + b"\0\0" for text in texts)


def test_texts_of_a_firmware() -> None:
    literals = ("unknown", "02/02/2022")
    module = wide(*literals, "01/02/2026", "1.0-test", "EDK II")
    volume = module + wide("EDK II")
    assert find_texts(module, volume, "1.0-test") == TEXTS
    stray = wide(*literals, "01/02/2026", "1.0-test") + b"@\0" + wide("EDK II")[2:]
    assert find_texts(stray, stray + wide("EDK II"), "1.0-test") == TEXTS
    empty = wide(*literals, "EDK II")
    unset = attrs.evolve(TEXTS, version="unknown", release_date="02/02/2022")
    assert find_texts(empty, empty + wide("EDK II"), "") == unset
    assert find_texts(module, module, "1.0-test") is None, "the vendor stands in no other module"
    assert find_texts(module, volume, "") is None, "vendor and version cannot be told apart"
    assert find_texts(b"", volume, "1.0-test") is None


def test_a_processor_s_identity() -> None:
    assert parse_processor_id("F2 06 0C 00 FF FB 8B 1F") == "f2060c00fffb8b1f"
    for text in ("", "F2", "F2 06 0C 00 FF FB 8B 1G", "0x" + "00" * 8):
        with pytest.raises(DiagnosticError):
            parse_processor_id(text)
