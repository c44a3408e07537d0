"""Checks of names: each given once, and every reference to one that exists."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, Note, nearest
from tdxc.ir import Base, Directory, File, Layer, Node, Package, SecretTarget, Service, Template
from tdxc.passes.known_accounts import KNOWN_GROUPS, KNOWN_USERS

PACKAGE_USERS = {
    "chrony": ("_chrony",),
    "dnsmasq": ("dnsmasq",),
    "haproxy": ("haproxy",),
    "nginx": ("www-data",),
    "openntpd": ("ntpd",),
    "openssh-server": ("sshd",),
    "postgresql": ("postgres",),
    "prometheus": ("prometheus",),
    "prometheus-node-exporter": ("prometheus",),
    "prometheus-process-exporter": ("prometheus",),
    "redis-server": ("redis",),
    "rsyslog": ("syslog",),
    "tpm-udev": ("tss",),
    "tpm2-abrmd": ("tss",),
    "unbound": ("unbound",),
}
"""Users (each with a group of its name) that packages make when they are installed; others go by the package's name."""


Owned = File | Template | Directory | SecretTarget


@records.frozen
class Accounts:
    """The users and groups that exist in an image."""

    users: frozenset[str]
    groups: frozenset[str]


def accounts(layer: Layer) -> Accounts:
    """Those of the distribution, of the recipe, and of the packages it installs."""
    packaged = frozenset(name for package in layer.packages for name in _package_users(package))
    own = frozenset(user.name for user in layer.users)
    return Accounts(
        users=KNOWN_USERS | own | packaged,
        groups=KNOWN_GROUPS | own | packaged | frozenset(group.name for group in layer.groups),
    )


def check_repeated(layer: Layer) -> Iterator[Diagnostic]:
    """Two different things of one name. Equal users and groups may repeat: modules declare what they share."""
    yield from _repeated("user", ((user.name, user) for user in layer.users), allow_equal=True)
    yield from _repeated("group", ((group.name, group) for group in layer.groups), allow_equal=True)
    units = [(unit_name(service), service) for service in layer.services]
    yield from _repeated("unit", [*units, *((unit.name, unit) for unit in layer.units)])
    yield from _repeated("drop-in", ((f"{d.unit}.d/{d.name}.conf", d) for d in layer.drop_ins))
    yield from _repeated("boot step", ((step.name, step) for step in layer.boot_steps))
    yield from _repeated("build", ((build.name, build) for build in layer.builds))
    yield from _repeated("repository", ((r.name, r) for r in layer.repositories), allow_equal=True)
    yield from _repeated("partition", ((p.mount_point, p) for p in layer.partitions))


def check_references(layer: Layer, merged: Layer) -> Iterator[Diagnostic]:
    """Users, groups and boot steps that something in ``layer`` names but nothing in ``merged`` declares."""
    known = accounts(merged)
    for service in layer.services:
        yield from _service_accounts(service, known)
    owned: tuple[Owned, ...] = (*layer.files, *layer.templates, *layer.directories, *_secret_files(layer))
    for node in owned:
        yield from _known("user", node.owner, f"'{node.path}'", node, known.users)
        yield from _known("group", node.group, f"'{node.path}'", node, known.groups)
    for build in layer.builds:
        for artifact in build.artifacts:
            who = f"artifact '{artifact.dest}' of build '{build.name}'"
            yield from _known("user", artifact.owner, who, build, known.users)
            yield from _known("group", artifact.group, who, build, known.groups)
    for user in layer.users:
        for group in (user.group, *user.groups):
            if group:
                yield from _known("group", group, f"user '{user.name}'", user, known.groups)
    steps = {step.name: step for step in merged.boot_steps}
    for step in layer.boot_steps:
        for name in step.after:
            yield from _known("boot step", name, f"boot step '{step.name}'", step, steps)


def check_suites(base: Base, layer: Layer, merged: Layer) -> Iterator[Diagnostic]:
    """Packages of ``layer`` that are asked of a suite (``package/suite``) which no source of ``merged`` has.

    The base's own release has several names (sources.list(5)), some of which change hands from year to year.
    """
    for package in (*layer.packages, *layer.build_packages):
        suite = package.name.partition("/")[2]
        if not suite or suite in {base.release, f"{base.release}-updates", f"{base.release}-security"}:
            continue
        known = [own.name for own in merged.suites] + [name for own in merged.repositories for name in own.suites]
        if suite not in known and not suite.startswith(("stable", "oldstable", "now")):
            close = nearest(suite, known)
            yield Diagnostic(
                code=Code.E_REFERENCE,
                message=f"'{package.name}' is asked of the suite '{suite}', which no source of the image has",
                span=package.span,
                fix=f"did you mean '{close}'?" if close else f"declare it: suite('{suite}')",
            )


def _secret_files(layer: Layer) -> tuple[SecretTarget, ...]:
    secrets = layer.secret_delivery.secrets if layer.secret_delivery else ()
    return tuple(target for secret in secrets for target in secret.targets)


def unit_name(service: Service) -> str:
    """The unit's name with its suffix, whichever way the recipe spells it."""
    return service.name if service.name.endswith(".service") else f"{service.name}.service"


def _package_users(package: Package) -> tuple[str, ...]:
    name = package.name.partition("/")[0].partition("=")[0].partition(":")[0]
    return (name, *PACKAGE_USERS.get(name, ()))


def _repeated(kind: str, nodes: Iterable[tuple[str, Node]], *, allow_equal: bool = False) -> Iterator[Diagnostic]:
    first: dict[str, Node] = {}
    for name, node in nodes:
        before = first.setdefault(name, node)
        if before is not node and not (allow_equal and before == node):
            yield Diagnostic(
                code=Code.E_CONFLICT,
                message=f"{kind} '{name}' is declared twice",
                span=node.span,
                notes=(Note(message="it is first declared here", span=before.span),),
                fix="rename one of them, or leave one out",
            )


def _service_accounts(service: Service, known: Accounts) -> Iterator[Diagnostic]:
    who = f"service '{service.name}'"
    if service.user:
        yield from _known("user", service.user, who, service, known.users)
    for group in (service.group, *service.supplementary_groups):
        if group:
            yield from _known("group", group, who, service, known.groups)


def _known(
    kind: str, name: str, who: str, node: Node, names: Iterable[str] | Mapping[str, Node]
) -> Iterator[Diagnostic]:
    if name in names or name.isdecimal() or "%" in name:
        return
    close = nearest(name, names)
    declare = {"boot step": f"declare a boot step '{name}'"}.get(kind, f"declare it: {kind}('{name}')")
    yield Diagnostic(
        code=Code.E_REFERENCE,
        message=f"{who} names the unknown {kind} '{name}'",
        span=node.span,
        fix=f"did you mean '{close}'?" if close else declare,
    )
