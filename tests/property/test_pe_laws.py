"""Whatever bytes come: the PE and UKI parsers answer or refuse, and never read what is not there."""

import contextlib
import hashlib

from hypothesis import given, settings
from hypothesis import strategies as st
from support.efi_images import Part, build_pe, build_uki
from tdxc.diagnostics import DiagnosticError
from tdxc_runtime.measure.events import Algorithm
from tdxc_runtime.measure.pe.authenticode import authenticode_ranges
from tdxc_runtime.measure.pe.digests import DigestPlan, Literal, Segment, Span, Zeros, hash_plans
from tdxc_runtime.measure.pe.image import MalformedImageError, parse_image
from tdxc_runtime.measure.sources import MemorySource
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


segments = st.one_of(
    st.tuples(st.integers(0, 4000), st.integers(0, 96)).map(lambda pair: Span(pair[0], pair[1])),
    st.integers(0, 70000).map(Zeros),
    st.binary(max_size=20).map(Literal),
)


@given(st.lists(st.lists(segments, max_size=5), min_size=1, max_size=6), st.randoms(use_true_random=False))
@settings(max_examples=60, deadline=None)
def test_plans_hash_what_they_say(plans: list[list[Segment]], random: object) -> None:
    data = hashlib.shake_256(b"data").digest(4096)

    def content(segment: Segment) -> bytes:
        if isinstance(segment, Span):
            return data[segment.offset : segment.offset + segment.size]
        return bytes(segment.count) if isinstance(segment, Zeros) else segment.data

    made = [DigestPlan(name=str(number), segments=tuple(plan)) for number, plan in enumerate(plans)]
    # extend some plans by others, so that beginnings are shared
    made += [DigestPlan(name=f"+{p.name}", segments=(*p.segments, *made[0].segments)) for p in made]
    found = hash_plans(MemorySource(name="x", data=data), made, (Algorithm.SHA384,))
    for plan in made:
        expected = hashlib.sha384(b"".join(map(content, plan.segments))).digest()
        assert found[plan.name] == ((Algorithm.SHA384, expected),)
