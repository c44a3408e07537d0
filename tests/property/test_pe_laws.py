"""Whatever bytes come: the PE and UKI parsers answer or refuse, and never read what is not there."""

import contextlib
import hashlib
from collections.abc import Iterator
from unittest import mock

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.efi_images import Part, build_pe, build_uki
from tdxc.diagnostics import DiagnosticError
from tdxc_runtime.measure.events import Algorithm
from tdxc_runtime.measure.pe import digests
from tdxc_runtime.measure.pe.authenticode import authenticode_ranges
from tdxc_runtime.measure.pe.digests import DigestPlan, Literal, Segment, Span, Zeros, hash_plans
from tdxc_runtime.measure.pe.image import MalformedImageError, parse_image
from tdxc_runtime.measure.sources import MemorySource, TruncatedInputError
from tdxc_runtime.measure.stub.handover import StubBoot, hand_over, section_plans
from tdxc_runtime.measure.stub.uki import open_uki

UKI = build_uki()
HEADERS = 0x600

edits = st.lists(st.tuples(st.integers(0, HEADERS), st.binary(min_size=1, max_size=8)), min_size=1, max_size=6)


def damaged(image: bytes, changes: list[tuple[int, bytes]], cut: int) -> bytes:
    data = bytearray(image)
    for offset, value in changes:
        data[offset : offset + len(value)] = value
    return bytes(data[: len(data) - cut])


@given(edits, st.integers(0, 2000))
@settings(max_examples=400)
def test_a_damaged_image_is_measured_or_refused(changes: list[tuple[int, bytes]], cut: int) -> None:
    source = MemorySource(name="x", data=damaged(UKI, changes, cut))
    try:
        image = parse_image(source)
        ranges = authenticode_ranges(image)
    except MalformedImageError:
        return
    assert all(offset >= 0 and offset + size <= source.size for offset, size in ranges)


@given(st.binary(max_size=2000))
@settings(max_examples=200)
def test_arbitrary_bytes_are_no_image(data: bytes) -> None:
    with contextlib.suppress(MalformedImageError):
        parse_image(MemorySource(name="x", data=b"MZ" + data))


@given(edits, st.integers(0, 2000))
@settings(max_examples=200, deadline=None)
def test_a_damaged_uki_gives_digests_or_a_diagnostic(changes: list[tuple[int, bytes]], cut: int) -> None:
    source = MemorySource(name="x", data=damaged(UKI, changes, cut))
    try:
        uki = open_uki(source, artifact="x")
        handover = hand_over(uki, StubBoot())
    except DiagnosticError:
        return
    plans = (*section_plans(uki), DigestPlan(name="(initrd)", segments=handover.initrd))
    assert len(hash_plans(source, plans, (Algorithm.SHA256,))) == len(plans)


@given(st.lists(st.binary(max_size=1500), min_size=1, max_size=6), st.binary(max_size=40), st.binary(max_size=40))
@settings(max_examples=100)
def test_every_byte_counts_once_but_checksum_and_certificates(
    parts: list[bytes], tail: bytes, signature: bytes
) -> None:
    sections = [Part(f".s{number}", data) for number, data in enumerate(parts)]
    data = build_pe(sections, trailing=tail, certificate=signature)
    image = parse_image(MemorySource(name="x", data=data))
    covered = [False] * len(data)
    for offset, size in authenticode_ranges(image):
        assert not any(covered[offset : offset + size])
        covered[offset : offset + size] = [True] * size
    skipped = {index for index, hashed in enumerate(covered) if not hashed}
    assert image.certificate_entry is not None
    assert skipped == {
        *range(image.checksum_offset, image.checksum_offset + 4),
        *range(image.certificate_entry, image.certificate_entry + 8),
        *range(len(data) - len(signature), len(data)),
    }


somewhere = st.tuples(
    st.sampled_from([".late", ".pcrpkey", ".ucode"]),
    st.binary(max_size=700),
    st.one_of(st.none(), st.integers(0, 900)),
    st.one_of(st.none(), st.integers(0, 0x7000)),
).map(lambda fields: Part(*fields))


def loaded(data: bytes) -> bytes:
    """Memory after the firmware has loaded an image: the headers, then each section in the order of the table."""
    image = parse_image(MemorySource(name="x", data=data))
    memory = bytearray(0x20000)
    memory[: image.headers_size] = data[: image.headers_size]
    for section in image.sections:
        size = min(section.raw_size, section.virtual_size or section.raw_size)
        content = data[section.raw_offset : section.raw_offset + size].ljust(section.virtual_size, b"\0")
        memory[section.virtual_address : section.virtual_address + len(content)] = content
    return bytes(memory)


@given(st.lists(somewhere, max_size=4, unique_by=lambda part: part.name))
@settings(max_examples=200, deadline=None)
def test_sections_are_what_is_in_memory_or_refused(extra: list[Part]) -> None:
    data = build_uki(extra=extra)
    memory = loaded(data)
    try:
        uki = open_uki(MemorySource(name="x", data=data), artifact="x")
    except DiagnosticError:
        assert any(part.address is not None for part in extra), "sections behind each other share nothing"
        return
    for section in uki.sections.values():
        window = uki.window(section.name)
        assert window is not None
        assert window.read(0, window.size) == memory[section.virtual_address :][: window.size]


segments = st.one_of(
    st.tuples(st.integers(0, 4000), st.integers(0, 96)).map(lambda pair: Span(pair[0], pair[1])),
    st.integers(0, 70000).map(Zeros),
    st.binary(max_size=20).map(Literal),
)


@given(st.lists(st.lists(segments, max_size=5), min_size=1, max_size=6), st.sampled_from([1, 2, 5]))
@settings(max_examples=100, deadline=None)
def test_plans_hash_what_they_say(plans: list[list[Segment]], cores: int) -> None:
    data = hashlib.shake_256(b"data").digest(4096)

    def content(segment: Segment) -> bytes:
        if isinstance(segment, Span):
            return data[segment.offset : segment.offset + segment.size]
        return bytes(segment.count) if isinstance(segment, Zeros) else segment.data

    made = [DigestPlan(name=str(number), segments=tuple(plan)) for number, plan in enumerate(plans)]
    # extend some plans by others, so that beginnings are shared
    made += [DigestPlan(name=f"+{p.name}", segments=(*p.segments, *made[0].segments)) for p in made]
    banks = (Algorithm.SHA256, Algorithm.SHA384)
    with small_slices(cores):
        found = hash_plans(MemorySource(name="x", data=data), made, banks)
    for plan in made:
        expected = b"".join(map(content, plan.segments))
        assert found[plan.name] == tuple((bank, bank.digest(expected)) for bank in banks)


@given(st.integers(0, 3), st.sampled_from([1, 2, 5]))
@settings(max_examples=20, deadline=None)
def test_a_file_that_ends_early_ends_the_work_of_all_cores(number: int, cores: int) -> None:
    spans = [Span(0, 4096)] * 4
    spans[number] = Span(2000, 4096)
    plans = [DigestPlan(name=str(index), segments=(span, Literal(b"%d" % index))) for index, span in enumerate(spans)]
    with small_slices(cores), pytest.raises(TruncatedInputError):
        hash_plans(MemorySource(name="x", data=bytes(4096)), plans, (Algorithm.SHA256, Algorithm.SHA384))


@contextlib.contextmanager
def small_slices(cores: int) -> Iterator[None]:
    """Make several threads take turns over few bytes."""
    small = mock.patch.multiple(digests, PIECE_SIZE=64, SLICE_SIZE=100, _ZEROS=bytes(64), _ALONE_UP_TO=0)
    with small, mock.patch("os.sched_getaffinity", return_value=range(cores)):
        yield
