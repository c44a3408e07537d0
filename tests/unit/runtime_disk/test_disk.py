"""Disk writers: the same bytes each time, and what independent readers make of them."""

from __future__ import annotations

import io
import struct
import tarfile
import uuid
import zlib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.disk import Extent, SparseImage, make_esp_disk, write_qcow2, write_raw, write_target
from tdxc_runtime.disk.fat32 import FatFile, fat32_extents
from tdxc_runtime.disk.gcp import tar_blocks
from tdxc_runtime.disk.vhd import vhd_footer, write_vhd

SEED = uuid.UUID("6d1b0e0a-1d0f-4e4b-9a3c-5f1f0c8a7d21")


@pytest.fixture
def uki(tmp_path: Path) -> Path:
    path = tmp_path / "image.efi"
    path.write_bytes(bytes(range(256)) * 300 + b"tail")
    return path


def raw(image: SparseImage) -> bytes:
    file = io.BytesIO()
    write_raw(image, file)
    return file.getvalue()


@st.composite
def images(draw: st.DrawFn) -> SparseImage:
    end, extents = 0, []
    for gap, data in draw(st.lists(st.tuples(st.integers(0, 1500), st.binary(min_size=1, max_size=1200)), max_size=6)):
        extents.append(Extent(offset=end + gap, source=data, size=len(data)))
        end += gap + len(data)
    return SparseImage(size=-(-(end + draw(st.integers(0, 3000))) // 512) * 512, extents=tuple(extents))


@given(images(), st.sampled_from([1, 7, 512, 4096]))
def test_aligned_blocks_are_the_raw_disk_and_what_they_leave_out_is_zero(image: SparseImage, block: int) -> None:
    rebuilt = bytearray(-(-image.size // block) * block)
    numbers = []
    for number, data in image.aligned(block):
        assert len(data) == block
        rebuilt[number * block : (number + 1) * block] = data
        numbers.append(number)
    assert numbers == sorted(set(numbers))
    assert bytes(rebuilt[: image.size]) == raw(image)


@given(images())
def test_python_reads_the_sparse_tar_back(image: SparseImage) -> None:
    archive = io.BytesIO(b"".join(tar_blocks(image)))
    with tarfile.open(fileobj=archive) as tar:
        (member,) = tar.getmembers()
        content = tar.extractfile(member)
        assert content is not None
        assert (member.name, member.uid, member.mtime, member.size) == ("disk.raw", 0, 0, image.size)
        assert content.read() == raw(image)
    assert len(archive.getvalue()) % 10240 == 0


def test_overlapping_extents_are_refused() -> None:
    with pytest.raises(ValueError, match="overlaps"):
        SparseImage(size=10, extents=(Extent(offset=0, source=b"abc", size=3), Extent(offset=2, source=b"x", size=1)))
    with pytest.raises(ValueError, match="behind the image"):
        SparseImage(size=1, extents=(Extent(offset=0, source=b"abc", size=3),))


def test_a_file_that_shrinks_while_it_is_read_is_an_error(uki: Path) -> None:
    extent = Extent(offset=0, source=uki, size=uki.stat().st_size + 1)
    with pytest.raises(OSError, match="became shorter"):
        list(extent.chunks())


def test_gpt_checksums_hold_and_the_headers_point_at_each_other(uki: Path) -> None:
    disk = make_esp_disk(uki, SEED)
    sectors = dict(disk.image.aligned(512))
    last = disk.image.size // 512 - 1
    for lba, other in ((1, last), (last, 1)):
        header = sectors[lba][:92]
        fields = struct.unpack("<8sIIIIQQQQ16sQIII", header)
        assert fields[0] == b"EFI PART"
        assert (fields[5], fields[6]) == (lba, other)
        assert zlib.crc32(header[:16] + b"\0" * 4 + header[20:]) == fields[3]
        assert zlib.crc32(b"".join(sectors[fields[10] + n] for n in range(32))) == fields[13]
        assert uuid.UUID(bytes_le=fields[9]) == disk.disk_guid
        assert (fields[7], fields[8]) == (34, last - 33)
    assert sectors[0][510:] == b"\x55\xaa"


def test_identifiers_come_from_the_seed_alone(uki: Path, tmp_path: Path) -> None:
    other = tmp_path / "other" / "image.efi"
    other.parent.mkdir()
    other.write_bytes(uki.read_bytes())
    ours, theirs = make_esp_disk(uki, SEED), make_esp_disk(other, SEED)
    assert list(ours.image.aligned(4096)) == list(theirs.image.aligned(4096))
    assert make_esp_disk(uki, uuid.UUID(int=1)).disk_guid != ours.disk_guid


@pytest.mark.parametrize("name", ["efi", "TOOLONGNAME", "A.LONG", "A B", "", "..", "Ä"])
def test_names_that_fat_cannot_hold_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="8\\.3"):
        fat32_extents(
            (FatFile(path=name, source=b"x", size=1),), sectors=1 << 21, hidden_sectors=0, volume_id=1, label="A"
        )


def test_volumes_that_are_too_small_are_refused() -> None:
    with pytest.raises(ValueError, match="FAT32 needs"):
        fat32_extents((), sectors=1 << 16, hidden_sectors=0, volume_id=1, label="A")
    with pytest.raises(ValueError, match="the volume has"):
        fat32_extents(
            (FatFile(path="A", source=b"", size=1 << 30),), sectors=1 << 20, hidden_sectors=0, volume_id=1, label="A"
        )


def test_vhd_footer_has_the_specified_fields_and_a_true_checksum() -> None:
    footer = vhd_footer(1 << 30, SEED)
    assert len(footer) == 512
    assert footer[:8] == b"conectix"
    assert struct.unpack(">I", footer[60:64]) == (2,)
    assert struct.unpack(">QQ", footer[40:56]) == (1 << 30, 1 << 30)
    assert footer[68:84] == SEED.bytes
    (checksum,) = struct.unpack(">I", footer[64:68])
    assert ~sum(footer[:64] + footer[68:]) & 0xFFFFFFFF == checksum
    cylinders, heads, sectors = struct.unpack(">HBB", footer[56:60])
    assert (cylinders, heads, sectors) == (2080, 16, 63)


def test_a_vhd_that_azure_would_reject_is_refused() -> None:
    with pytest.raises(ValueError, match="MiB"):
        write_vhd(SparseImage(size=512, extents=()), SEED, io.BytesIO())


def test_qcow2_header_and_tables_lead_to_every_byte() -> None:
    image = SparseImage(
        size=1 << 30,
        extents=(Extent(offset=5, source=b"abc", size=3), Extent(offset=(600 << 20) + 65535, source=b"xy", size=2)),
    )
    file = io.BytesIO()
    write_qcow2(image, file)
    data = file.getvalue()
    magic, version = struct.unpack(">4sI", data[:8])
    assert (magic, version) == (b"QFI\xfb", 3)
    (l1,) = struct.unpack(">Q", data[40:48])

    def read(offset: int, size: int) -> bytes:
        cluster, within = divmod(offset, 65536)
        (l2,) = struct.unpack_from(">Q", data, l1 + cluster // 8192 * 8)
        (host,) = struct.unpack_from(">Q", data, (l2 & ~(1 << 63)) + cluster % 8192 * 8)
        return data[(host & ~(1 << 63)) + within :][:size]

    assert read(5, 3) == b"abc"
    assert read((600 << 20) + 65535, 1) == b"x"
    assert read((600 << 20) + 65536, 1) == b"y"


@pytest.mark.parametrize("target", ["qemu", "azure", "gcp"])
def test_targets_are_the_same_bytes_each_time(uki: Path, tmp_path: Path, target: str) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    first = write_target(target, uki, SEED, tmp_path / "a")
    second = write_target(target, uki, SEED, tmp_path / "b")
    with first.open("rb") as a, second.open("rb") as b:
        while chunk := a.read(1 << 24):
            assert chunk == b.read(1 << 24)
        assert not b.read(1)


def test_an_unknown_target_is_a_diagnostic(uki: Path, tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as caught:
        write_target("vmware", uki, SEED, tmp_path)
    assert caught.value.diagnostics[0].code is Code.E_DEPLOYMENT
