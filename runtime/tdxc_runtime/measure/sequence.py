"""Put the events of a boot in order: once as a TD receives them, once as a TPM does.

The registers see the same events but for the separators (a TPM gets one per PCR, a TD one in all) and for what a
component sends to only one of the two. Sources as in the modules that make the events.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import attrs

from .boot.applications import (
    PCR_APPLICATIONS,
    PCR_BOOT,
    calling_event,
    exit_events,
    image_event,
    inner_kernel_events,
    separator_event,
)
from .boot.gpt import PartitionTable, gpt_event
from .boot.kernel import (
    initrd_event,
    kernel_complaint,
    load_options_event,
    pending_kernel_event,
)
from .boot.userspace import INITRD_PHASE_UNIT, PHASE_UNITS, phase_events
from .events import Alternative, Alternatives, EventType, Origin, PredictedEvent, Register
from .firmware.traits import FIRST_WITH_INITRD_FIRST, FIRST_WITH_NAMED_BLOBS, FirmwareTraits
from .machine import QEMU_10_0, QEMU_10_2, QemuVersion
from .payload import Payload
from .request import BootMode
from .rtmr0.events import closing_separator
from .stub.cmdline import utf16

Item = PredictedEvent | Alternatives
KERNEL_HEADER = "kernel-header"
LOAD_OPTIONS = "load-options"
BOOT_PHASES = "boot-phases"
_INITRD_WORD = "initrd=initrd"


@attrs.frozen(kw_only=True)
class BootPath:
    """The boot of a payload: the facts around it that its events depend on.

    ``traits`` and ``qemu`` are ``None`` when the firmware or QEMU is unknown; ``table`` is ``None`` when the disk is.
    ``td`` is whether the machine is a TD (QEMU treats the kernel differently).
    """

    payload: Payload
    boot: BootMode
    traits: FirmwareTraits | None
    qemu: QemuVersion | None
    secure_boot: bool | None
    table: PartitionTable | None
    table_name: str = ""
    td: bool = True


def map_events(items: Iterable[Item], change: Callable[[PredictedEvent], PredictedEvent]) -> tuple[Item, ...]:
    """The same items with every event, also those of alternatives, passed through ``change``."""
    return tuple(
        change(item)
        if isinstance(item, PredictedEvent)
        else attrs.evolve(
            item,
            options=tuple(attrs.evolve(o, events=tuple(change(e) for e in o.events)) for o in item.options),
        )
        for item in items
    )


def in_td(items: Iterable[Item]) -> tuple[Item, ...]:
    """The same items in terms of RTMRs."""
    return map_events(items, PredictedEvent.in_td)


def with_recipe_origins(items: Iterable[Item], origins: Mapping[str, Origin]) -> tuple[Item, ...]:
    """The same items whose sections say which line of the recipe and which node they stem from."""

    def place(event: PredictedEvent) -> PredictedEvent:
        recipe = origins.get(event.origin.section)
        if recipe is None:
            return event
        return attrs.evolve(event, origin=attrs.evolve(event.origin, span=recipe.span, node=recipe.node))

    return map_events(items, place) if origins else tuple(items)


def rtmr1_items(path: BootPath) -> tuple[Item, ...]:
    """RTMR1: what the firmware starts, and the end of boot services."""
    before, after = _image_around_call(path)
    items: list[Item] = [*before, calling_event()]
    items.extend(closing_separator(path.traits, PCR_APPLICATIONS, new=True))
    if path.boot is BootMode.DISK:
        items.append(_gpt_item(path))
    items.extend(after)
    items.append(exit_events())
    return in_td(items)


def rtmr2_items(path: BootPath) -> tuple[Item, ...]:
    """RTMR2: what the stub and the kernel measure, as far as they use a TD's registers."""
    payload = path.payload
    items: list[Item] = []
    if payload.uki is not None and payload.uki.rules.cc_events:
        items.extend(payload.section_events)
        tagged = payload.uki.rules.cc_tagged_events
        items.extend(e for e in payload.stub_events if tagged or e.event_type is not EventType.EV_EVENT_TAG)
    version = payload.kernel_version
    if version is None or kernel_complaint(version) or version.measures_in_rtmr:
        items.extend(kernel_items(path))
    return in_td(items)


def stub_only_rtmr2_items(path: BootPath) -> tuple[Item, ...]:
    """RTMR2 of a TD that also has a TPM: the kernel then measures into the TPM alone."""
    payload = path.payload
    if payload.uki is None or not payload.uki.rules.cc_events:
        return ()
    tagged = payload.uki.rules.cc_tagged_events
    wanted = (e for e in payload.stub_events if tagged or e.event_type is not EventType.EV_EVENT_TAG)
    return in_td((*payload.section_events, *wanted))


def application_pcr_items(path: BootPath) -> tuple[Item, ...]:
    """PCR 4 and 5."""
    before, after = _image_around_call(path)
    items: list[Item] = [*before, calling_event(), separator_event(PCR_APPLICATIONS), separator_event(PCR_BOOT)]
    if path.boot is BootMode.DISK:
        items.append(_gpt_item(path))
    items.extend(after)
    items.append(exit_events())
    return tuple(items)


def payload_pcr_items(path: BootPath, units: frozenset[str] | None) -> tuple[Item, ...]:
    """PCR 9, 11, 12 and 13: the stub's, the kernel's and user space's events.

    ``units`` are the systemd units in the image; the ones that mark boot phases add to PCR 11, or may add to it when
    the units are not known.
    """
    payload = path.payload
    phases: tuple[Item, ...] = ()
    if payload.uki is not None:
        phases = phase_events(units) if units is not None else (_possible_phases(),)
    return (*payload.section_events, *payload.stub_events, *kernel_items(path), *phases)


def _possible_phases() -> Alternatives:
    none = Alternative(reason="the image has no units that mark boot phases")
    one_system = Alternative(
        reason="systemd marks the phases of a system that stays in its initrd",
        events=phase_events(frozenset(PHASE_UNITS) - {INITRD_PHASE_UNIT}),
    )
    everything = Alternative(reason="systemd marks every boot phase", events=phase_events(frozenset(PHASE_UNITS)))
    return Alternatives(name=BOOT_PHASES, options=(none, one_system, everything))


def _image_around_call(path: BootPath) -> tuple[list[Item], list[Item]]:
    """The image's own events before and after the firmware announces the call: QEMU's kernel is loaded before that."""
    payload = path.payload
    what = "the UKI" if payload.uki is not None else "the kernel"
    origin = Origin(artifact=payload.name, rule="edk2 DxeTpm2MeasureBootLib: Authenticode")
    start = image_event(payload.image, description=f"the firmware loads {what}", origin=origin)
    inner: list[Item] = []
    if payload.uki is not None and payload.inner_kernel is not None:
        inner_origin = Origin(artifact=payload.name, section=".linux", rule=f"systemd-stub {payload.uki.stub_version}")
        event = image_event(
            payload.inner_kernel, description="the firmware loads the UKI's inner kernel", origin=inner_origin
        )
        loaded = payload.uki.rules.kernel_loaded_by_firmware
        inner.extend(inner_kernel_events(event, loaded_by_firmware=loaded, secure_boot=path.secure_boot))
    if path.boot is BootMode.DISK:
        return [], [start, *inner]
    return [_direct_image_item(path, start)], inner


def _direct_image_item(path: BootPath, event: PredictedEvent) -> Item:
    """The image as QEMU hands it over with ``-kernel``: as it is in the file, or with a rewritten header."""
    patched = attrs.evolve(
        event,
        digests=path.payload.patched_image,
        description=f"{event.description}, whose header QEMU has rewritten",
    )
    known = header_is_patched(path)
    if path.payload.patched_image == path.payload.image or known is False:
        return event
    if known:
        return patched
    untouched = Alternative(reason="QEMU and firmware hand the kernel over as it is", events=(event,))
    rewritten = Alternative(
        reason="QEMU rewrites the kernel's header (before 10.0, or older firmware)", events=(patched,)
    )
    return Alternatives(name=KERNEL_HEADER, options=(untouched, rewritten))


def header_is_patched(path: BootPath) -> bool | None:
    """Whether the firmware measures a header that QEMU has rewritten; ``None`` when that is not known.

    A UKI has no setup header, which QEMU respects from 10.0 on. For a plain kernel, firmware from 202502 on takes the
    untouched copy that QEMU offers from 10.0 on, and from 10.2 on QEMU leaves the header of a TD's kernel alone.
    """
    if path.payload.uki is not None:
        return None if path.qemu is None or path.qemu < QEMU_10_0 else False
    takes_named = None if path.traits is None else path.traits.at_least(FIRST_WITH_NAMED_BLOBS)
    if path.qemu is None:
        return None
    if path.td and path.qemu >= QEMU_10_2:
        return False
    if path.qemu < QEMU_10_0:
        return True
    return None if takes_named is None else not takes_named


def _gpt_item(path: BootPath) -> PredictedEvent:
    if path.table is not None:
        return gpt_event(path.table, artifact=path.table_name)
    return PredictedEvent(
        register=PCR_BOOT,
        event_type=EventType.EV_EFI_GPT_EVENT,
        description="the firmware measures the partition table",
        origin=Origin(section="GPT", rule="edk2 DxeTpm2MeasureBootLib"),
        pending="the disk image, for its partition table",
    )


def kernel_items(path: BootPath) -> tuple[Item, ...]:
    """What the kernel measures: its load options, then its initrd."""
    payload = path.payload
    items: list[Item] = []
    options_origin = Origin(artifact=payload.name, section=".cmdline" if payload.uki else "", rule="Linux EFI stub")
    options_text = "the kernel measures its command line"
    if complaint := kernel_complaint(payload.kernel_version):
        return (pending_kernel_event(complaint, description=options_text, origin=options_origin),)
    if payload.command_line_pending:
        items.append(
            pending_kernel_event(payload.command_line_pending, description=options_text, origin=options_origin)
        )
    else:
        items.extend(_load_options(path, options_text, options_origin))
    initrd_origin = Origin(artifact=payload.name, section=".initrd" if payload.uki else "", rule="Linux EFI stub")
    if payload.initrd_pending:
        text = "the kernel measures the initrd that it loads"
        items.append(pending_kernel_event(payload.initrd_pending, description=text, origin=initrd_origin))
    elif payload.initrd is not None:
        items.append(initrd_event(payload.initrd, origin=initrd_origin))
    return tuple(items)


def _load_options(path: BootPath, text: str, origin: Origin) -> tuple[Item, ...]:
    """The load options; for a plain kernel with an initrd the firmware adds a word, at the front or at the end."""
    line = path.payload.command_line
    if path.payload.uki is not None or path.payload.initrd is None:
        if line is None or (not line and path.payload.uki is None):
            return ()
        return (load_options_event(utf16(line), description=f"{text}: {line}", origin=origin),)
    first, last = f"{_INITRD_WORD} {line or ''}", f"{line or ''} {_INITRD_WORD}"
    newer = load_options_event(utf16(first), description=f"{text}: {first}", origin=origin)
    older = load_options_event(utf16(last), description=f"{text}: {last}", origin=origin)
    is_new = None if path.traits is None else path.traits.at_least(FIRST_WITH_INITRD_FIRST)
    if is_new is not None:
        return (newer if is_new else older,)
    options = (
        Alternative(reason="the firmware puts initrd= last (edk2-stable202505 and older)", events=(older,)),
        Alternative(reason="the firmware puts initrd= first (edk2-stable202508 and newer)", events=(newer,)),
    )
    return (Alternatives(name=LOAD_OPTIONS, options=options),)


def register_of(item: Item) -> frozenset[Register]:
    """The registers that an item concerns."""
    if isinstance(item, PredictedEvent):
        return frozenset({item.register})
    return frozenset(event.register for option in item.options for event in option.events)
