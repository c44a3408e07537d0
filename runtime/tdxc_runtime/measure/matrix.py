"""Measure one image under many circumstances, and find out which of them each register really depends on.

Every file is read once, every set of tables is read out of QEMU once, and every image is hashed once, however many
combinations they take part in.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import attrs

from .acpi.items import FwCfgItems, read_from_qemu
from .acpi.qemu import Qemu, find_qemu
from .artifact import open_artifact
from .events import Algorithm, PredictedEvent, Register, RegisterKind, replay, variants
from .firmware.load import read_firmware
from .machine import QEMU_10_0, GuestMachine
from .manifest import Manifest
from .payload import measure_payload
from .predict import (
    Measurement,
    Readers,
    Surroundings,
    assemble,
    check_request,
    configuration_window,
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
    readers = _remembering_readers()
    _warm_up([point for _, point in points], readers)
    measure = _remembering_measurer(readers)
    values_of = _remembering_replayer()
    combinations = tuple(
        Combination(choice=choice, values=values_of(measure(point).manifest)) for choice, point in points
    )
    registers = tuple(dict.fromkeys(register for c in combinations for register in c.values))
    names = tuple(combinations[0].choice)
    return Matrix(
        axes=names,
        combinations=combinations,
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


def _remember(function: Callable[[_K], _V]) -> Callable[[_K], _V]:
    """A version of ``function`` that computes each result once."""
    known: dict[_K, _V] = {}

    def remembered(key: _K) -> _V:
        if key not in known:
            known[key] = function(key)
        return known[key]

    return remembered


def _remembering_readers() -> Readers:
    tables: dict[tuple[str, GuestMachine, int], FwCfgItems] = {}

    def read_tables(qemu: Qemu, machine: GuestMachine, mmconfig: int) -> FwCfgItems:
        key = (qemu.sha256, machine, mmconfig)
        if key not in tables:
            tables[key] = read_from_qemu(qemu, machine, mmconfig)
        return tables[key]

    return Readers(firmware=_remember(read_firmware), qemu=_remember(find_qemu), tables=read_tables)


def _warm_up(points: Sequence[MeasurementRequest], readers: Readers) -> None:
    """Read all tables ahead, several QEMUs at a time."""
    wanted: dict[tuple[Path | None, GuestMachine, int], Qemu] = {}
    for point in points:
        check_request(point)
        if point.firmware is None or point.machine is None or not point.dump_tables or point.acpi_folder is not None:
            continue
        window = configuration_window(readers.firmware(point.firmware))
        wanted[point.qemu, point.machine, window] = readers.qemu(point.qemu)
    with ThreadPoolExecutor(max_workers=os.cpu_count() or 1) as pool:
        for _ in pool.map(lambda item: readers.tables(item[1], item[0][1], item[0][2]), wanted.items()):
            pass


def _remembering_measurer(readers: Readers) -> Callable[[MeasurementRequest], Measurement]:
    """Predict requests, hashing each image once for all the requests under which it is handed over alike."""
    payloads: dict[object, Callable[[MeasurementRequest, Surroundings], Measurement]] = {}

    def measure(request: MeasurementRequest) -> Measurement:
        surroundings = read_surroundings(request, readers)
        secure_boot = secure_boot_state(request, surroundings.firmware)
        qemu = qemu_version(request, surroundings)
        memory = request.machine.memory if request.machine is not None else None
        plain_memory = memory if _is_plain(request) else 0
        old_qemu = qemu is None or qemu < QEMU_10_0
        relevant_state = secure_boot if request.kernel_files.command_line else None
        key = (request.artifact, request.disk, relevant_state, old_qemu, plain_memory)
        if key not in payloads:
            with open_artifact(request.artifact, request.disk) as artifact:
                payload = measure_payload(artifact, request, secure_boot=secure_boot, qemu=qemu)
                kept = attrs.evolve(artifact)
            payloads[key] = lambda point, around: assemble(point, around, kept, payload)
        return payloads[key](request, surroundings)

    return measure


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
