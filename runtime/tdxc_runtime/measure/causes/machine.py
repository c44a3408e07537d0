"""Causes that lie around the image: memory, machine, firmware, variables, disk, the path of the boot."""

from __future__ import annotations

from tdxc_runtime.measure.causes.model import Cause, Kind
from tdxc_runtime.measure.causes.view import View, both_sides, found_side, name_of, origin_clause
from tdxc_runtime.measure.differences import Difference, Subject
from tdxc_runtime.measure.events import EventType, PredictedEvent
from tdxc_runtime.measure.logs.model import LogEvent


def memory_cause(view: View) -> Cause | None:
    """Other memory, or a machine that is different in another way."""
    layout, platform = view.changed(Subject.MEMORY), view.about(Subject.PLATFORM)
    if layout is not None:
        same = "same events, " if len(view.all) == len(view.about(Subject.MEMORY)) + len(platform) else ""
        return Cause(
            kind=Kind.MEMORY,
            sentence=f"{same}other memory size{_hint(view, layout)}: the memory layout that the "
            f"firmware received (TD HOB) differs{origin_clause(layout)}",
        )
    if not platform:
        return None
    names = ", ".join(dict.fromkeys(name_of(d.expected) if d.expected else found_side(d) for d in platform[:4]))
    if all(EventType.EV_EFI_HANDOFF_TABLES in {_type(d.expected), _type(d.found)} for d in platform):
        return Cause(
            kind=Kind.MACHINE,
            sentence="the SMBIOS tables differ while memory and ACPI tables do not: the host has another processor "
            "than the prediction was made for, or QEMU was given other -smbios settings",
        )
    acpi = [d for d in platform if EventType.EV_PLATFORM_CONFIG_FLAGS in {_type(d.expected), _type(d.found)}]
    if len(acpi) <= 1 and all(d.expected is not None and d.found is not None for d in platform):
        return Cause(
            kind=Kind.MEMORY,
            sentence=f"same events, other memory size{_hint(view, platform[0])} in all likelihood: {names} differs, "
            "while other vCPUs or devices would also change the layout of the ACPI tables",
        )
    return Cause(
        kind=Kind.MACHINE,
        sentence="the machine is another one, the image is not to blame: vCPUs, devices, memory size or the QEMU build "
        f"differ{_hint(view, platform[0])}, which shows in {names}",
    )


def _type(event: PredictedEvent | LogEvent | None) -> int:
    return -1 if event is None else event.event_type


def _hint(view: View, difference: Difference) -> str:
    """What a logged digest means, where somebody knows."""
    digests = () if difference.found is None else (digest for _, digest in difference.found.digests)
    return next((f" ({view.hints[digest]})" for digest in digests if digest in view.hints), "")


def firmware_cause(view: View) -> Cause | None:
    """Other firmware code, variables as they were loaded, or version."""
    found = view.about(Subject.FIRMWARE)
    if not found:
        return None
    return Cause(
        kind=Kind.FIRMWARE,
        sentence=f"another firmware or variable store runs: {both_sides(found[0])}{origin_clause(found[0])}",
    )


def variable_cause(view: View) -> Cause | None:
    """Another Secure Boot state."""
    found = view.about(Subject.VARIABLE)
    if not found:
        return None
    names = ", ".join(dict.fromkeys(d.topic[1] or "a variable" for d in found))
    return Cause(kind=Kind.VARIABLES, sentence=f"the Secure Boot state differs: {names}{origin_clause(found[0])}")


def boot_order_cause(view: View) -> Cause | None:
    """Other boot entries."""
    found = view.about(Subject.BOOT_VARIABLE)
    if not found:
        return None
    return Cause(
        kind=Kind.BOOT_ORDER,
        sentence=f"the boot entries differ, as they do with other devices or another firmware: {both_sides(found[0])}",
    )


def partition_cause(view: View) -> Cause | None:
    """Another partition table."""
    found = view.about(Subject.PARTITIONS)
    if not found:
        return None
    return Cause(
        kind=Kind.PARTITIONS,
        sentence="the partition table differs: the disk was enlarged, repaired or written with other identifiers: "
        f"{both_sides(found[0])}",
    )


def boot_path_cause(view: View) -> Cause | None:
    """Steps of the boot that came out differently."""
    found = [*view.about(Subject.ACTION), *view.about(Subject.SEPARATOR)]
    if not found:
        return None
    return Cause(kind=Kind.BOOT_PATH, sentence=f"the boot took another path: {both_sides(found[0])}")
