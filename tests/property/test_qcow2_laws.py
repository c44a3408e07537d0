"""A disk in qcow2 reads as the disk that was written, and a damaged image is refused."""

import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.fuzzing import mutations, only_diagnosed
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.disk.extents import Extent, SparseImage
from tdxc_runtime.disk.qcow2 import write_qcow2
from tdxc_runtime.measure.qcow2 import Qcow2Disk
from tdxc_runtime.measure.sources import MemorySource, TruncatedInputError

SIZE = 3 << 16


def qcow2(image: SparseImage) -> bytes:
    file = io.BytesIO()
    write_qcow2(image, file)
    return file.getvalue()


def disk(data: bytes) -> Qcow2Disk:
    return Qcow2Disk(MemorySource(name="disk.qcow2", data=data), "disk.qcow2")


SMALL = qcow2(SparseImage(size=SIZE, extents=(Extent(offset=70000, source=b"text" * 100, size=400),)))


@given(st.integers(0, SIZE - 300), st.binary(min_size=1, max_size=300), st.integers(0, SIZE), st.integers(0, SIZE))
@settings(max_examples=40)
def test_every_range_reads_as_written(offset: int, data: bytes, start: int, end: int) -> None:
    found = disk(qcow2(SparseImage(size=SIZE, extents=(Extent(offset=offset, source=data, size=len(data)),))))
    whole = bytes(offset) + data + bytes(SIZE - offset - len(data))
    assert found.size == SIZE
    assert found.read(min(start, end), abs(end - start)) == whole[min(start, end) : max(start, end)]
    with pytest.raises(TruncatedInputError):
        found.read(SIZE - 1, 2)


@given(mutations(SMALL[:200]), mutations(SMALL[3 << 16 :][:300]))
@settings(max_examples=200)
def test_a_damaged_image_is_refused_or_read(head: bytes, tables: bytes) -> None:
    data = head + SMALL[200 : 3 << 16] + tables + SMALL[(3 << 16) + 300 :]
    with only_diagnosed(Code.E_ARTIFACT, "disk.qcow2"):
        found = disk(data)
        assert len(found.read(0, min(found.size, 1 << 20))) == min(found.size, 1 << 20)


@pytest.mark.parametrize(
    ("place", "value", "words"),
    [
        (8, b"\0" * 7 + b"\1", "backing file"),
        (32, b"\0\0\0\1", "encryption"),
        (79, b"\2", "features"),
        (4, b"\0\0\0\4", "no qcow2 image"),
        (24, b"\0\1", "does not suit"),
    ],
)
def test_what_a_bake_never_writes_is_refused(place: int, value: bytes, words: str) -> None:
    with pytest.raises(DiagnosticError, match=words):
        disk(SMALL[:place] + value + SMALL[place + len(value) :])


def test_compressed_clusters_are_refused() -> None:
    entry = 4 << 16
    compressed = SMALL[: entry + 8] + b"\x40" + SMALL[entry + 9 :]
    with pytest.raises(DiagnosticError, match="compressed"):
        disk(compressed).read(70000, 4)
