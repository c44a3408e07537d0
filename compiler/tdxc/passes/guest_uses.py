"""Which services use a secret, and their place behind its delivery.

::

    Service("app", secrets=["token"])                  LoadCredential=token:/run/tdx-guest/credentials/token
    SecretTarget.env("TOKEN")                     ->   EnvironmentFile= of every service of the image
    a directive that names /run/secrets/token          After= and Requires=tdx-secrets.service

A service uses a secret that it asks for by name, that is a variable of it, or whose file or folder any directive of it
names, be it in a unit of the recipe, in a drop-in, or in a unit file that the recipe places. What the recipe has as a
unit gets the directives itself, everything else a drop-in. A unit never holds a secret.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from tdxc import quoting, records
from tdxc.diagnostics import Code, Diagnostic, Note, SourceSpan
from tdxc.ir import Directive, DropIn, Node, ResolvedImage, Secret, SecretDelivery, SecretTarget, Section, Unit
from tdxc.passes.init_priority import early_reason
from tdxc.passes.placed_units import placed_units
from tdxc.passes.unit_sections import with_directives, words

SECRETS_UNIT = "tdx-secrets.service"
CREDENTIALS_FOLDER = "/run/tdx-guest/credentials"
ENVIRONMENT_FOLDER = "/run/tdx-guest/secrets/env"
OWN_UNITS = frozenset({SECRETS_UNIT, "tdxs.service", "tdxs.socket"})
_DROP_IN = "90-tdx-secrets"

_WITHOUT_USE = frozenset(("Description", "Documentation", "InaccessiblePaths", "TemporaryFileSystem"))
"""Directives that may name a path and do not open it (systemd.unit(5), systemd.exec(5))."""

_EARLY_KINDS = (".mount", ".automount", ".swap", ".socket")
"""Units that systemd itself puts in front of basic.target (their manual pages, "Default Dependencies")."""


@records.frozen(kw_only=True)
class Parts:
    """All that the image says of one unit: ``units`` are its own, its drop-ins and its files, each a unit of that name.

    ``own`` is the one that the recipe has as a unit; ``is_whole`` says whether the image brings the unit at all.
    """

    name: str
    own: Unit | None
    units: tuple[Unit, ...]
    is_whole: bool

    @property
    def node(self) -> Node:
        """What stands for the unit in a diagnostic."""
        return self.own or self.units[0]

    def asks_for(self, secret: Secret) -> bool:
        """Whether a service of the recipe lists the secret."""
        return any(unit.needs and secret.name in unit.needs.secrets for unit in self.units)

    def has(self, key: str, name: str) -> bool:
        """Whether a directive of ``[Unit]`` lists a name."""
        return any(name in words(unit, "Unit", key) for unit in self.units)


def parts_of(image: ResolvedImage) -> tuple[Parts, ...]:
    """Every unit that the image brings or changes, sorted by name."""
    found: dict[str, list[Unit]] = {}
    own = {unit.name: unit for unit in image.units}
    for unit in image.units:
        found.setdefault(unit.name, []).append(unit)
    whole = set(own)
    for drop_in in image.drop_ins:
        changed = Unit(span=drop_in.span, name=drop_in.unit, sections=drop_in.sections)
        found.setdefault(drop_in.unit, []).append(changed)
    for placed in placed_units(image.files):
        found.setdefault(placed.unit.name, []).append(placed.unit)
        if not placed.path.endswith(".conf"):
            whole.add(placed.unit.name)
    return tuple(
        Parts(name=name, own=own.get(name), units=tuple(units), is_whole=name in whole)
        for name, units in sorted(found.items())
    )


def with_uses(image: ResolvedImage, delivery: SecretDelivery) -> ResolvedImage:
    """The image with every service that uses a secret behind the delivery, and with what it gets."""
    units = {unit.name: unit for unit in image.units}
    drop_ins = list(image.drop_ins)
    for parts in parts_of(image):
        used = [secret for secret in delivery.secrets if _is_used(secret, parts)]
        is_service = parts.name.endswith(".service") and parts.name not in OWN_UNITS
        if not used or not is_service or _why_early(parts):
            continue
        rows = _rows(parts, used)
        if parts.own is not None:
            for section, directives in rows:
                units[parts.name] = with_directives(units[parts.name], section, directives)
            continue
        cause = rows[0][1][0].cause
        sections = tuple(
            Section(span=parts.node.span, cause=cause, name=name, directives=directives)
            for name, directives in rows
            if directives
        )
        drop_ins.append(DropIn(span=parts.node.span, cause=cause, unit=parts.name, name=_DROP_IN, sections=sections))
    return records.evolve(image, units=tuple(units[unit.name] for unit in image.units), drop_ins=tuple(drop_ins))


def check_uses(image: ResolvedImage) -> Iterator[Diagnostic]:
    """Units of early boot that use a secret: they start, and have to, before any has come."""
    delivery = image.secret_delivery
    for parts in parts_of(image) if delivery else ():
        reason = _why_early(parts)
        for secret in delivery.secrets if delivery and reason else ():
            if not uses(secret, parts):
                continue
            yield Diagnostic(
                code=Code.E_CONFLICT,
                message=f"'{parts.name}' uses the secret '{secret.name}', and starts before any comes: {reason}",
                span=parts.node.span,
                notes=(Note(message=f"the secret '{secret.name}' is declared here", span=secret.span),),
                fix="leave that out, or let another service use the secret, which starts later",
            )


def uses(secret: Secret, parts: Parts) -> bool:
    """Whether the secret is for this unit in particular: it asks for it, has its variable, or names its place."""
    return parts.asks_for(secret) or any(_is_for(target, parts) for target in secret.targets)


def _is_used(secret: Secret, parts: Parts) -> bool:
    """Also by a variable of all services of the image."""
    everywhere = parts.is_whole and any(target.scope == "global" for target in secret.targets)
    return everywhere or uses(secret, parts)


def _is_for(target: SecretTarget, parts: Parts) -> bool:
    if target.scope == parts.name:
        return True
    path = target.path or f"{ENVIRONMENT_FOLDER}/{target.scope}.env"
    values = [
        directive.value
        for unit in parts.units
        for section in unit.sections
        for directive in section.directives
        if ("/run" in directive.value or "%t/" in directive.value) and directive.key not in _WITHOUT_USE
    ]
    return any(_places(path).search(value.replace("%%", "%").replace("%t/", "/run/")) for value in values)


@functools.cache
def _places(path: str) -> re.Pattern[str]:
    """A file or one of its folders but /run: as a word of its own, behind an option's letter, a scheme or '-'.

    A folder also counts with a pattern or a specifier behind it, and not with another name.
    """
    names = []
    while path.count("/") > 1:
        names.append(re.escape(path))
        path = path.rpartition("/")[0]
    return re.compile(rf"(?:(?<![\w.])|(?<=[\s\"']-\w))(?:{'|'.join(names)})(?:/[\w.-]*[*?\[{{%]|/?(?![\w./-]))")


def _why_early(parts: Parts) -> str:
    """Why a unit starts before secrets come; empty when it does not, or says itself that it comes after them."""
    if parts.has("After", SECRETS_UNIT):
        return ""
    if parts.name.endswith(_EARLY_KINDS):
        return f"a {parts.name.rpartition('.')[2]} is part of early boot"
    return next((reason for unit in parts.units if (reason := early_reason(unit))), "")


def _rows(parts: Parts, used: list[Secret]) -> tuple[tuple[str, tuple[Directive, ...]], ...]:
    """The directives that a unit gets, by section."""
    names = ", ".join(f"'{secret.name}'" for secret in used)
    cause = f"lower-guest: it uses the secret{'s' if len(used) > 1 else ''} {names}"
    strong = any(secret.required for secret in used)
    order = [(key, SECRETS_UNIT) for key in ("Requires" if strong else "Wants", "After")]
    span = parts.node.span
    return (
        ("Unit", _directives(span, cause, [row for row in order if not parts.has(*row)])),
        ("Service", _directives(span, cause, list(_consuming(parts, used)))),
    )


def _consuming(parts: Parts, used: list[Secret]) -> Iterator[tuple[str, str]]:
    """How PID 1 hands the secrets over. A missing optional one is an empty credential."""
    for secret in used:
        if parts.asks_for(secret):
            yield "LoadCredential", f"{secret.name}:{CREDENTIALS_FOLDER}/{secret.name}"
            if not secret.required:
                yield "SetCredential", f"{secret.name}:"
    scopes = {target.scope for secret in used for target in secret.targets if target.kind == "env"}
    for scope in sorted(scopes & ({"global", parts.name} if parts.is_whole else {parts.name})):
        yield "EnvironmentFile", quoting.environment_file(f"{ENVIRONMENT_FOLDER}/{scope}.env", span=parts.node.span)


def _directives(span: SourceSpan, cause: str, pairs: list[tuple[str, str]]) -> tuple[Directive, ...]:
    return tuple(Directive(span=span, cause=cause, key=key, value=value) for key, value in pairs)
