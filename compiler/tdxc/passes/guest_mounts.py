"""What the mount of an encrypted disk hides, and what would run from the disk.

::

    mount_at="/persistent", file("/persistent/app.conf")     ->  E_CONFLICT: the measured file is never seen
    mount_at="/data/sub" before mount_at="/data"             ->  E_CONFLICT: the second mount hides the first
    mount_at="/opt", or exec="/persistent/app"               ->  W_UNMEASURED: no register covers what is on a disk
    mount_at="/persistent"                                   ->  Directory("/persistent", mode=0)

Disks are mounted by boot steps, in the order of the recipe, when partitions and mount units are there already.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, Note
from tdxc.ir import EncryptedDisk, Node, ResolvedImage, Unit
from tdxc.passes.init_priority import RUNTIME_INIT, early_reason
from tdxc.passes.unit_sections import last_value, words

_PROGRAM_FOLDERS = ("/opt",)
"""Folders of programs in which a disk may be mounted at all: add-on packages go there (FHS 3.0, 3.13)."""

_PLAIN_MODE = 0o755
_COMMANDS = ("ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost", "ExecCondition")
_COMMAND_PREFIXES = "@-:+!|"
"""Characters in front of a program's path (systemd.service(5), "Command lines")."""


def check_mounts(image: ResolvedImage) -> Iterator[Diagnostic]:
    """All that lies below the mount points, at its own line."""
    for place, disk in enumerate(image.encrypted_disks):
        yield from _hidden(disk, image)
        for earlier in image.encrypted_disks[:place]:
            if _is_below(earlier.mount_at, disk.mount_at):
                message = f"the mount at '{disk.mount_at}' hides the one at '{earlier.mount_at}', which is made before"
                fix = f"declare the disk for '{disk.mount_at}' first, or mount one of them elsewhere"
                yield _conflict(message, disk, fix, "the other disk is declared here", earlier)
        yield from _run_from(disk, image.units)
        yield from _too_early(disk, image.units)
        for folder in _PROGRAM_FOLDERS:
            if (disk.mount_at == folder or _is_below(disk.mount_at, folder)) and "noexec" not in disk.mount_options:
                message = (
                    f"'{disk.mount_at}' is a place of programs, and nothing measures those on the disk '{disk.name}'"
                )
                yield _unmeasured(message, disk, "mount it at '/persistent', or with mount_options=['noexec']")


def with_closed_mount_points(image: ResolvedImage) -> ResolvedImage:
    """The image with the folder below each disk closed: who does not wait for the disk gets an error there.

    A mode of 0000 keeps all out that have no CAP_DAC_OVERRIDE, so users and the image's own sandboxed services; what
    they wrote would be in memory, and hidden once the disk is mounted. The root of the disk has a mode of its own.
    """
    mount_points = {disk.mount_at for disk in image.encrypted_disks}
    cause = "lower-guest: closed until the disk is mounted there"
    directories = (
        records.evolve(each, mode=0, cause=cause) if each.path in mount_points and each.mode == _PLAIN_MODE else each
        for each in image.directories
    )
    return records.evolve(image, directories=tuple(directories))


def _hidden(disk: EncryptedDisk, image: ResolvedImage) -> Iterator[Diagnostic]:
    """What the recipe puts where nobody sees it any more once the disk is mounted."""
    for path, what, node in _placed(image):
        if _is_below(path, disk.mount_at):
            message = f"the {what} '{path}' of the image is hidden by the disk that is mounted at '{disk.mount_at}'"
            fix = f"put it elsewhere, or make it on the disk by a boot step: on_boot('install … {path}')"
            yield _conflict(message, node, fix, "the disk is declared here", disk)
    for path, node in _listening(image):
        if _is_below(path, disk.mount_at):
            message = f"the socket '{path}' is made before the disk is mounted at '{disk.mount_at}', which hides it"
            yield _conflict(message, node, "put it below /run", "the disk is declared here", disk)
    for path, node in _mounted(image):
        if _is_below(path, disk.mount_at):
            message = f"what is mounted at '{path}' is hidden by the disk that is mounted at '{disk.mount_at}' after it"
            yield _conflict(message, node, "mount one of them elsewhere", "the disk is declared here", disk)


def _placed(image: ResolvedImage) -> Iterator[tuple[str, str, Node]]:
    """Paths that the image has by its recipe; mount points of disks are made where they are missing."""
    mount_points = {disk.mount_at for disk in image.encrypted_disks}
    for file in image.files:
        yield file.path, "file", file
    for link in image.symlinks:
        yield link.path, "symbolic link", link
    for directory in image.directories:
        if directory.path not in mount_points:
            yield directory.path, "directory", directory
    for build in image.builds:
        for artifact in build.artifacts:
            yield artifact.dest, f"artifact of '{build.name}',", artifact if artifact.span.file else build


def _listening(image: ResolvedImage) -> Iterator[tuple[str, Node]]:
    """Sockets with a path, which systemd makes before boot steps run."""
    if image.quote_service is not None:
        yield image.quote_service.socket, image.quote_service
    for unit in image.units:
        if unit.name.endswith(".socket") and RUNTIME_INIT not in words(unit, "Unit", "After"):
            for key in ("ListenStream", "ListenDatagram", "ListenSequentialPacket", "ListenFIFO"):
                for path in unit.values("Socket", key):
                    yield path, unit


def _mounted(image: ResolvedImage) -> Iterator[tuple[str, Node]]:
    """Where something is mounted before boot steps run."""
    for partition in image.partitions:
        yield partition.mount_point, partition
    for unit in image.units:
        if unit.name.endswith(".mount") and RUNTIME_INIT not in words(unit, "Unit", "After"):
            yield last_value(unit, "Mount", "Where"), unit


def _run_from(disk: EncryptedDisk, units: tuple[Unit, ...]) -> Iterator[Diagnostic]:
    """Services whose program is on the disk."""
    for unit in units:
        for program in dict.fromkeys(_programs(unit)):
            if not _is_below(program, disk.mount_at):
                continue
            if "noexec" in disk.mount_options:
                message = f"'{unit.name}' runs '{program}', and the disk at '{disk.mount_at}' is mounted with noexec"
                yield _conflict(message, unit, "put the program into the image", "the disk is declared here", disk)
            else:
                message = f"'{unit.name}' runs '{program}' from the disk '{disk.name}', which nothing measures"
                fix = f"put the program into the image, outside of '{disk.mount_at}', and keep the disk for data"
                yield _unmeasured(message, unit, fix)


def _too_early(disk: EncryptedDisk, units: tuple[Unit, ...]) -> Iterator[Diagnostic]:
    """Services that name a path of the disk, and start before it is there: they write into the folder below."""
    place = re.compile(rf"(?<![\w.]){re.escape(disk.mount_at)}(?![\w.-])")
    for unit in units:
        reason = early_reason(unit) if unit.name.endswith(".service") else ""
        if not reason or RUNTIME_INIT in words(unit, "Unit", "After"):
            continue
        values = [d.value for s in unit.sections for d in s.directives if d.key not in {"Description", "Documentation"}]
        if any(place.search(value) for value in (*values, *(unit.needs.writes if unit.needs else ()))):
            message = f"'{unit.name}' uses '{disk.mount_at}', and starts before the disk is mounted there: {reason}"
            yield _conflict(message, unit, "leave that out, or use another folder", "the disk is declared here", disk)


def _programs(unit: Unit) -> Iterator[str]:
    """The first word of each command line."""
    for key in _COMMANDS:
        for value in unit.values("Service", key):
            yield from value.lstrip(_COMMAND_PREFIXES).split(maxsplit=1)[:1]


def _is_below(path: str, folder: str) -> bool:
    return path.startswith(f"{folder}/")


def _conflict(message: str, node: Node, fix: str, note: str, other: Node) -> Diagnostic:
    notes = (Note(message=note, span=other.span),)
    return Diagnostic(code=Code.E_CONFLICT, message=message, span=node.span, notes=notes, fix=fix)


def _unmeasured(message: str, node: Node, fix: str) -> Diagnostic:
    note = Note(message="whoever wrote to the disk, or brings an old state of it back, chooses what runs")
    return Diagnostic(code=Code.W_UNMEASURED, message=message, span=node.span, notes=(note,), fix=fix)
