"""harden-services: every service gets a sandbox, opened for exactly what it declares.

::

    Service("app", user="app", ports=[80], writes=["/var/lib/app"])
    ->  User=app, CapabilityBoundingSet=CAP_NET_BIND_SERVICE, StateDirectory=app, ProtectSystem=strict, ...

What a unit already says wins: a single-valued directive keeps the default out, and lines of a list stand behind the
default and so add to it (or, with ``~``, take away). ``overrides`` replace the default of their key altogether, and
``hardening="none"`` leaves the unit alone.

A service without a user stays root, but a root without capabilities, in a read-only system. It gets no dynamic user:
what it owns on a data disk would change hands when the numeric id does, and the recipe's ``user=`` says it better.
"""

from __future__ import annotations

import collections
import re
from collections.abc import Iterator
from typing import ClassVar

from tdxc import quoting, records
from tdxc.diagnostics import Code, DiagnosticError, nearest
from tdxc.ir import Directive, Hardening, ResolvedImage, SandboxNeeds, Section, Unit
from tdxc.passes.base import PassContext
from tdxc.passes.sandbox_rules import (
    CAPABILITY_GRANTS,
    DEFAULT_RULES,
    HOME_FOLDERS,
    MANAGED_FOLDERS,
    PLAIN_KEYS,
    TEMPORARY_FOLDERS,
    Rule,
)
from tdxc.passes.unit_sections import is_false, last_value, words

_DEVICE_CLASS = re.compile(r"(char|block)-[A-Za-z0-9*?_-]+")
_MANAGED_NAME = re.compile(r"[A-Za-z0-9_.@+-]+(/[A-Za-z0-9_.@+-]+)*")
_PRIVILEGED_PORTS = 1024


class HardenServices:
    """Adds the default sandbox to services; each directive carries its reason as its cause."""

    name: ClassVar[str] = "harden-services"
    description: ClassVar[str] = "give every service a sandbox, opened for what it declares"
    requires: ClassVar[frozenset[str]] = frozenset({"init-priority"})
    establishes: ClassVar[frozenset[str]] = frozenset({"harden-services"})

    def run(self, image: ResolvedImage, ctx: PassContext) -> ResolvedImage:
        """Harden each service; bad capabilities, ports, devices and paths are reported and leave it as it was."""
        facts = ImageFacts.of(image)
        return records.evolve(image, units=tuple(_harden_or_report(unit, facts, ctx) for unit in image.units))


@records.frozen
class ImageFacts:
    """What a sandbox depends on beside its own service.

    Without ``systemd`` only what setpriv(1) can do applies. ``placed`` are paths that the image itself brings,
    ``shared`` those that more than one service writes: systemd shall neither make nor give away either.
    """

    vsock: bool = False
    systemd: bool = True
    placed: frozenset[str] = frozenset()
    shared: frozenset[str] = frozenset()

    @classmethod
    def of(cls, image: ResolvedImage) -> ImageFacts:
        """The facts of an image, gathered once for all its services."""
        placed = {file.path for file in image.files} | {directory.path for directory in image.directories}
        placed |= {link.path for link in image.symlinks}
        writers = collections.Counter(path for unit in image.units if unit.needs for path in set(unit.needs.writes))
        shared = frozenset(path for path, count in writers.items() if count > 1)
        return cls(vsock=image.network.vsock, systemd=image.init == "systemd", placed=frozenset(placed), shared=shared)


def _harden_or_report(unit: Unit, facts: ImageFacts, ctx: PassContext) -> Unit:
    if not unit.name.endswith(".service") or (unit.needs and unit.needs.hardening is Hardening.NONE):
        return unit
    try:
        return harden(unit, facts)
    except DiagnosticError as fault:
        ctx.sink.extend(fault.diagnostics)
        return unit


def harden(unit: Unit, facts: ImageFacts) -> Unit:
    """The service with its sandbox. Raises E_VALUE for needs that cannot be met."""
    needs = unit.needs or SandboxNeeds(span=unit.span)
    overridden = {directive.key for directive in needs.overrides}
    rules = [rule for rule in sandbox(unit, needs, facts) if rule.key not in overridden]
    if not facts.systemd:
        rules = [rule for rule in rules if rule.key in PLAIN_KEYS]
    rules += [Rule(d.key, d.value, "the recipe overrides it", is_list=True) for d in needs.overrides]
    service = next((section for section in unit.sections if section.name == "Service"), None)
    if service is None:
        raise DiagnosticError.of(Code.E_VALUE, f"service '{unit.name}' has no [Service] section", unit.span)
    hardened = records.evolve(service, directives=_laid_over(service, rules, needs))
    return records.evolve(unit, sections=tuple(hardened if s is service else s for s in unit.sections))


def _laid_over(service: Section, rules: list[Rule], needs: SandboxNeeds) -> tuple[Directive, ...]:
    """The section's own directives with the rules added: lists in front of their own lines, the rest at the end."""
    own = {directive.key for directive in service.directives}
    overridden = {directive.key for directive in needs.overrides}
    added = [
        Directive(span=needs.span, cause=f"harden-services: {rule.reason}", key=rule.key, value=rule.value)
        for rule in rules
        if rule.is_list or rule.key not in own
    ]
    result: list[Directive] = []
    placed: set[str] = set()
    for directive in service.directives:
        if directive.key not in placed:
            placed.add(directive.key)
            result += (rule for rule in added if rule.key == directive.key and rule.key not in overridden)
        if directive.key not in overridden:
            result.append(directive)
    result += (rule for rule in added if rule.key not in own or rule.key in overridden)
    return tuple(result)


def sandbox(unit: Unit, needs: SandboxNeeds, facts: ImageFacts) -> Iterator[Rule]:
    """The default rules as the service's needs change them, in the order in which they are written."""
    capabilities = _capabilities(needs)
    user = needs.user or last_value(unit, "Service", "User")
    dropped = {key for name in capabilities for key in CAPABILITY_GRANTS[name].without}
    if needs.devices:
        dropped.add("PrivateDevices")
    if is_false(last_value(unit, "Unit", "DefaultDependencies")) or _inside(needs.writes, TEMPORARY_FOLDERS):
        dropped.add("PrivateTmp")
    if user in {"", "root"}:
        dropped.add("RemoveIPC")
    for rule in DEFAULT_RULES:
        if rule.key not in dropped:
            yield from _adapted(rule, unit, needs, facts, capabilities, is_root=user in {"", "root"})
    yield from _paths(unit, needs, facts)
    yield from _devices(needs)
    yield from _ports(needs)


def _adapted(
    rule: Rule, unit: Unit, needs: SandboxNeeds, facts: ImageFacts, capabilities: tuple[str, ...], *, is_root: bool
) -> Iterator[Rule]:
    """One default rule, changed by what the service declares."""
    if rule.key == "CapabilityBoundingSet" and capabilities:
        yield records.evolve(rule, value=" ".join(capabilities), reason="the capabilities that it declares")
    elif rule.key == "AmbientCapabilities" and capabilities and not is_root:
        yield records.evolve(rule, value=" ".join(capabilities), reason="it is not root and keeps what it declares")
    elif rule.key == "ProtectHome" and _inside((*needs.writes, *_own_paths(unit)), HOME_FOLDERS):
        yield records.evolve(rule, value="read-only", reason="it declares a path in a home directory")
    elif rule.key == "RestrictAddressFamilies":
        yield rule
        extra = {grant for name in capabilities if (grant := CAPABILITY_GRANTS[name].families)}
        if facts.vsock:
            extra.add("AF_VSOCK")
        if extra:
            yield records.evolve(rule, value=" ".join(sorted(extra)), reason="vsock or a capability asks for it")
    elif rule.key == "SystemCallFilter" and rule.value.startswith("~"):
        yield rule
        calls = sorted({grant for name in capabilities if (grant := CAPABILITY_GRANTS[name].system_calls)})
        if calls:
            yield records.evolve(rule, value=" ".join(calls), reason=f"needed for {' '.join(capabilities)}")
    else:
        yield rule


def _capabilities(needs: SandboxNeeds) -> tuple[str, ...]:
    """Declared capabilities in their full spelling, with the one that low ports need; sorted."""
    found: set[str] = set()
    for name in needs.capabilities:
        full = name.upper() if name.upper().startswith("CAP_") else f"CAP_{name.upper()}"
        if full not in CAPABILITY_GRANTS:
            close = nearest(full, CAPABILITY_GRANTS)
            fix = f"did you mean '{close}'?" if close else "capabilities(7) lists them"
            raise DiagnosticError.of(Code.E_VALUE, f"'{name}' is not a capability", needs.span, fix=fix)
        found.add(full)
    if any(port < _PRIVILEGED_PORTS for port in needs.ports):
        found.add("CAP_NET_BIND_SERVICE")
    return tuple(sorted(found))


def _own_paths(unit: Unit) -> tuple[str, ...]:
    files = (value.removeprefix("-") for value in unit.values("Service", "EnvironmentFile"))
    return (*unit.values("Service", "WorkingDirectory"), *files)


def _inside(paths: tuple[str, ...], folders: tuple[str, ...]) -> bool:
    return any(path == folder or path.startswith(f"{folder}/") for path in paths for folder in folders)


def _paths(unit: Unit, needs: SandboxNeeds, facts: ImageFacts) -> Iterator[Rule]:
    """Where the service writes: a directory that systemd makes and gives to it, else a hole in the read-only system."""
    for path in needs.writes:
        word = quoting.unit_path_word(path, span=needs.span)
        prefix, key = next(((prefix, key) for prefix, key in MANAGED_FOLDERS if path.startswith(prefix)), ("", ""))
        relative = path[len(prefix) :].rstrip("/")
        is_given = path in facts.placed or path in facts.shared
        if is_given or not prefix or not _MANAGED_NAME.fullmatch(relative):
            yield Rule("ReadWritePaths", word, "it declares that it writes there", is_list=True)
        elif relative not in words(unit, "Service", key):
            yield Rule(key, relative, f"it declares that it writes below {path}", is_list=True)
            if key == "RuntimeDirectory":
                yield Rule("RuntimeDirectoryPreserve", "yes", "others may read what it leaves there")


def _devices(needs: SandboxNeeds) -> Iterator[Rule]:
    for device in needs.devices:
        if not _DEVICE_CLASS.fullmatch(device) and not device.startswith("/dev/"):
            message = f"device '{device}' is neither a path below /dev nor a class such as 'char-rtc'"
            raise DiagnosticError.of(Code.E_VALUE, message, needs.span, fix="name the node, such as '/dev/tdx_guest'")
        word = device if _DEVICE_CLASS.fullmatch(device) else quoting.unit_path_word(device, span=needs.span)
        yield Rule("DeviceAllow", f"{word} rw", "it declares that it opens this device", is_list=True)


def _ports(needs: SandboxNeeds) -> Iterator[Rule]:
    for port in needs.ports:
        if not 1 <= port <= 65535:
            raise DiagnosticError.of(Code.E_VALUE, f"port {port} is not between 1 and 65535", needs.span)
    if needs.ports:
        yield Rule("SocketBindDeny", "any", "it binds only the ports it declares", is_list=True)
    for port in sorted(set(needs.ports)):
        yield Rule("SocketBindAllow", str(port), "it declares this port", is_list=True)
