"""What an output folder says of its bake, and how that turns into a prediction.

A bake leaves these beside the artifacts: ``image.json`` (recipe digest, seed, profiles, targets, units, source builds),
``origins.json`` (which line of the recipe set what the registers commit to), ``measurement-PLATFORM.json`` for each
target, and ``firmware.fd`` where the recipe names a firmware of its own. Only ``origins.json`` and the manifests name
lines of the recipe, so that a recipe and its twin in the other form still leave equal artifacts.
"""

from __future__ import annotations

import json
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tdxc import __version__, records
from tdxc.diagnostics import UNKNOWN_SPAN, Code, Diagnostic, DiagnosticError, Note, SourceSpan
from tdxc.ir import DebloatKind, ResolvedImage

if TYPE_CHECKING:
    from tdxc_runtime.builds import BuildRecord
    from tdxc_runtime.measure.boot.gpt import PartitionTable
    from tdxc_runtime.measure.events import PredictedEvent
    from tdxc_runtime.measure.manifest import Manifest
    from tdxc_runtime.measure.predict import Measurement
    from tdxc_runtime.measure.request import MeasurementRequest

DESCRIPTION = "image.json"
ORIGINS = "origins.json"
FIRMWARE = "firmware.fd"
_UKI_SUFFIX = ".efi"
_RAW_DISKS = frozenset({".raw", ".img"})
_NODES = {".cmdline": "kernel.cmdline", ".initrd": "image", ".linux": "kernel", ".uname": "kernel"}
"""Section of a UKI to the part of the recipe that decides it."""


@records.frozen(kw_only=True)
class Baked:
    """What an output folder knows of itself.

    ``seed``: what its disks' identifiers derive from, ``None`` when the recipe gave reproducibility up. ``units``: all
    systemd units in the image, ``None`` when nothing was removed and so nobody counted them. ``origins``: section of
    the UKI to the line of the recipe that decides it.
    """

    recipe_digest: str = ""
    seed: uuid.UUID | None = None
    targets: tuple[str, ...] = ()
    units: frozenset[str] | None = None
    origins: Mapping[str, SourceSpan] = records.field(factory=dict)


def describe_bake(
    folder: Path, recipe_digest: str, variant: ResolvedImage, builds: tuple[BuildRecord, ...] = ()
) -> tuple[Diagnostic, ...]:
    """Write these files into a folder that holds a bake's artifacts.

    Returns warnings about platforms whose registers cannot be predicted and about a boot stub that does not suit ukify
    (W_MEASUREMENT), and about a firmware of the recipe's own that will not boot this image (W_FIRMWARE). Raises OSError
    for what the file system refuses.
    """
    units = _units(variant)
    targets = tuple(target.name for target in variant.output_targets)
    data: dict[str, object] = {
        "image": variant.name,
        "recipe_digest": f"sha256:{recipe_digest}",
        "profiles": list(variant.profiles),
        "targets": list(targets),
        "seed": variant.reproducibility.seed or None,
        "units": None if units is None else sorted(units),
        "builds": [
            {"name": build.name, "language": build.language, "key": build.key or None, "network": build.network}
            for build in builds
        ],
        "tdxvm": __version__,
    }
    _write(folder / DESCRIPTION, data)
    _write(folder / ORIGINS, {section: str(span) for section, span in _origins(variant).items()})
    if variant.firmware.content is not None:
        (folder / FIRMWARE).write_bytes(variant.firmware.content.data)
    causes = {Code.W_MEASUREMENT: (variant.efi_stub or variant).span, Code.W_FIRMWARE: variant.firmware.span}
    return _write_manifests(folder, targets or ("qemu",), causes)


def read_bake(folder: Path) -> Baked:
    """Read what a folder says of its bake; whatever is missing or damaged counts as not known."""
    data = _read(folder / DESCRIPTION)
    units, seed = data.get("units"), data.get("seed")
    targets = data.get("targets")
    return Baked(
        recipe_digest=str(data.get("recipe_digest", "")).removeprefix("sha256:"),
        seed=_uuid(seed),
        targets=tuple(map(str, targets)) if isinstance(targets, list) else (),
        units=frozenset(map(str, units)) if isinstance(units, list) else None,
        origins={str(key): _parse_span(str(value)) for key, value in _read(folder / ORIGINS).items()},
    )


def with_bake(request: MeasurementRequest) -> MeasurementRequest:
    """A request for an output folder, completed with what it knows: units, partitions, firmware and recipe lines.

    A disk image in the folder itself is the better source, so the table is then left to it.
    """
    from tdxc_runtime.measure.events import Origin
    from tdxc_runtime.measure.manifest import Platform
    from tdxc_runtime.measure.request import BootMode

    if not request.artifact.is_dir():
        return request
    baked = read_bake(request.artifact)
    names = [path for path in sorted(request.artifact.iterdir()) if path.is_file() and not path.is_symlink()]
    ukis = [path for path in names if path.suffix == _UKI_SUFFIX]
    has_disk = request.disk is not None or any(path.suffix in _RAW_DISKS for path in names)
    table = None
    if request.boot is BootMode.DISK and baked.seed is not None and len(ukis) == 1 and not has_disk:
        table = disk_table(ukis[0], baked.seed)
    units = baked.units if request.units is None else request.units
    origins = {section: Origin(span=span, node=_NODES.get(section, "")) for section, span in baked.origins.items()}
    firmware = request.firmware
    if firmware is None and request.platform is Platform.QEMU:
        firmware = firmware_of(request.artifact)
    return records.evolve(request, units=units, partition_table=table, origins=origins, firmware=firmware)


def firmware_of(folder: Path) -> Path | None:
    """The firmware that the recipe of a bake names; ``None`` where it names none."""
    path = folder / FIRMWARE
    return path if path.is_file() else None


def disk_table(uki: Path, seed: uuid.UUID) -> PartitionTable:
    """The partition table of the disk that a bake makes for a UKI, the same on all platforms."""
    from tdxc_runtime.disk import make_esp_disk
    from tdxc_runtime.measure.boot.gpt import read_partition_table
    from tdxc_runtime.measure.sources import MemorySource

    first = make_esp_disk(uki, seed).image.extents[0]
    if not isinstance(first.source, bytes):
        raise TypeError("a disk begins with its partition table")
    name = f"the disk of {uki.name}"
    return read_partition_table(MemorySource(name=name, data=first.source), artifact=name)


def measure(request: MeasurementRequest) -> Measurement:
    """Predict a boot with all that an output folder knows; raises as :func:`tdxc_runtime.measure.predict.predict`.

    With a firmware the manifest says what other memory sizes would look like.
    """
    from tdxc_runtime.measure.firmware.load import read_firmware
    from tdxc_runtime.measure.hints import memory_hints
    from tdxc_runtime.measure.predict import predict

    request = with_bake(request)
    measurement = predict(request)
    manifest = measurement.manifest
    if request.artifact.is_dir():
        manifest = _named_from(request.artifact, manifest)
    if request.firmware is not None and request.machine is not None:
        hints = memory_hints(read_firmware(request.firmware).tdvf)
        manifest = records.evolve(manifest, hints=tuple(sorted(hints.items())))
    return records.evolve(measurement, manifest=manifest)


def _named_from(folder: Path, manifest: Manifest) -> Manifest:
    """The manifest with files named as in their folder, so that the same bake gives the same one wherever it lies."""
    from tdxc_runtime.measure.sequence import map_events

    def inside(event: PredictedEvent) -> PredictedEvent:
        origin = records.evolve(event.origin, artifact=_inside(event.origin.artifact, folder))
        return records.evolve(event, origin=origin)

    prediction = map_events(manifest.prediction, inside)
    inputs = {
        key: _inside(value, folder) if isinstance(value, str) else value for key, value in manifest.inputs.items()
    }
    return records.evolve(manifest, prediction=prediction, inputs=inputs)


def _inside(name: str, folder: Path) -> str:
    """A file's name below ``folder``; the folder itself stands for the disk that the bake makes."""
    if name == str(folder):
        return "the disk"
    return name.removeprefix(f"{folder}/")


def manifest_name(platform: str) -> str:
    """The file in an output folder with the manifest of one platform."""
    return f"measurement-{platform}.json"


def _write_manifests(
    folder: Path, targets: tuple[str, ...], causes: Mapping[Code, SourceSpan]
) -> tuple[Diagnostic, ...]:
    """One manifest per platform, of a disk boot; nothing for a bake without a UKI.

    ``causes``: the line of the recipe that a warning of the prediction is about, by its code.
    """
    if not any(path.suffix == _UKI_SUFFIX for path in folder.iterdir()):
        return ()
    from tdxc_runtime.measure.manifest import Platform
    from tdxc_runtime.measure.manifest_json import manifest_to_json
    from tdxc_runtime.measure.request import BootMode, MeasurementRequest

    warnings: list[Diagnostic] = []
    for target in targets:
        request = MeasurementRequest(artifact=folder, platform=Platform(target), boot=BootMode.DISK)
        try:
            measurement = measure(request)
        except DiagnosticError as error:
            notes = tuple(Note(message=diagnostic.message) for diagnostic in error.diagnostics)
            message = f"the registers of this image on {target} cannot be predicted"
            fix = next(diagnostic.fix for diagnostic in error.diagnostics)
            warnings.append(Diagnostic(code=Code.W_MEASUREMENT, message=message, notes=notes, fix=fix))
            continue
        found = [records.evolve(each, span=causes.get(each.code, UNKNOWN_SPAN)) for each in measurement.warnings]
        warnings += [warning for warning in found if warning not in warnings]
        _write(folder / manifest_name(target), manifest_to_json(measurement.manifest))
    return tuple(warnings)


def _units(variant: ResolvedImage) -> frozenset[str] | None:
    """All units that the image holds after debloat; unknown without debloat, which leaves the packages' own."""
    if not variant.debloat.enabled:
        return None
    kept = {
        kept.name
        for kept in variant.debloat.keep
        if kept.kind is DebloatKind.UNIT and not kept.name.startswith("package:")
    }
    return frozenset({*kept, *(unit.name for unit in variant.units)})


def _origins(variant: ResolvedImage) -> dict[str, SourceSpan]:
    """The recipe's line behind each section of the UKI: of several words of a command line, the recipe's own."""
    arguments = variant.kernel.cmdline
    own = [argument.span for argument in arguments if not argument.cause]
    found = {
        ".cmdline": next(iter(own or [argument.span for argument in arguments]), UNKNOWN_SPAN),
        ".initrd": variant.span,
        ".linux": variant.kernel.span,
        ".uname": variant.kernel.span,
    }
    return {section: span for section, span in sorted(found.items()) if span != UNKNOWN_SPAN}


def _write(path: Path, data: Mapping[str, object]) -> None:
    path.write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def _read(path: Path) -> Mapping[str, object]:
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return data if isinstance(data, dict) else {}


def _uuid(text: object) -> uuid.UUID | None:
    try:
        return uuid.UUID(text) if isinstance(text, str) else None
    except ValueError:
        return None


def _parse_span(text: str) -> SourceSpan:
    """``file:line:column``; anything else is taken for a file's name."""
    file, *numbers = text.rsplit(":", 2)
    if len(numbers) == 2 and all(number.isascii() and number.isdecimal() for number in numbers):
        return SourceSpan(file=file, line=int(numbers[0]), column=int(numbers[1]))
    return SourceSpan(file=text)
