"""Where secrets flow: from their targets into units, and the ways on that end where everybody can read.

Arguments of a program are in /proc for all to see, units and the kernel command line are part of the measured image,
and what a program prints is in the log. So a secret must not come to stand on a command line (see
:mod:`tdxc.passes.secret_commands` for the shapes that a command line may have), and nothing in the image may hold the
value itself. What the programs do with it that get it is not looked at.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, Note
from tdxc.ir import Directive, File, Node, ResolvedImage, Secret, SecretTarget, Symlink, Unit
from tdxc.passes.init_priority import is_early
from tdxc.passes.placed_units import PlacedUnit, placed_units
from tdxc.passes.secret_commands import SecretNames, exposure, names_path, shows_variables

_COMMAND_KEYS = frozenset(
    ("ExecStart", "ExecStartPre", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost", "ExecCondition")
)
_CREDENTIAL_ARGUMENT = r"systemd\.set_credential(?:_binary)?=tdx\.secret\.([^:]+):."
_STORES = r"/(?:etc|run|usr/lib|usr/local/lib|lib)/credstore(?:\.encrypted)?/(?:tdx\.secret\.)?([^/]+)"
_VARIABLE_WITH_PATH = re.compile(r"(\w+)=([^\s\"']*/run/[^\s\"']*)")
_STATE_FOLDER = "/run/tdx-guest/"


def check_flow(image: ResolvedImage) -> Iterator[Diagnostic]:
    """Every way that a secret takes out of its targets, with its stations."""
    delivery = image.secret_delivery
    if delivery is None:
        return
    placed = [PlacedUnit(unit=unit, node=unit) for unit in image.units]
    for drop_in in image.drop_ins:
        changed = Unit(span=drop_in.span, name=drop_in.unit, sections=drop_in.sections)
        placed.append(PlacedUnit(unit=changed, node=drop_in))
    placed += placed_units(image.files)
    for each in placed:
        parts = [other.unit for other in placed if other.unit.name == each.unit.name]
        yield from _into_unit(each, _view(delivery.secrets, parts), image.files)
    for secret in delivery.secrets:
        for target in secret.targets:
            yield from _into_steps(secret, target, image)
        yield from _into_image(secret, image)


# Units


@records.frozen(kw_only=True)
class _View:
    """What a unit, made of all its parts, sees of the secrets, and by which names.

    ``paths`` are its variables that hold a path; ``variables`` the secrets in its environment; ``standard_input`` the
    file that its main program reads, as a redirection.
    """

    unit: str
    paths: dict[str, str]
    names: tuple[tuple[Secret, SecretTarget | None, SecretNames], ...] = ()
    variables: tuple[tuple[Secret, SecretTarget], ...] = ()
    standard_input: str = ""

    @property
    def credentials(self) -> str:
        """The folder of the unit's credentials (systemd.exec(5), ``LoadCredential=``)."""
        return f"/run/credentials/{self.unit}"

    def resolved(self, value: str) -> str:
        """A directive's value with its specifiers, and with the variables that hold a path."""
        stem = self.unit.rpartition(".")[0]
        specifiers = {"%": "%", "d": self.credentials, "t": "/run", "n": self.unit, "N": stem, "p": stem}
        text = value
        if "%" in text:
            text = re.sub(r"%(.)", lambda found: specifiers.get(found[1], found[0]), text)
        text = text.replace("$$", "$")
        for name, path in (("CREDENTIALS_DIRECTORY", self.credentials), *self.paths.items()) if "$" in text else ():
            text = re.sub(rf"\$\{{{name}\}}|\${name}(?!\w)", path.replace("\\", r"\\"), text)
        return re.sub(r"/(?:\.?/)+", "/", text).replace("/var/run/", "/run/")


def _view(secrets: tuple[Secret, ...], parts: list[Unit]) -> _View:
    bare = _View(unit=parts[0].name, paths={})

    def values(key: str) -> list[str]:
        return [bare.resolved(value) for unit in parts for value in unit.values("Service", key)]

    paths = dict(pair for value in values("Environment") for pair in _VARIABLE_WITH_PATH.findall(value))
    inputs = (value.removeprefix("file:") for value in values("StandardInput") if value.startswith("file:"))
    held = {name for unit in parts if unit.needs for name in unit.needs.secrets}
    loaded = values("LoadCredential")
    names: list[tuple[Secret, SecretTarget | None, SecretNames]] = []
    for secret in secrets:
        names += ((secret, target, _names(target, bare, loaded)) for target in secret.targets)
        own = (f"{bare.credentials}/{secret.name}", bare.credentials) if secret.name in held else ()
        credentials = (secret.name,) if secret.name in held else ()
        names.append((secret, None, SecretNames(paths=(*own, _STATE_FOLDER), credentials=credentials)))
    has_environment = not any(is_early(unit) for unit in parts)
    variables = tuple((secret, target) for secret, target, given in names if target and given.variable)
    return records.evolve(
        bare,
        paths=paths,
        names=tuple(names),
        variables=variables if has_environment else (),
        standard_input="".join(f" < {path}" for path in inputs),
    )


def _names(target: SecretTarget, view: _View, loaded: list[str]) -> SecretNames:
    if target.kind == "env":
        return SecretNames(variable=target.variable if target.scope in {"global", view.unit} else "")
    given = (value.partition(":") for value in loaded)
    own = tuple(name for name, _, path in given if path == target.path)
    files = (f"{view.credentials}/{name}" for name in own)
    return SecretNames(paths=(target.path, *files, *_folders(target.path)), credentials=own)


def _folders(path: str) -> Iterator[str]:
    """The folders above a file, without /run itself, which holds much else."""
    folder = path.rpartition("/")[0]
    while folder.count("/") > 1:
        yield folder
        folder = folder.rpartition("/")[0]


def _into_unit(placed: PlacedUnit, view: _View, files: tuple[File, ...]) -> Iterator[Diagnostic]:
    for directive in (directive for section in placed.unit.sections for directive in section.directives):
        if directive.key in _COMMAND_KEYS:
            found = _on_command_line(directive, placed, view)
        else:
            found = _in_directive(directive, placed, view)
        if directive.key in {"EnvironmentFile", "LoadCredential"}:
            yield from _in_file(directive, placed, view, files)
        if found is not None:
            secret, target, place = found
            fix = _FIX_COMMAND if directive.key in _COMMAND_KEYS else _FIX_VALUE
            yield _leak(secret, target, placed.node, place, at=directive, fix=fix)


_Found = tuple[Secret, SecretTarget | None, str]


def _on_command_line(directive: Directive, placed: PlacedUnit, view: _View) -> _Found | None:
    text = view.resolved(directive.value) + (view.standard_input if directive.key == "ExecStart" else "")
    for secret, target, names in view.names:
        what = exposure(text, names) if names.is_hinted_in(text) else ""
        if what:
            place = "an argument" if what.startswith("expands") else "an argument or the log"
            return secret, target, f"{place} of {placed.label}: {directive.key}= {what}"
    if view.variables and shows_variables(text):
        secret, target = view.variables[0]
        return secret, target, f"the log of {placed.label}: {directive.key}= prints all variables"
    return None


def _in_file(directive: Directive, placed: PlacedUnit, view: _View, files: tuple[File, ...]) -> Iterator[Diagnostic]:
    """Values of variables and credentials in files of the image that a unit reads them from."""
    value = view.resolved(directive.value).strip("\"'")
    credential, _, loaded = value.partition(":")
    path = loaded if directive.key == "LoadCredential" else value.removeprefix("-")
    for file in (file for file in files if file.path == path):
        text = file.content.data.decode(errors="replace")
        for secret, target, names in view.names:
            if directive.key == "LoadCredential":
                is_given = target is None and credential == secret.name
            else:
                is_given = bool(names.variable) and _assigns(names.variable, text)
            if is_given:
                what = f"gives {names.variable or 'the credential'} a value, and {placed.label} reads it"
                yield _leak(secret, target, placed.node, f"the image: '{path}' {what}", at=file, fix=_FIX_VALUE)


def _in_directive(directive: Directive, placed: PlacedUnit, view: _View) -> _Found | None:
    """Values that a unit itself gives, to variables and as credentials."""
    if directive.key == "Environment":
        for secret, given, names in view.names:
            if names.variable and _sets(names.variable, directive.value):
                what = f"Environment= gives {names.variable} a value that is in the image"
                return secret, given, f"the unit {placed.label}: {what}"
    elif directive.key == "SetCredential":
        name, _, value = directive.value.strip("\"'").partition(":")
        own = next((secret for secret, _, _ in view.names if name in {secret.name, f"tdx.secret.{secret.name}"}), None)
        if own is not None and value:
            return own, None, f"the unit {placed.label}: SetCredential= gives it a value that is in the image"
    return None


# Steps and the image


def _into_steps(secret: Secret, target: SecretTarget, image: ResolvedImage) -> Iterator[Diagnostic]:
    """Boot steps log to the console, and are done before any secret comes."""
    for step in image.boot_steps:
        if target.kind == "file" and names_path(target.path, step.script):
            place = f"the boot step '{step.name}', which reads {target.path}: boot steps run before secrets come"
            place = f"{place}, and what they print is on the console"
            yield _leak(secret, target, step, place, at=step, fix=_FIX_STEP)


def _into_image(secret: Secret, image: ResolvedImage) -> Iterator[Diagnostic]:
    """Files at a target's path or where the delivery looks, and values on the kernel command line."""
    paths = {target.path: target for target in secret.targets if target.path}
    source = image.secret_delivery.source if image.secret_delivery else ""
    placed: tuple[File | Symlink, ...] = (*image.files, *image.symlinks)
    for node in placed:
        store = re.fullmatch(_STORES, node.path) if "/credstore" in node.path else None
        place = ""
        if node.path in paths:
            place = f"the recipe puts '{node.path}' into it"
        elif store is not None and store[1] == secret.name:
            place = f"'{node.path}' is where systemd looks for credentials"
        elif node.path == source:
            place = f"'{source}' is the source of the delivery"
        if place:
            yield _leak(secret, paths.get(node.path), node, f"the image: {place}", at=node, fix=_FIX_VALUE)
    kernel = image.authored_kernel
    for word in kernel.cmdline.replace('"', "").split():
        argument = re.match(_CREDENTIAL_ARGUMENT, word) if word.startswith("systemd.") else None
        if argument is not None and argument[1] == secret.name:
            place = "the kernel command line: 'systemd.set_credential…' holds its value"
            yield _leak(secret, None, kernel, place, at=kernel, fix=_FIX_VALUE)
        for target in secret.targets:
            if target.variable and word.startswith(f"systemd.setenv={target.variable}="):
                place = f"the kernel command line: 'systemd.setenv' gives {target.variable} a value"
                yield _leak(secret, target, kernel, place, at=kernel, fix=_FIX_VALUE)


def _leak(secret: Secret, target: SecretTarget | None, by: Node, place: str, *, at: Node, fix: str) -> Diagnostic:
    notes = [Note(message=f"the secret '{secret.name}' is declared here", span=secret.span)]
    if target is not None:
        what = f"variable {target.variable} ({target.scope})" if target.kind == "env" else f"file {target.path}"
        notes.append(Note(message=f"it goes to the {what} here", span=target.span))
    if isinstance(by, Unit):
        notes.append(Note(message=f"'{by.name}' gets it, and is declared here", span=by.span))
    span = at.span if at.span.line or not isinstance(at, Directive) else by.span
    message = f"the secret '{secret.name}' flows into {place}"
    return Diagnostic(code=Code.E_SECRET, message=message, span=span, notes=tuple(notes), fix=fix)


_FIX_COMMAND = (
    "let the program itself read the variable or the file, whose path may be an argument of its own or its standard "
    "input; a script that the image brings and the line starts may do more, and is not looked into"
)
_FIX_STEP = "read it in a service that is named in service(secrets=[…]) or has a target of its own"
_FIX_VALUE = "leave the value out of the image: the delivery brings it once the machine runs"


def _sets(variable: str, value: str) -> bool:
    return re.search(rf"(?:^|[\s\"']){re.escape(variable)}=", value) is not None


def _assigns(variable: str, text: str) -> bool:
    return re.search(rf"^\s*(?:export\s+)?{re.escape(variable)}=", text, re.MULTILINE) is not None
