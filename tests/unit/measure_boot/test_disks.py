"""Reading a UKI out of a disk image: what the project's own writer puts there, and what mtools would."""

import uuid
from pathlib import Path

import pytest
from support.efi_images import build_uki
from tdxc.diagnostics import DiagnosticError
from tdxc_runtime.disk.esp import make_esp_disk
from tdxc_runtime.disk.extents import write_raw
from tdxc_runtime.measure.artifact import open_artifact
from tdxc_runtime.measure.boot.fat import Extents, FatFileSystem
from tdxc_runtime.measure.boot.gpt import ESP_TYPE, SECTOR, read_partition_table
from tdxc_runtime.measure.events import RTMR1
from tdxc_runtime.measure.predict import predict
from tdxc_runtime.measure.request import BootMode, MeasurementRequest
from tdxc_runtime.measure.sources import FileSource, MemorySource, TruncatedInputError


@pytest.fixture
def uki(tmp_path: Path) -> Path:
    path = tmp_path / "uki.efi"
    path.write_bytes(build_uki(initrd=bytes(range(256)) * 1000))
    return path


@pytest.fixture
def disk(uki: Path) -> Path:
    path = uki.with_name("disk.raw")
    with path.open("wb") as file:
        write_raw(make_esp_disk(uki, uuid.UUID(int=5)).image, file)
    return path


def test_the_uki_on_a_disk_is_found_and_read_whole(uki: Path, disk: Path) -> None:
    with open_artifact(disk) as artifact:
        assert artifact.image.read(0, artifact.image.size) == uki.read_bytes()
        assert artifact.table is not None
        assert [p.type_guid for p in artifact.table.partitions] == [ESP_TYPE]


def test_a_disk_and_its_uki_predict_alike(uki: Path, disk: Path) -> None:
    whole = predict(MeasurementRequest(artifact=disk, boot=BootMode.DISK)).manifest
    apart = predict(MeasurementRequest(artifact=uki, disk=disk, boot=BootMode.DISK)).manifest
    assert whole.expected(RTMR1) == apart.expected(RTMR1) != ()


def test_names_are_found_in_any_letter_case_and_folders_are_no_files(disk: Path) -> None:
    with FileSource(disk) as source:
        table = read_partition_table(source, artifact="disk.raw")
        files = FatFileSystem(source, table.partitions[0].first_lba * SECTOR)
        assert files.find(("efi", "boot", "bootx64.EFI")) is not None
        assert files.find(("EFI", "BOOT")) is None
        assert files.find(("EFI", "BOOT", "GRUBX64.EFI")) is None
        assert files.find(("EFI", "BOOT", "BOOTX64.EFI", "x")) is None


def test_a_disk_cut_short_is_refused(disk: Path) -> None:
    short = disk.with_name("short.raw")
    with disk.open("rb") as file:
        short.write_bytes(file.read(2 << 20))
    with pytest.raises(DiagnosticError):
        predict(MeasurementRequest(artifact=short, boot=BootMode.DISK))


def test_a_file_in_pieces_reads_as_one() -> None:
    pieces = Extents(source=MemorySource(name="d", data=b"0123456789"), name="f", size=6, pieces=((7, 3), (1, 3)))
    assert pieces.read(0, 6) == b"789123"
    assert pieces.read(2, 2) == b"91"
    assert pieces.read(6, 0) == b""
    with pytest.raises(TruncatedInputError):
        pieces.read(5, 2)
