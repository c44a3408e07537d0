"""Matrices: every combination once, and what each register depends on."""

from pathlib import Path

import pytest
from support.efi_images import build_uki
from tdxc_runtime.measure.events import RTMR1, RTMR2
from tdxc_runtime.measure.machine import GIB, QemuVersion
from tdxc_runtime.measure.matrix import Axes, measure_matrix
from tdxc_runtime.measure.request import MeasurementRequest


@pytest.fixture
def images(tmp_path: Path) -> tuple[Path, ...]:
    paths = tuple(tmp_path / f"{stub}.efi" for stub in ("257.13", "258.2"))
    for path in paths:
        path.write_bytes(build_uki(stub=path.stem))
    return paths


def request(images: tuple[Path, ...]) -> MeasurementRequest:
    version = QemuVersion(major=10, minor=1)
    return MeasurementRequest(artifact=images[0], qemu_version=version, secure_boot=False)


def test_registers_depend_only_on_what_changes_them(images: tuple[Path, ...]) -> None:
    matrix = measure_matrix(request(images), Axes(images=images, memories=(2 * GIB, 4 * GIB), vcpus=(1, 2, 4)))
    assert matrix.axes == ("memory", "vcpus", "image")
    assert len(matrix.combinations) == 12
    assert matrix.depends_on[RTMR1] == ("image",)
    assert matrix.depends_on[RTMR2] == ()
    assert [len(group.choices) for group in matrix.distinct[RTMR1]] == [6, 6]
    assert [len(group.choices) for group in matrix.distinct[RTMR2]] == [12]


def test_equal_images_give_one_value(images: tuple[Path, ...]) -> None:
    images[1].write_bytes(images[0].read_bytes())
    matrix = measure_matrix(request(images), Axes(images=images))
    assert all(not axes for axes in matrix.depends_on.values())
    assert all(len(groups) == 1 for groups in matrix.distinct.values())


def test_a_matrix_without_axes_is_one_measurement(images: tuple[Path, ...]) -> None:
    matrix = measure_matrix(request(images), Axes())
    assert len(matrix.combinations) == 1
    assert matrix.axes == ()
