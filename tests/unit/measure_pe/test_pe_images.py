"""PE headers and Authenticode ranges, against made-up images, an independent parser and a real boot's log."""

import hashlib
import struct

import lief
import pefile  # type: ignore[import-untyped]  # pefile has no types
import pytest
from support.efi_images import Part, build_kernel, build_pe, build_uki
from support.event_logs import needs_vectors, vector
from support.real_logs import digests, tpm_boot
from tdxc_runtime.measure.events import Algorithm, EventType, Register
from tdxc_runtime.measure.pe.authenticode import authenticode_ranges
from tdxc_runtime.measure.pe.digests import DigestPlan, Literal, Span, Zeros, hash_plans
from tdxc_runtime.measure.pe.image import MalformedImageError, parse_image, section_window
from tdxc_runtime.measure.sources import MemorySource

BOTH = (Algorithm.SHA256, Algorithm.SHA384)


def source(data: bytes) -> MemorySource:
    return MemorySource(name="image.efi", data=data)


def authenticode(data: bytes, algorithm: str = "sha256") -> str:
    hasher = hashlib.new(algorithm)
    for offset, size in authenticode_ranges(parse_image(source(data))):
        hasher.update(data[offset : offset + size])
    return hasher.hexdigest()


def test_headers_agree_with_pefile() -> None:
    data = build_uki()
    ours, theirs = parse_image(source(data)), pefile.PE(data=data)
    assert ours.machine == theirs.FILE_HEADER.Machine
    assert ours.headers_size == theirs.OPTIONAL_HEADER.SizeOfHeaders
    assert [(s.virtual_size, s.virtual_address, s.raw_offset, s.raw_size) for s in ours.sections] == [
        (s.Misc_VirtualSize, s.VirtualAddress, s.PointerToRawData, s.SizeOfRawData) for s in theirs.sections
    ]


@pytest.mark.parametrize("data", [build_uki(), build_kernel(), build_pe([Part(".a", b"x" * 512)])])
def test_authenticode_of_aligned_images_agrees_with_lief(data: bytes) -> None:
    parsed = lief.PE.parse(list(data))
    assert isinstance(parsed, lief.PE.Binary)
    assert authenticode(data) == parsed.authentihash(lief.PE.ALGORITHMS.SHA_256).hex()
    assert authenticode(data, "sha384") == parsed.authentihash(lief.PE.ALGORITHMS.SHA_384).hex()


def test_a_signature_does_not_change_the_digest() -> None:
    assert authenticode(build_uki(certificate=b"signature bytes!")) == authenticode(build_uki())


def test_the_checksum_does_not_count_but_every_other_header_byte_does() -> None:
    data = build_uki()
    image = parse_image(source(data))
    changed = bytearray(data)
    changed[image.checksum_offset] ^= 0xFF
    assert authenticode(bytes(changed)) == authenticode(data)
    changed[image.checksum_offset + 4] ^= 0xFF
    assert authenticode(bytes(changed)) != authenticode(data)


def test_bytes_after_the_last_section_count_unpadded() -> None:
    trailing = b"tail of thirteen"[:13]
    with_tail = build_pe([Part(".a", b"x")], trailing=trailing)
    ranges = authenticode_ranges(parse_image(source(with_tail)))
    assert ranges[-1] == (len(with_tail) - 13, 13)


def test_sections_are_hashed_in_file_order() -> None:
    data = bytearray(build_pe([Part(".a", b"a" * 512), Part(".b", b"b" * 512)]))
    table = data.index(b".a\0\0\0\0\0\0")
    first, second = data[table : table + 40], data[table + 40 : table + 80]
    data[table : table + 80] = second + first
    ranges = authenticode_ranges(parse_image(source(bytes(data))))
    assert [offset for offset, _ in ranges] == sorted(offset for offset, _ in ranges)


def test_an_image_with_few_directories_has_nothing_to_skip() -> None:
    data = build_pe([Part(".a", b"x" * 512)], directories=4)
    image = parse_image(source(data))
    assert image.certificate_entry is None
    assert authenticode_ranges(image)[1] == (image.checksum_offset + 4, image.headers_size - image.checksum_offset - 4)


def test_a_certificate_table_larger_than_the_rest_is_refused() -> None:
    data = bytearray(build_pe([Part(".a", b"x" * 512)], trailing=b"abc"))
    entry = parse_image(source(bytes(data))).certificate_entry
    assert entry is not None
    struct.pack_into("<II", data, entry, 0, 4)
    with pytest.raises(MalformedImageError, match="certificate table"):
        authenticode_ranges(parse_image(source(bytes(data))))


@pytest.mark.parametrize(
    ("offset", "value", "complaint"),
    [
        (0, b"ZM", "MZ"),
        (0x3C, b"\xff\xff\xff\x7f", "cut short"),
        (0x80, b"NE\0\0", "PE header"),
        (0x86, b"\0\0", "0 sections"),
        (0x86, b"\xff\xff", "65535 sections"),
        (0x98, b"\x07\x01", "magic"),
        (0x98 + 60, b"\xff\xff\xff\xff", "SizeOfHeaders"),
        (0x98 + 108, b"\xff\0\0\0", "directories"),
    ],
)
def test_damaged_headers_are_named(offset: int, value: bytes, complaint: str) -> None:
    data = bytearray(build_pe([Part(".a", b"x")]))
    data[offset : offset + len(value)] = value
    with pytest.raises(MalformedImageError, match=complaint):
        parse_image(source(bytes(data)))


def test_a_section_beyond_the_file_is_refused() -> None:
    with pytest.raises(MalformedImageError, match="beyond the end"):
        parse_image(source(build_pe([Part(".a", b"x" * 1000)])[:-1]))


def test_memory_beyond_the_raw_data_is_zero_and_padding_is_not_mapped() -> None:
    data = build_pe([Part(".a", b"abc", 600), Part(".b", b"defgh")])
    image = parse_image(source(data))
    larger, smaller = (section_window(source(data), section) for section in image.sections)
    assert larger.read(0, 600) == b"abc".ljust(600, b"\0")
    assert smaller.read(0, 5) == b"defgh"
    assert smaller.size == 5


def test_plans_agree_with_plain_hashing_in_any_order_and_with_shared_beginnings() -> None:
    data = bytes(range(256)) * 64
    section = (Span(1000, 5000), Zeros(3))
    plans = (
        DigestPlan(name="combined", segments=(*section, Literal(b"tail"))),
        DigestPlan(name="section", segments=section),
        DigestPlan(name="backwards", segments=(Span(9000, 10), Span(0, 10), Span(5, 9995))),
        DigestPlan(name="empty", segments=()),
        DigestPlan(name="again", segments=(*section, Literal(b"tail"), Span(0, 1))),
        DigestPlan(name="twin", segments=section),
    )
    expected = {
        "section": data[1000:6000] + bytes(3),
        "combined": data[1000:6000] + bytes(3) + b"tail",
        "backwards": data[9000:9010] + data[:10] + data[5:10000],
        "empty": b"",
        "again": data[1000:6000] + bytes(3) + b"tail" + data[:1],
        "twin": data[1000:6000] + bytes(3),
    }
    found = hash_plans(source(data), plans, BOTH)
    assert found == {name: tuple((a, a.digest(content)) for a in BOTH) for name, content in expected.items()}


@needs_vectors
def test_digests_of_the_real_boot_of_a_small_uki() -> None:
    data = vector("qemu-tcg/tiny257.efi")
    assert authenticode(data) == "2944a81be4303f309bbf7023fe2fddbb3b5d6707abcc17f4f9fd9839a0c2529b"
    assert authenticode(data, "sha384") == (
        "d5ccdb86079d90316acaf5fe6d3f344d9e6f790a0a99b592e8a6890a9a99c45e7857aafedd94d14af5bb16c1e4d79872"
    )
    loaded = digests(tpm_boot("tiny257"), Register.pcr(4), kind=EventType.EV_EFI_BOOT_SERVICES_APPLICATION)
    assert loaded == [authenticode(data), authenticode(vector("qemu-tcg/app.efi"))]
