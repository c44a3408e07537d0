"""Debloat as rules and one script: what the pass decided, carried out in the finalize phase.

The decisions are lists, ``rules/keep-KINDs`` and ``rules/remove-KINDs``, at the top and in each profile; the script
adds up those of the base and of the chosen profiles, and what any of them keeps stays. By the finalize phase users,
presets and tmpfiles are applied, and mkosi has put the kernel and the EFI stub aside.

How names are read is said in ``tdxc.passes.debloat_rules``. In short: ``programs-of:``, ``package:`` and
``unused-package:`` ask dpkg's lists of files; other programs, units and modules go by name or pattern; paths begin with
a slash.
"""

from __future__ import annotations

from collections.abc import Iterator

from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import DebloatKind, KeepDecision, RemoveDecision, ResolvedImage

from tdxc_emitters.mkosi.project import Phase, PhaseScript, Rule, origin_of
from tdxc_emitters.mkosi.templates import read_template

_RANK = 50

_LISTS = {
    DebloatKind.BINARY: "binaries",
    DebloatKind.UNIT: "units",
    DebloatKind.PATH: "paths",
    DebloatKind.MODULE: "modules",
}

_DISK_PATHS = ("/usr/lib/modules/*/vmlinuz", "/usr/lib/systemd/boot/efi")
"""What mkosi makes the UKI of a disk image from, after the finalize phase."""

OFF = "debloat-off"
"""The list by which a profile turns the base's debloat off; its lines are not read."""


def debloat_rules(image: ResolvedImage) -> tuple[Rule, ...]:
    """The lists of one variant; raises E_EMIT for a name that no line can hold."""
    if not image.debloat.enabled:
        return ()
    return (*_rules("keep", image.debloat.keep), *_disk_rules(image), *_rules("remove", image.debloat.remove))


def debloat_scripts(image: ResolvedImage) -> tuple[PhaseScript, ...]:
    """The one script, alike for every image that has debloat on."""
    if not image.debloat.enabled:
        return ()
    return (
        PhaseScript(
            phase=Phase.FINALIZE,
            rank=_RANK,
            what="debloat",
            purpose="Reduce the root file system to what the image uses, by the lists in rules/.",
            body=read_template("debloat.sh"),
            turned_off_by=OFF,
            origin=origin_of(image.debloat, "debloat"),
        ),
    )


def _disk_rules(image: ResolvedImage) -> Iterator[Rule]:
    for partition in image.partitions[:1]:
        origin = origin_of(partition, "mkosi makes the UKI of a disk image from it")
        yield from (Rule(list="keep-paths", line=path, origin=origin) for path in _DISK_PATHS)


def _rules(verb: str, decisions: tuple[KeepDecision, ...] | tuple[RemoveDecision, ...]) -> Iterator[Rule]:
    for decision in decisions:
        if not decision.name or decision.name.startswith("#") or decision.name != decision.name.strip():
            raise DiagnosticError.of(Code.E_EMIT, f"debloat cannot name {decision.name!r}", decision.span)
        if "\n" in decision.name:
            raise DiagnosticError.of(Code.E_EMIT, f"{decision.name!r} holds a line break", decision.span)
        yield Rule(
            list=f"{verb}-{_LISTS[decision.kind]}", line=decision.name, origin=origin_of(decision, decision.reason)
        )
