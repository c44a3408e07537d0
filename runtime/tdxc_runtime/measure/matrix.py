"""Measure one image under many circumstances, and find out which of them each register really depends on.

Every file is read once, every set of tables is read out of QEMU once, and every image is hashed once, however many
combinations they take part in; all of that at the same time.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import attrs

from .acpi.items import FwCfgItems, read_from_qemu
from .acpi.qemu import Qemu, find_qemu
from .artifact import Artifact, open_artifact
from .events import Algorithm, PredictedEvent, Register, RegisterKind, replay, variants
from .firmware.load import read_firmware
from .machine import QEMU_10_0, GuestMachine
from .manifest import Manifest
from .payload import Payload, measure_payload
from .predict import (
    Readers,
    Surroundings,
    assemble,
    check_request,
    dumps_tables,
    qemu_version,
    read_surroundings,
    secure_boot_state,
)
from .request import MeasurementRequest
from .sequence import register_of

FIRMWARE, QEMU, MEMORY, VCPUS, IMAGE = "firmware", "qemu", "memory", "vcpus", "image"
_K = TypeVar("_K")
_V = TypeVar("_V")


@attrs.frozen(kw_only=True)
class Axes:
    """What varies. An empty axis keeps what the request says; ``images`` are UKIs, such as one per stub version."""

    firmwares: tuple[Path, ...] = ()
    qemus: tuple[Path, ...] = ()
    memories: tuple[int, ...] = ()
    vcpus: tuple[int, ...] = ()
    images: tuple[Path, ...] = ()


@attrs.frozen(kw_only=True)
class Combination:
    """One point of the matrix: the choice on each axis that varies, and the accepted values of each register."""

    choice: Mapping[str, str]
    values: Mapping[Register, tuple[bytes, ...]]


@attrs.frozen(kw_only=True)
class DistinctValue:
    """Accepted values of a register that one or more combinations share, with the choices that lead to them."""

    values: tuple[bytes, ...]
    choices: tuple[Mapping[str, str], ...]


@attrs.frozen(kw_only=True)
class Matrix:
    """All combinations, each register's distinct values, and the axes that each register depends on."""

    axes: tuple[str, ...]
    combinations: tuple[Combination, ...]
    distinct: Mapping[Register, tuple[DistinctValue, ...]]
    depends_on: Mapping[Register, tuple[str, ...]]


def measure_matrix(request: MeasurementRequest, axes: Axes) -> Matrix:
    """Measure every combination; raises what :func:`~tdxc_runtime.measure.predict.predict` raises for any of them."""
    points = _expand(request, axes)
    readers, hashed = _read_everything([point for _, point in points])
    values_of = _remembering_replayer()
    combinations = []
    for choice, point in points:
        around = read_surroundings(point, readers)
        artifact, payload = hashed[_way_of_handing_over(point, around)]
        manifest = assemble(point, around, artifact, payload).manifest
        combinations.append(Combination(choice=choice, values=values_of(manifest)))
    registers = tuple(dict.fromkeys(register for c in combinations for register in c.values))
    names = tuple(combinations[0].choice)
    return Matrix(
        axes=names,
        combinations=tuple(combinations),
        distinct={register: _distinct(register, combinations) for register in registers},
        depends_on={register: _dependencies(register, names, combinations) for register in registers},
    )


def _expand(request: MeasurementRequest, axes: Axes) -> list[tuple[dict[str, str], MeasurementRequest]]:
    """The requests of all combinations, each with its choices by the names of the axes that vary."""
    machine = request.machine or GuestMachine()
    varied = {
        FIRMWARE: axes.firmwares,
        QEMU: axes.qemus,
        MEMORY: axes.memories,
        VCPUS: axes.vcpus,
        IMAGE: axes.images,
    }
    names = [name for name, values in varied.items() if values]
    combinations = itertools.product(
        axes.firmwares or (request.firmware,),
        axes.qemus or (request.qemu,),
        axes.memories or (machine.memory,),
        axes.vcpus or (machine.vcpus,),
        axes.images or (request.artifact,),
    )
    points = []
    for firmware, qemu, memory, vcpus, image in combinations:
        chosen = dict(zip(varied, (firmware, qemu, memory, vcpus, image), strict=True))
        shape = attrs.evolve(machine, memory=memory, vcpus=vcpus)
        point = attrs.evolve(request, firmware=firmware, qemu=qemu, machine=shape, artifact=image)
        points.append(({name: str(chosen[name]) for name in names}, point))
    return points


def _once(pool: ThreadPoolExecutor, function: Callable[[_K], _V]) -> Callable[[_K], Future[_V]]:
    """A version of ``function`` that is started in the pool, once for each argument."""
    started: dict[_K, Future[_V]] = {}

    def start(key: _K) -> Future[_V]:
        if key not in started:
            started[key] = pool.submit(function, key)
        return started[key]

    return start


_Hashed = Mapping[object, tuple[Artifact, Payload]]


def _read_everything(points: Sequence[MeasurementRequest]) -> tuple[Readers, _Hashed]:
    """Readers that know every answer, and each image's contribution by the way in which it is handed over.

    While QEMUs are asked for their tables, as many at a time as there are cores, the images are hashed.
    """
    for point in points:
        check_request(point)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        firmware, qemu = _once(pool, read_firmware), _once(pool, find_qemu)
        tables = _once(pool, _read_tables)

        def start_reading(*key: *_TablesKey) -> FwCfgItems:
            tables(key)
            return _LATER

        try:
            for path in dict.fromkeys(point.firmware for point in points if point.firmware is not None):
                firmware(path)
            for program in dict.fromkeys(point.qemu for point in points if dumps_tables(point)):
                qemu(program)
            readers = Readers(
                firmware=lambda path: firmware(path).result(),
                qemu=lambda path: qemu(path).result(),
                tables=start_reading,
            )
            hashed = _hash_images([(point, read_surroundings(point, readers)) for point in points])
            readers = attrs.evolve(readers, tables=lambda *key: tables(key).result())
            for point in points:
                read_surroundings(point, readers)
        except BaseException:
            pool.shutdown(cancel_futures=True)
            raise
    return readers, hashed


_TablesKey = tuple[Qemu, GuestMachine, int]


def _read_tables(key: _TablesKey) -> FwCfgItems:
    return read_from_qemu(*key)


_LATER = FwCfgItems(items={}, origin="")
"""Stands for tables that are being read."""


def _hash_images(points: Iterable[tuple[MeasurementRequest, Surroundings]]) -> _Hashed:
    """Hash each image once for all the requests under which it is handed over alike."""
    hashed: dict[object, tuple[Artifact, Payload]] = {}
    for request, around in points:
        key = _way_of_handing_over(request, around)
        if key not in hashed:
            secure_boot, qemu = secure_boot_state(request, around.firmware), qemu_version(request, around)
            with open_artifact(request.artifact, request.disk) as artifact:
                hashed[key] = artifact, measure_payload(artifact, request, secure_boot=secure_boot, qemu=qemu)
    return hashed


def _way_of_handing_over(request: MeasurementRequest, around: Surroundings) -> object:
    """All that an image's own contribution depends on."""
    qemu = qemu_version(request, around)
    memory = request.machine.memory if request.machine is not None and _is_plain(request) else 0
    secure_boot = secure_boot_state(request, around.firmware) if request.kernel_files.command_line else None
    return request.artifact, request.disk, secure_boot, qemu is None or qemu < QEMU_10_0, memory


def _is_plain(request: MeasurementRequest) -> bool:
    """Whether the image is a kernel of its own, whose header depends on the machine's memory."""
    return request.kernel_files.initrd is not None or request.artifact.suffix not in {".efi", ".raw", ".img", ""}


def _remembering_replayer() -> Callable[[Manifest], dict[Register, tuple[bytes, ...]]]:
    """The accepted values of every covered register; equal lists of digests are replayed once."""
    known: dict[tuple[Register, tuple[object, ...]], tuple[bytes, ...]] = {}

    def values_of(manifest: Manifest) -> dict[Register, tuple[bytes, ...]]:
        shapes: dict[Register, list[object]] = {register: [] for register in manifest.covers}
        for item in manifest.prediction:
            shape = (item.digests or item.pending) if isinstance(item, PredictedEvent) else item
            for register in register_of(item):
                shapes[register].append(shape)
        found = {}
        for register, shape_list in shapes.items():
            key = (register, tuple(shape_list))
            if key not in known:
                known[key] = _accepted(manifest, register)
            found[register] = known[key]
        return found

    return values_of


def _accepted(manifest: Manifest, register: Register) -> tuple[bytes, ...]:
    """The accepted values: SHA-384 of a TD's registers, SHA-256 of a TPM's; empty while something is pending."""
    algorithm = Algorithm.SHA256 if register.kind is RegisterKind.PCR else Algorithm.SHA384
    values = [replay(variant.events, register, algorithm) for variant in variants(manifest.prediction, register)]
    known = [value for value in values if value is not None]
    return tuple(dict.fromkeys(known)) if len(known) == len(values) else ()


def _distinct(register: Register, combinations: Iterable[Combination]) -> tuple[DistinctValue, ...]:
    groups: dict[tuple[bytes, ...], list[Mapping[str, str]]] = {}
    for combination in combinations:
        groups.setdefault(combination.values.get(register, ()), []).append(combination.choice)
    return tuple(DistinctValue(values=values, choices=tuple(choices)) for values, choices in groups.items())


def _dependencies(register: Register, axes: Sequence[str], combinations: Sequence[Combination]) -> tuple[str, ...]:
    """The axes along which the register changes while all other choices stay."""
    found = []
    for axis in axes:
        seen: dict[tuple[tuple[str, str], ...], tuple[bytes, ...]] = {}
        for combination in combinations:
            others = tuple((name, value) for name, value in combination.choice.items() if name != axis)
            values = combination.values.get(register, ())
            if seen.setdefault(others, values) != values:
                found.append(axis)
                break
    return tuple(found)
