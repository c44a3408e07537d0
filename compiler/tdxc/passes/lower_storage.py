"""lower-storage: partitions are checked and mounted; encryption that nothing would carry out is refused.

A partition for ``/`` makes a disk image, whose root file system the UKI's measurement covers only by a verity root
hash. Other partitions hold data: they are mounted by their label, and the boot fails where one is missing.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import ClassVar

from tdxc import quoting, records
from tdxc.diagnostics import Code, Diagnostic, DiagnosticSink, Note
from tdxc.grammar import format_size
from tdxc.ir import Directive, Partition, ResolvedImage, Section, Unit
from tdxc.passes.base import PassContext

ENCRYPTION_MODULE = "DiskEncryption"
"""The module whose boot step opens encrypted volumes."""

LABEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,35}")
"""GPT has room for 36 UTF-16 units (UEFI specification, table 5.6); udev escapes other characters in by-partlabel."""

SMALLEST_BYTES = {"xfs": 300 << 20, "btrfs": 109 << 20}
"""What mkfs.xfs(8) and mkfs.btrfs(8) refuse to go below."""

_PROGRAM_FOLDERS = ("/", "/usr", "/opt", "/etc", "/bin", "/sbin", "/lib")


class LowerStorage:
    """Check partitions, give each a label, mount those that are not the root."""

    name: ClassVar[str] = "lower-storage"
    description: ClassVar[str] = "check partitions and encryption; mount data partitions"
    requires: ClassVar[frozenset[str]] = frozenset({"resolve-kernel"})
    establishes: ClassVar[frozenset[str]] = frozenset({"lower-storage"})

    def run(self, image: ResolvedImage, ctx: PassContext) -> ResolvedImage:
        """The image with labelled partitions and their mount units."""
        partitions = tuple(_labelled(partition) for partition in image.partitions)
        ctx.sink.extend(_check_partitions(partitions))
        _check_encryption(image, ctx.sink)
        data = tuple(partition for partition in partitions if partition.mount_point != "/")
        if data and image.init != "systemd":
            message = f"data partitions are mounted by systemd units, but the init is '{image.init}'"
            ctx.sink.add(Code.E_UNSUPPORTED, message, data[0].span, fix="mount them in a boot step instead")
        units = {unit.name: unit for unit in (_mount_unit(p) for p in data if LABEL.fullmatch(p.label))}
        own = {unit.name for unit in image.units}
        added = (unit for name, unit in units.items() if name not in own)
        merged = tuple(sorted((*image.units, *added), key=lambda unit: unit.name))
        return records.evolve(image, partitions=partitions, units=merged)


def _labelled(partition: Partition) -> Partition:
    label = partition.label or partition.mount_point.strip("/").replace("/", "-") or "root"
    return records.evolve(partition, label=label)


def _check_partitions(partitions: tuple[Partition, ...]) -> Iterator[Diagnostic]:
    first: dict[str, Partition] = {}
    for partition in partitions:
        where = f"the partition for '{partition.mount_point}'"
        if not LABEL.fullmatch(partition.label):
            yield Diagnostic(
                code=Code.E_VALUE,
                message=f"{where} has the label '{partition.label}', which a partition table cannot hold as it is",
                span=partition.span,
                fix="give a label of at most 36 letters, digits, '.', '_' and '-'",
            )
        before = first.setdefault(partition.label, partition)
        if before is not partition:
            yield Diagnostic(
                code=Code.E_CONFLICT,
                message=f"two partitions have the label '{partition.label}'",
                span=partition.span,
                notes=(Note(message="the other one is here", span=before.span),),
                fix="give each its own label=",
            )
        smallest = SMALLEST_BYTES.get(partition.fs, 0)
        if partition.size_bytes < smallest:
            size, least = format_size(partition.size_bytes), format_size(smallest)
            message = f"{where} is too small for {partition.fs}: {size}, at least {least}"
            yield Diagnostic(code=Code.E_VALUE, message=message, span=partition.span, fix=f"write size='{least}'")
        if not partition.verity and partition.mount_point in _PROGRAM_FOLDERS:
            yield _unmeasured(partition)


def _unmeasured(partition: Partition) -> Diagnostic:
    return Diagnostic(
        code=Code.W_UNMEASURED,
        message=f"the partition for '{partition.mount_point}' is not measured: its programs can change unnoticed",
        span=partition.span,
        notes=(Note(message="a host can write to the disk; only a verity root hash binds its content to the UKI"),),
        fix="set verity=True for '/'; or declare no partition, so that the whole image is in the measured UKI",
    )


def _check_encryption(image: ResolvedImage, sink: DiagnosticSink) -> None:
    wanted = image.encryption
    if wanted is None:
        return
    if image.encrypted_disks:
        for key in image.guest_keys:
            if key.strategy != wanted.key_source:
                sink.add(
                    Code.E_CONFLICT,
                    f"encryption(key_source='{wanted.key_source}') is declared, and the key '{key.name}' is made by "
                    f"KeyGeneration(strategy='{key.strategy}')",
                    wanted.span,
                    notes=(Note(message="the key is made here", span=key.span),),
                    fix="leave encryption() out: the modules say all of it",
                )
        return
    sink.add(
        Code.E_UNSUPPORTED,
        f"encryption(type='{wanted.type}', key_source='{wanted.key_source}') is declared, but nothing carries it out",
        wanted.span,
        notes=(Note(message=f"the module '{ENCRYPTION_MODULE}' formats and opens volumes at boot"),),
        fix=f"apply KeyGeneration(strategy='{wanted.key_source}') and DiskEncryption(device='/dev/…', mount_at='/…')",
    )


def _mount_unit(partition: Partition) -> Unit:
    cause = f"lower-storage: the recipe has a partition for '{partition.mount_point}'"

    def section(name: str, *pairs: tuple[str, str]) -> Section:
        directives = tuple(Directive(span=partition.span, cause=cause, key=key, value=value) for key, value in pairs)
        return Section(span=partition.span, cause=cause, name=name, directives=directives)

    where = quoting.unit_path(partition.mount_point, span=partition.span)
    return Unit(
        span=partition.span,
        cause=cause,
        name=f"{quoting.unit_name_of_path(partition.mount_point)}.mount",
        sections=(
            section("Unit", ("Description", quoting.unit_text(f"Data partition {partition.label}"))),
            section(
                "Mount",
                ("What", f"/dev/disk/by-partlabel/{partition.label}"),
                ("Where", where),
                ("Type", partition.fs),
                ("Options", "ro" if partition.verity else "nodev,nosuid"),
            ),
        ),
        required_by=("local-fs.target",),
        early=True,
    )
