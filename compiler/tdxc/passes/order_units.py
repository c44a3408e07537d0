"""order-units: which target pulls each unit in, that no two wait for each other, and the order that results.

::

    service a (after b), service b (after a)   ->  E_CYCLE  a.service -> b.service -> a.service, with both lines
    service a (after netwrok-online.target)    ->  W_UNKNOWN_UNIT, did you mean 'network-online.target'?
    service a (wants a package's service)      ->  W_BOOT_ORDER where the image has a disk that the other may use
    enabled service without wanted_by          ->  wanted by the target that the image boots into
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import ClassVar

from tdxc import records
from tdxc.diagnostics import Code, Note, SourceSpan, nearest
from tdxc.ir import BootUnit, Directive, ResolvedImage, Section, Unit
from tdxc.passes.base import PassContext
from tdxc.passes.init_priority import RUNTIME_INIT
from tdxc.passes.known_units import BOOT_TARGETS, SHUTDOWN_TARGETS, STATIC_PULLS, is_known, known_units
from tdxc.passes.unit_graph import PULLING_KEYS, Wait, find_cycles, levels, named_units, waits
from tdxc.passes.unit_sections import with_directives

MINIMAL_TARGET = "minimal.target"
NETWORK_ONLINE = "network-online.target"

_REFERRING_KEYS = ("After", "Before", *PULLING_KEYS, "PartOf", "Conflicts", "OnFailure", "OnSuccess")
_TRIGGERS = {"socket": ("Socket", "Service"), "timer": ("Timer", "Unit"), "path": ("Path", "Unit")}
_UNIT_FOLDERS = ("/usr/lib/systemd/system/", "/etc/systemd/system/", "/lib/systemd/system/")

_WANTED_BY_KIND = {
    "mount": "local-fs.target",
    "path": "paths.target",
    "socket": "sockets.target",
    "timer": "timers.target",
}
"""Where units of a kind belong by default (systemd.special(7)); services and targets belong to the default target."""


class OrderUnits:
    """Decides what pulls each unit in, makes ``minimal.target``, refuses cycles and fills in ``boot_order``."""

    name: ClassVar[str] = "order-units"
    description: ClassVar[str] = "pull units in by the target that boots, refuse cycles, find the boot order"
    requires: ClassVar[frozenset[str]] = frozenset({"init-priority"})
    establishes: ClassVar[frozenset[str]] = frozenset({"order-units"})

    def run(self, image: ResolvedImage, ctx: PassContext) -> ResolvedImage:
        """Order the units; with another init system there are services only, and what they say about each other."""
        if image.init != "systemd":
            return _plain_order(image, ctx)
        triggered = frozenset(name for unit in image.units for name in _triggers(unit))
        units = [_with_links(_with_network(unit), image.default_target, triggered) for unit in image.units]
        if image.default_target == MINIMAL_TARGET and all(unit.name != MINIMAL_TARGET for unit in units):
            units.append(minimal_target(image.span))
        image = records.evolve(image, units=tuple(sorted(units, key=lambda unit: unit.name)))
        names = _existing(image)
        _check_default_target(image, names, ctx)
        _check_references(image, names, ctx)
        _check_reached(image, ctx)
        if image.encrypted_disks or image.secret_delivery:
            from tdxc.passes.package_units import check_package_units

            ctx.sink.extend(check_package_units(image))
        extra = (image.default_target, *_linked_units(image))
        graph = waits(image.units, extra=extra, drop_ins=image.drop_ins)
        for cycle in find_cycles(graph):
            _report_cycle(cycle, ctx)
        if ctx.sink.has_errors:
            return image
        return records.evolve(image, boot_order=_order(image, graph))


def _plain_order(image: ResolvedImage, ctx: PassContext) -> ResolvedImage:
    own = {unit.name for unit in image.units}
    every = waits(image.units)
    graph = {name: {other: wait for other, wait in every[name].items() if other in own} for name in sorted(own)}
    for cycle in find_cycles(graph):
        _report_cycle(cycle, ctx)
    return image if ctx.sink.has_errors else records.evolve(image, boot_order=_order(image, graph))


def boot_order(image: ResolvedImage) -> tuple[BootUnit, ...]:
    """Units and boot steps in an order in which they may start; empty before this pass and for another init system."""
    return image.boot_order


def minimal_target(span: SourceSpan) -> Unit:
    """The target that an image boots into by default: basic.target, and what the image itself adds."""
    cause = "order-units: the image boots into minimal.target"
    rows = (
        ("Description", "Services of the image"),
        ("Requires", "basic.target"),
        ("After", "basic.target"),
        ("AllowIsolate", "yes"),
    )
    directives = tuple(Directive(span=span, cause=cause, key=key, value=value) for key, value in rows)
    section = Section(span=span, cause=cause, name="Unit", directives=directives)
    return Unit(span=span, cause=cause, name=MINIMAL_TARGET, sections=(section,))


def _with_network(unit: Unit) -> Unit:
    """Who comes after network-online.target also pulls it in: nothing else does, and the order alone would be void.

    systemd.special(7) asks both of units that need the network. runtime-init is left out: its steps may make the
    network, and should not wait for one that nobody needs.
    """
    pulled = any(name == NETWORK_ONLINE for key in PULLING_KEYS for name, _ in named_units(unit, key))
    span = next((span for name, span in named_units(unit, "After") if name == NETWORK_ONLINE), None)
    if span is None or pulled or unit.name == RUNTIME_INIT:
        return unit
    cause = f"order-units: {unit.name} comes after it, so it has to start"
    return with_directives(unit, "Unit", (Directive(span=span, cause=cause, key="Wants", value=NETWORK_ONLINE),))


def _with_links(unit: Unit, default_target: str, triggered: frozenset[str]) -> Unit:
    """The unit with its links decided, and without an ``[Install]`` section, which nothing would read."""
    install = [d for s in unit.sections if s.name == "Install" for d in s.directives]
    sections = tuple(section for section in unit.sections if section.name != "Install")
    said = {
        key: tuple(w for d in install if d.key == key for w in d.value.split()) for key in ("WantedBy", "RequiredBy")
    }
    aliases = tuple(w for d in install if d.key == "Alias" for w in d.value.split())
    unit = records.evolve(unit, sections=sections, aliases=(*unit.aliases, *aliases))
    if not unit.enabled:
        return records.evolve(unit, wanted_by=(), required_by=())
    wanted_by = unit.wanted_by or said["WantedBy"]
    required_by = unit.required_by or said["RequiredBy"]
    if not wanted_by and not required_by:
        wanted_by = _default_wanted_by(unit, default_target, triggered)
    return records.evolve(
        unit, wanted_by=_booted(wanted_by, default_target), required_by=_booted(required_by, default_target)
    )


def _booted(targets: tuple[str, ...], default_target: str) -> tuple[str, ...]:
    """Targets that mean "at boot" become the one that really boots, unless that one pulls them in."""
    if not any(name in BOOT_TARGETS for name in targets):
        return targets
    reached = _closure({default_target}, STATIC_PULLS)
    booted = (default_target if name in BOOT_TARGETS and name not in reached else name for name in targets)
    return tuple(dict.fromkeys(booted))


def _default_wanted_by(unit: Unit, default_target: str, triggered: frozenset[str]) -> tuple[str, ...]:
    """By its kind; a template, the default target and what a socket, timer or path starts are not started by boot."""
    stem, _, kind = unit.name.rpartition(".")
    if stem.endswith("@") or unit.name == default_target or unit.name in triggered:
        return ()
    return (_WANTED_BY_KIND.get(kind, default_target),)


def _triggers(unit: Unit) -> tuple[str, ...]:
    stem, _, kind = unit.name.rpartition(".")
    if kind not in _TRIGGERS:
        return ()
    return unit.values(*_TRIGGERS[kind]) or (f"{stem}.service",)


def _existing(image: ResolvedImage) -> frozenset[str]:
    """Units that the image brings, by itself or as files."""
    own = {unit.name for unit in image.units} | {name for unit in image.units for name in unit.aliases}
    paths = [file.path for file in image.files] + [link.path for link in image.symlinks]
    return frozenset(own) | {path.rpartition("/")[2] for path in paths if path.startswith(_UNIT_FOLDERS)}


def _linked_units(image: ResolvedImage) -> tuple[str, ...]:
    """Units of systemd or of a package that the image starts by links of its own."""
    names = (link.path.rsplit("/", 2) for link in image.symlinks if link.path.startswith(_UNIT_FOLDERS))
    return tuple(name for _, folder, name in names if folder.endswith((".wants", ".requires")))


def _check_default_target(image: ResolvedImage, existing: frozenset[str], ctx: PassContext) -> None:
    target = image.default_target
    if not target.endswith(".target") or "/" in target:
        message = f"default target '{target}' is not the name of a target"
        ctx.sink.add(Code.E_VALUE, message, image.span, fix=f"write '{MINIMAL_TARGET}' or 'multi-user.target'")
    elif target not in existing and not is_known(target):
        close = nearest_unit(target, [*existing, *(name for name in known_units() if name.endswith(".target"))])
        fix = f"did you mean '{close}'?" if close else f"declare a unit '{target}'"
        ctx.sink.add(Code.E_REFERENCE, f"default target '{target}' does not exist", image.span, fix=fix)


def _check_references(image: ResolvedImage, existing: frozenset[str], ctx: PassContext) -> None:
    for unit in image.units:
        references = [(name, key, span) for key in _REFERRING_KEYS for name, span in named_units(unit, key)]
        references += [(name, "wanted_by", unit.span) for name in (*unit.wanted_by, *unit.required_by)]
        key = "Service" if unit.name.endswith(".socket") else "Unit"
        references += [(name, key, unit.span) for name in _triggers(unit) if not _is_accepting(unit, existing)]
        for name, key, span in references:
            if name in existing or _instance_exists(name, existing) or is_known(name):
                continue
            close = nearest_unit(name, [*(existing - {unit.name}), *known_units()])
            fix = f"did you mean '{close}'?" if close else "declare it, or install the package that brings it"
            message = f"'{unit.name}' names '{name}' ({key}=), a unit of neither the image, systemd nor Debian"
            ctx.sink.add(Code.W_UNKNOWN_UNIT, message, span, fix=fix)


def nearest_unit(name: str, units: Iterable[str]) -> str:
    """The unit that is probably meant, empty for none: suffixes are long, so names alike but for them are not alike.

    >>> nearest_unit("network-onlin.target", ["network-online.target", "snapd.service"])
    'network-online.target'
    >>> nearest_unit("a.service", ["snapd.service"])
    ''
    """
    stem, _, suffix = name.rpartition(".")
    found = sorted(units)
    others = [unit for unit in found if unit.rpartition(".")[0] == stem]
    alike = {unit.removesuffix(f".{suffix}"): unit for unit in found if unit.endswith(f".{suffix}")}
    return others[0] if others else alike.get(nearest(stem, alike), "")


def _is_accepting(unit: Unit, existing: frozenset[str]) -> bool:
    """Whether a socket starts an instance of a template for each connection (systemd.socket(5), "Accept=")."""
    return f"{unit.name.rpartition('.')[0]}@.service" in existing


def _instance_exists(name: str, existing: frozenset[str]) -> bool:
    stem, _, suffix = name.rpartition(".")
    template, at, _ = stem.partition("@")
    return bool(at) and f"{template}@.{suffix}" in existing


def _check_reached(image: ResolvedImage, ctx: PassContext) -> None:
    """Warn about units that are pulled in only by targets that the boot never reaches."""
    pulls: dict[str, tuple[str, ...]] = dict(STATIC_PULLS)
    for unit in image.units:
        names = tuple(name for key in PULLING_KEYS for name, _ in named_units(unit, key))
        pulls[unit.name] = (*pulls.get(unit.name, ()), *names, *_triggers(unit))
        for target in (*unit.wanted_by, *unit.required_by):
            pulls[target] = (*pulls.get(target, ()), unit.name)
    reached = _closure({image.default_target}, pulls)
    for unit in image.units:
        linked = (*unit.wanted_by, *unit.required_by)
        if linked and unit.name not in reached:
            message = (
                f"'{unit.name}' never starts: the boot into {image.default_target} does not reach {', '.join(linked)}"
            )
            fix = f"leave wanted_by out, or name a unit that {image.default_target} pulls in"
            ctx.sink.add(Code.W_UNKNOWN_UNIT, message, unit.span, fix=fix)


def _closure(start: set[str], pulls: dict[str, tuple[str, ...]]) -> frozenset[str]:
    reached = set(start)
    pending = sorted(start)
    while pending:
        for name in pulls.get(pending.pop(), ()):
            if name not in reached:
                reached.add(name)
                pending.append(name)
    return frozenset(reached)


def _report_cycle(cycle: list[Wait], ctx: PassContext) -> None:
    path = " -> ".join([cycle[0].later, *(wait.earlier for wait in cycle)])
    notes = tuple(
        Note(message=f"'{wait.later}' comes after '{wait.earlier}': {wait.reason}", span=wait.span) for wait in cycle
    )
    span = min((wait.span for wait in cycle if wait.span.line), default=cycle[0].span)
    ctx.sink.add(Code.E_CYCLE, f"units wait for each other: {path}", span, notes=notes, fix="remove one of these")


def _order(image: ResolvedImage, graph: dict[str, dict[str, Wait]]) -> tuple[BootUnit, ...]:
    """By level and name; boot steps stand in front of the service that runs them."""
    own = {unit.name: unit for unit in image.units}
    level = levels(graph)
    rows: list[BootUnit] = []
    for name in sorted(graph.keys() - SHUTDOWN_TARGETS, key=lambda name: (level[name], name)):
        after = tuple(sorted(graph[name]))
        unit = own.get(name)
        span, cause = (unit.span, unit.cause) if unit else (image.span, "a unit of systemd or a package")
        if name == RUNTIME_INIT:
            steps = tuple(_steps(image, after, level[name]))
            rows += steps
            after = (steps[-1].name,) if steps else after
        rows.append(BootUnit(span=span, cause=cause, name=name, after=after, level=level[name]))
    return tuple(rows)


def _steps(image: ResolvedImage, after: tuple[str, ...], level: int) -> Iterator[BootUnit]:
    for step in image.ordered_steps:
        yield BootUnit(span=step.span, cause=step.cause, name=step.file_name, after=after, level=level)
        after = (step.file_name,)
