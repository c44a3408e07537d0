"""Where secrets flow: from their targets into units, and the ways on that end where everybody can read.

Arguments of a program are in /proc for all to see, units and the kernel command line are part of the measured image,
and what a program prints is in the log. So a variable that holds a secret must not be expanded on a command line, and
nothing in a unit may hold the value itself.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tdxc.diagnostics import Code, Diagnostic, Note
from tdxc.ir import Directive, Node, ResolvedImage, Secret, SecretTarget, Unit
from tdxc.passes.init_priority import is_early

_COMMAND_KEYS = frozenset(
    ("ExecStart", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost", "ExecCondition")
)
_READING_KEYS = ("Environment", "EnvironmentFile", "LoadCredential", *sorted(_COMMAND_KEYS))
_CREDENTIAL_ARGUMENT = "systemd.set_credential"


def reaches(target: SecretTarget, unit: Unit) -> bool:
    """Whether a service sees the target: its environment, or a file that the unit names."""
    if target.kind == "env":
        return target.scope in {"global", unit.name}
    values = (value for key in _READING_KEYS for value in unit.values("Service", key))
    return any(_names(target.path, value) for value in values)


def check_flow(image: ResolvedImage) -> Iterator[Diagnostic]:
    """Every way that a secret takes out of its targets, with its stations."""
    delivery = image.secret_delivery
    if delivery is None:
        return
    services = [unit for unit in image.units if unit.name.endswith(".service") and not is_early(unit)]
    for secret in delivery.secrets:
        for target in secret.targets:
            for unit in services:
                yield from _into_unit(secret, target, unit)
            yield from _into_steps(secret, target, image)
        yield from _into_image(secret, image)


def _into_unit(secret: Secret, target: SecretTarget, unit: Unit) -> Iterator[Diagnostic]:
    if not reaches(target, unit):
        return
    for directive in (d for section in unit.sections if section.name == "Service" for d in section.directives):
        if target.kind == "env" and directive.key in _COMMAND_KEYS and _expands(target.variable, directive.value):
            expanded = f"{directive.key}= expands ${{{target.variable}}}"
            yield _leak(secret, target, unit, f"an argument of '{unit.name}': {expanded}", directive)
        elif target.kind == "env" and directive.key == "Environment" and _sets(target.variable, directive.value):
            place = f"the unit '{unit.name}': Environment= gives {target.variable} a value that is in the image"
            yield _leak(secret, target, unit, place, directive)
        elif target.kind == "file" and directive.key in _COMMAND_KEYS and _substitutes(target.path, directive.value):
            place = f"an argument of '{unit.name}': {directive.key}= puts what is in {target.path} on a command line"
            yield _leak(secret, target, unit, place, directive)


def _into_steps(secret: Secret, target: SecretTarget, image: ResolvedImage) -> Iterator[Diagnostic]:
    """Boot steps log to the console, and are done before any secret comes."""
    for step in image.boot_steps:
        if target.kind == "file" and _names(target.path, step.script):
            place = f"the boot step '{step.name}', which reads {target.path}: boot steps run before secrets come"
            yield _leak(secret, target, step, f"{place}, and what they print is on the console", step)


def _into_image(secret: Secret, image: ResolvedImage) -> Iterator[Diagnostic]:
    """Files at a target's path, and values on the kernel command line."""
    paths = {target.path: target for target in secret.targets if target.path}
    placed: tuple[Node, ...] = (*image.files, *image.symlinks)
    for node in placed:
        path = getattr(node, "path", "")
        if path in paths:
            yield _leak(secret, paths[path], node, f"the image: the recipe puts '{path}' into it", node)
    words = image.authored_kernel.cmdline.replace('"', "").split()
    for word in words:
        if word.startswith(_CREDENTIAL_ARGUMENT) and f"tdx.secret.{secret.name}:" in word:
            place = f"the kernel command line: '{_CREDENTIAL_ARGUMENT}…' holds its value"
            yield _leak(secret, None, image.authored_kernel, place, image.authored_kernel)


def _leak(secret: Secret, target: SecretTarget | None, by: Node, place: str, at: Node) -> Diagnostic:
    notes = [Note(message=f"the secret '{secret.name}' is declared here", span=secret.span)]
    if target is not None:
        what = f"variable {target.variable} ({target.scope})" if target.kind == "env" else f"file {target.path}"
        notes.append(Note(message=f"it goes to the {what} here", span=target.span))
    if isinstance(by, Unit):
        notes.append(Note(message=f"'{by.name}' gets it, and is declared here", span=by.span))
    span = at.span if at.span.line or not isinstance(at, Directive) else by.span
    return Diagnostic(
        code=Code.E_SECRET,
        message=f"the secret '{secret.name}' flows into {place}",
        span=span,
        notes=tuple(notes),
        fix="let the program read the variable or the file itself; others can read what is on a command line",
    )


def _expands(variable: str, value: str) -> bool:
    return re.search(rf"\$\{{?{re.escape(variable)}(?![A-Za-z0-9_])", value) is not None


def _sets(variable: str, value: str) -> bool:
    return re.search(rf"(?:^|[\s\"']){re.escape(variable)}=", value) is not None


def _names(path: str, value: str) -> bool:
    return re.search(rf"(?<![\w./-]){re.escape(path)}(?![\w./-])", value) is not None


def _substitutes(path: str, value: str) -> bool:
    """``$(cat PATH)``, ``$(<PATH)`` and the same in backquotes."""
    quoted = re.escape(path)
    return re.search(rf"(?:\$\(|`)\s*(?:(?:/usr)?(?:/bin/)?cat\s+|<\s*)[\"']?{quoted}(?![\w./-])", value) is not None
