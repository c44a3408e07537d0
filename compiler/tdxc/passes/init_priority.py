"""init-priority: boot steps get their order and their drop-in names, and every service waits for them.

::

    BootStep("keys", priority=10)              0010-00-keys
    BootStep("disks", priority=20)        ->   0020-00-disks
    BootStep("late", 5, after=["disks"])       0020-01-late     (raised to the priority of what it comes after)

A name depends only on the step itself and on the steps before it in the recipe. As a profile's steps stand behind those
of the image, they never rename a step of the image, and the drop-ins of several profiles compose in one folder.
"""

from __future__ import annotations

import heapq
import itertools
import re
from collections.abc import Iterator
from typing import ClassVar

from tdxc import records
from tdxc.diagnostics import Code, Note, nearest
from tdxc.ir import (
    BootStep,
    Directive,
    DropIn,
    Hardening,
    OrderedStep,
    ResolvedImage,
    SandboxNeeds,
    Section,
    Unit,
    UnitKind,
)
from tdxc.passes.base import PassContext
from tdxc.passes.boot_phases import phases_behind_steps
from tdxc.passes.unit_sections import is_false, last_value, with_directives, words

RUNTIME_INIT = "runtime-init.service"
RUNTIME_INIT_PROGRAM = "/usr/bin/runtime-init"
RUNTIME_INIT_DIRECTORY = "/usr/lib/runtime-init.d"

_DROP_IN = "90-runtime-init"

MAX_PRIORITY = 9999
MAX_TIES = 100
_STEP_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")

EARLY_TARGETS = frozenset(
    {
        "basic.target", "cryptsetup.target", "local-fs.target", "local-fs-pre.target", "network.target",
        "network-online.target", "network-pre.target", "paths.target", "slices.target", "sockets.target",
        "sysinit.target", "systemd-networkd.service", "timers.target", "veritysetup.target",
    }
)  # fmt: skip
"""Units that runtime-init itself comes after, or that belong to boot-up before it (bootup(7)). What is ordered before
one of them or pulled in by one is part of early boot: waiting for runtime-init would be a cycle."""


class InitPriority:
    """Orders boot steps and makes services wait for them; without steps it changes nothing."""

    name: ClassVar[str] = "init-priority"
    description: ClassVar[str] = "order boot steps into numbered drop-ins and let services wait for runtime-init"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset({"init-priority"})

    def run(self, image: ResolvedImage, ctx: PassContext) -> ResolvedImage:
        """Order the steps; see the module's text for the names."""
        if not image.boot_steps:
            return image
        if not _check_steps(image.boot_steps, ctx):
            return image
        steps = order_steps(image.boot_steps, ctx)
        units = image.units
        if image.init == "systemd":
            units = tuple(wait_for_runtime_init(unit, image.boot_steps[0]) for unit in units)
            init = runtime_init_unit(image.boot_steps, phases_behind_steps(image))
            units = tuple(sorted((*units, init), key=lambda unit: unit.name))
            image = records.evolve(image, drop_ins=(*image.drop_ins, *_for_placed_units(image)))
        return records.evolve(image, ordered_steps=steps, units=units)


def _check_steps(steps: tuple[BootStep, ...], ctx: PassContext) -> bool:
    """Report bad and repeated names, bad priorities and unknown predecessors; true when there is none of these."""
    first: dict[str, BootStep] = {}
    good = True
    for step in steps:
        if step.name in first:
            note = Note(message="the first one is here", span=first[step.name].span)
            ctx.sink.add(Code.E_CONFLICT, f"two boot steps are named '{step.name}'", step.span, notes=(note,))
            good = False
        first.setdefault(step.name, step)
        if not _STEP_NAME.fullmatch(step.name):
            message = f"boot step name {step.name!r} is not 1 to 100 letters, digits and '._-'"
            ctx.sink.add(Code.E_VALUE, message, step.span, fix="the name becomes a file name; give a plain one")
            good = False
        if not 0 <= step.priority <= MAX_PRIORITY:
            message = f"priority {step.priority} of boot step '{step.name}' is not between 0 and {MAX_PRIORITY}"
            ctx.sink.add(Code.E_VALUE, message, step.span, fix="lower priorities run first; 50 is the default")
            good = False
    for step in steps:
        for name in step.after:
            if name not in first:
                close = nearest(name, first)
                fix = f"did you mean '{close}'?" if close else f"the boot steps are: {', '.join(first)}"
                message = f"boot step '{step.name}' comes after '{name}', which does not exist"
                ctx.sink.add(Code.E_REFERENCE, message, step.span, fix=fix)
                good = False
    return good


def order_steps(steps: tuple[BootStep, ...], ctx: PassContext) -> tuple[OrderedStep, ...]:
    """Steps in boot order with their drop-in names; a cycle is reported and leaves no step."""
    ordered = _topological(steps)
    if len(ordered) < len(steps):
        _report_cycle(steps, {step.name for step in ordered}, ctx)
        return ()
    effective: dict[str, int] = {}
    for step in ordered:
        effective[step.name] = max([step.priority, *(effective[name] for name in step.after)])
    groups: dict[int, list[BootStep]] = {}
    for step in ordered:
        groups.setdefault(effective[step.name], []).append(step)
    result: list[OrderedStep] = []
    for priority in sorted(groups):
        if len(groups[priority]) > MAX_TIES:
            message = f"more than {MAX_TIES} boot steps share priority {priority}"
            ctx.sink.add(Code.E_LIMIT, message, groups[priority][MAX_TIES].span, fix="give them different priorities")
        result += (_ordered(step, priority, tie) for tie, step in enumerate(groups[priority]))
    return tuple(result)


def _ordered(step: BootStep, priority: int, tie: int) -> OrderedStep:
    cause = step.cause or f"boot step '{step.name}' of priority {step.priority}"
    if priority != step.priority:
        cause += f", raised to {priority} behind {', '.join(step.after)}"
    file_name = f"{priority:04}-{tie:02}-{step.name}"
    return OrderedStep(span=step.span, cause=cause, name=step.name, file_name=file_name, script=step.script)


def _topological(steps: tuple[BootStep, ...]) -> list[BootStep]:
    """Predecessors first, otherwise recipe order; steps on or behind a cycle are left out.

    Among steps that may run, the first of the recipe is taken, so that steps of a profile (which stand last and which
    no step of the image can name) come last.
    """
    places = {step.name: place for place, step in enumerate(steps)}
    waiting = {step.name: len(set(step.after)) for step in steps}
    followers: dict[str, list[str]] = {}
    for step in steps:
        for name in set(step.after):
            followers.setdefault(name, []).append(step.name)
    ready = [place for place, step in enumerate(steps) if not waiting[step.name]]
    heapq.heapify(ready)
    ordered: list[BootStep] = []
    while ready:
        step = steps[heapq.heappop(ready)]
        ordered.append(step)
        for name in followers.get(step.name, ()):
            waiting[name] -= 1
            if not waiting[name]:
                heapq.heappush(ready, places[name])
    return ordered


def _report_cycle(steps: tuple[BootStep, ...], done: set[str], ctx: PassContext) -> None:
    by_name = {step.name: step for step in steps if step.name not in done}
    path = [min(by_name)]
    while path.count(path[-1]) == 1:
        path.append(next(name for name in by_name[path[-1]].after if name in by_name))
    cycle = path[path.index(path[-1]) :]
    notes = tuple(
        Note(message=f"'{step}' comes after '{before}'", span=by_name[step].span)
        for step, before in itertools.pairwise(cycle)
    )
    message = f"boot steps wait for each other: {' -> '.join(cycle)}"
    ctx.sink.add(Code.E_CYCLE, message, by_name[cycle[0]].span, notes=notes, fix="remove one of these after=")


def wait_for_runtime_init(unit: Unit, step: BootStep) -> Unit:
    """Let a service start only when all boot steps have succeeded, unless it is part of early boot."""
    if not unit.name.endswith(".service") or is_early(unit):
        return unit
    cause = "init-priority: services wait for the boot steps"
    missing = [key for key in ("Requires", "After") if RUNTIME_INIT not in words(unit, "Unit", key)]
    return with_directives(
        unit, "Unit", (Directive(span=step.span, cause=cause, key=key, value=RUNTIME_INIT) for key in missing)
    )


def _for_placed_units(image: ResolvedImage) -> Iterator[DropIn]:
    """A drop-in for each service whose unit file the recipe places as a file: it waits like any other."""
    services = tuple(file for file in image.files if file.path.endswith(".service"))
    if not services:
        return
    from tdxc.passes.placed_units import placed_units

    placed = {each.unit.name: each.unit for each in placed_units(services)}
    for name, unit in sorted(placed.items()):
        is_masked = not any(section.directives for section in unit.sections)
        if not is_masked and not is_early(unit):
            waiting = wait_for_runtime_init(records.evolve(unit, sections=()), image.boot_steps[0])
            cause = "init-priority: services wait for the boot steps"
            yield DropIn(span=unit.span, cause=cause, unit=name, name=_DROP_IN, sections=waiting.sections)


def is_early(unit: Unit) -> bool:
    """Whether a unit says, or shows by its dependencies, that it belongs to the boot before runtime-init."""
    return bool(early_reason(unit))


def early_reason(unit: Unit) -> str:
    """By what a unit says or shows that, in words; empty when it belongs to the boot after runtime-init."""
    if unit.early:
        return "early=True"
    if is_false(last_value(unit, "Unit", "DefaultDependencies")):
        return "DefaultDependencies=no"
    wanted_by = (*unit.wanted_by, *words(unit, "Install", "WantedBy"), *words(unit, "Install", "RequiredBy"))
    for relation, names in (("Before", words(unit, "Unit", "Before")), ("WantedBy", wanted_by)):
        for name in names:
            if name in EARLY_TARGETS or name == RUNTIME_INIT:
                return f"{relation}={name}"
    return ""


_UNNEEDED_CAPABILITIES = (
    "CAP_AUDIT_CONTROL", "CAP_AUDIT_READ", "CAP_AUDIT_WRITE", "CAP_BLOCK_SUSPEND", "CAP_BPF", "CAP_LEASE",
    "CAP_LINUX_IMMUTABLE", "CAP_MAC_ADMIN", "CAP_MAC_OVERRIDE", "CAP_PERFMON", "CAP_SYSLOG", "CAP_SYS_BOOT",
    "CAP_SYS_PACCT", "CAP_SYS_PTRACE", "CAP_SYS_RAWIO", "CAP_SYS_TTY_CONFIG", "CAP_WAKE_ALARM",
)  # fmt: skip
"""What setting up disks, mounts, networks, clocks, modules and owners does without (capabilities(7))."""

_STEP_FAMILIES = "AF_UNIX AF_NETLINK AF_INET AF_INET6 AF_ALG AF_VSOCK"
"""Sockets of steps: AF_ALG is how cryptsetup reaches the kernel's ciphers, AF_VSOCK how a quote is asked for."""


def runtime_init_unit(steps: tuple[BootStep, ...], before: tuple[str, ...] = ()) -> Unit:
    """The oneshot service that runs the drop-ins, in front of the units ``before``.

    It keeps the host's mount namespace, devices and capabilities, since steps set up disks, mounts and networks for
    all: whatever a directive hides or makes read-only it does in a mount namespace of the service's own, in which a
    mounted disk would stay (systemd.exec(5), "Sandboxing"). What is left of the sandbox is what no such step needs.
    Mount namespaces of their own stay allowed to steps, since systemd-repart(8) makes one to fill a file system. The
    runner alone tells its state, through systemd-notify(1), which speaks in its caller's name.
    """
    span = steps[0].span
    cause = "init-priority: the image has boot steps"

    def section(name: str, *pairs: tuple[str, str]) -> Section:
        directives = tuple(Directive(span=span, cause=cause, key=key, value=value) for key, value in pairs)
        return Section(span=span, cause=cause, name=name, directives=directives)

    return Unit(
        span=span,
        cause=cause,
        name=f"runtime-init.{UnitKind.SERVICE.value}",
        sections=(
            section(
                "Unit",
                ("Description", "Boot steps of the image, in order"),
                ("After", "network.target network-online.target"),
                *(("Before", name) for name in before),
            ),
            section(
                "Service",
                ("Type", "oneshot"),
                ("RemainAfterExit", "yes"),
                ("ExecStart", RUNTIME_INIT_PROGRAM),
                ("NotifyAccess", "main"),
                ("StandardOutput", "journal+console"),
                ("StandardError", "journal+console"),
                ("LockPersonality", "yes"),
                ("NoNewPrivileges", "yes"),
                ("RestrictRealtime", "yes"),
                ("RestrictNamespaces", "mnt"),
                ("RestrictAddressFamilies", _STEP_FAMILIES),
                ("CapabilityBoundingSet", f"~{' '.join(_UNNEEDED_CAPABILITIES)}"),
                ("SystemCallArchitectures", "native"),
                ("SystemCallFilter", "~@cpu-emulation @debug @obsolete @raw-io @reboot"),
                ("SystemCallErrorNumber", "EPERM"),
            ),
        ),
        needs=SandboxNeeds(span=span, cause=cause, hardening=Hardening.NONE),
    )
