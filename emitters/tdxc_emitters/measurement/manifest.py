"""The manifest of one platform as JSON data, in the form that ``tdxc measure`` reads back and completes.

Register values are stated only where every event is known. Keys and their meaning are those of the measurement
engine's manifest (schema version 1), which a test reads this with.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable

from tdxc.ir import BuildLanguage, KernelSource, ResolvedBuild, ResolvedImage
from tdxc.ir.marks import development_reasons

from tdxc_emitters.measurement.events import Row, cmdline_text, event_rows, stub_rules
from tdxc_emitters.measurement.platforms import PLATFORMS, PlatformRules

SCHEMA_VERSION = 1
_TD_REGISTERS = ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")
_NOT_DETERMINED = "nothing that was given determines this register"


def manifest(image: ResolvedImage, platform: str) -> dict[str, object]:
    """The manifest of ``image`` on ``platform`` (``qemu``, ``gcp`` or ``azure``)."""
    rules = PLATFORMS[platform]
    rows = list(event_rows(image, rules.covered))
    waits = [reason for _, reason in rules.waits]
    pending = dict.fromkeys([*waits, *(str(row["pending"]) for row in rows if "pending" in row)])
    pcrs = [name for name in rules.covered if name.startswith("pcr")]
    return {
        "schema_version": SCHEMA_VERSION,
        "platform": platform,
        **{name: _value(rows, rules, name, "sha384") for name in _TD_REGISTERS},
        "pcrs": {
            algorithm: {name.removeprefix("pcr"): _value(rows, rules, name, algorithm) for name in pcrs}
            for algorithm in ("sha256", "sha384")
        },
        "events": rows,
        "alternatives": [],
        "variants": {},
        "registers": {name: _state(rows, rules, name, pending) for name in (*_TD_REGISTERS, *pcrs)},
        "inputs": inputs(image),
        "pending": list(pending),
    }


def inputs(image: ResolvedImage) -> dict[str, object]:
    """What the manifest rests on, as far as the recipe says."""
    rules = stub_rules(image)
    builds = [_build(build) for build in image.builds if build.language is not BuildLanguage.KERNEL]
    return {
        "image": image.name,
        "version": image.version,
        "base": image.base.reference,
        "profiles": list(image.profiles),
        "targets": [target.name for target in image.output_targets],
        "firmware": _firmware(image),
        "command_line": cmdline_text(image),
        "kernel_package": image.kernel.package,
        **({"kernel": _kernel(image)} if image.kernel.source is KernelSource.SOURCE else {}),
        "stub": _stub(image) | ({"rules": rules.version} if rules else {}),
        "packages": [package.name for package in image.packages],
        "packages_from": _packages_from(image),
        **({"builds": builds} if builds else {}),
        "development": list(development_reasons(image)),
    }


def _firmware(image: ResolvedImage) -> object:
    firmware = image.firmware
    if firmware.content is None:
        return firmware.value
    return {"file": firmware.value, "sha256": firmware.content.sha256}


def _stub(image: ResolvedImage) -> dict[str, object]:
    if image.efi_stub is None:
        return {"package": "systemd-boot-efi"}
    return {"package": "systemd-boot-efi", "version": image.efi_stub.version, "sha256": image.efi_stub.sha256}


def _kernel(image: ResolvedImage) -> dict[str, object]:
    """A kernel from source: its version, which decides what its EFI stub measures, and where the source comes from."""
    tarball = image.authored_kernel.source
    source = f"{tarball.tarball} with SHA-256 {tarball.sha256}" if tarball else image.kernel.package
    return {"version": image.kernel.version, "source": source}


def _packages_from(image: ResolvedImage) -> dict[str, object]:
    return {
        "mirror": image.mirror or "chosen by the bake",
        "snapshot": image.snapshot,
        "suites": [suite.name for suite in image.suites],
        "repositories": [repository.name for repository in image.repositories],
    }


def _build(build: ResolvedBuild) -> dict[str, object]:
    """A program from source: what it is made of, and whether more than that could get in (``network``)."""
    source = build.source
    if source.git:
        made_of = f"{source.git} at {source.rev}"
    elif source.tarball:
        made_of = f"{source.tarball} with SHA-256 {source.sha256}"
    else:
        made_of = "files of the recipe"
    return {
        "name": build.name,
        "language": build.language.value,
        "source": made_of,
        "installs": [artifact.dest for artifact in build.artifacts],
        "network": build.network,
    }


def _value(rows: Iterable[Row], rules: PlatformRules, register: str, algorithm: str) -> str | None:
    """The register after its events; None when it is not covered or an event is pending."""
    if register not in rules.covered:
        return None
    value = bytes(hashlib.new(algorithm).digest_size)
    for row in rows:
        if row["register"] == register and row["algorithm"] == algorithm:
            if not isinstance(row["digest"], str):
                return None
            value = hashlib.new(algorithm, value + bytes.fromhex(row["digest"])).digest()
    return value.hex()


def _state(rows: Iterable[Row], rules: PlatformRules, register: str, pending: Iterable[str]) -> dict[str, object]:
    never = dict(rules.never)
    if register in never:
        return {"state": "unpredictable", "covered": False, "reason": never[register]}
    if register not in rules.covered:
        return {"state": "pending", "covered": False, "reason": "; ".join(pending) or _NOT_DETERMINED}
    missing = dict.fromkeys(str(row["pending"]) for row in rows if row["register"] == register and "pending" in row)
    if missing:
        return {"state": "pending", "covered": True, "reason": "; ".join(missing)}
    return {"state": "predicted", "covered": True}
