"""A service's unit as a shell script for BusyBox. What the script cannot do is refused at its line of the recipe.

Of the sandbox a script has what setpriv(1) gives: user, groups, no new privileges and capabilities. The rest of it are
namespaces and filters that only systemd sets up; harden-services leaves them out for this init system.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from tdxc import quoting, records
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import Directive, Unit

from tdxc_emitters.busybox.exec_line import Command, parse_exec_line, split_words

SUPPORTED_TYPES = ("simple", "exec", "idle", "oneshot")
_RESTARTS = ("no", "always", "on-success", "on-failure", "on-abnormal", "on-abort")
_FOLDERS = {
    "StateDirectory": "/var/lib",
    "CacheDirectory": "/var/cache",
    "LogsDirectory": "/var/log",
    "RuntimeDirectory": "/run",
}
_CONSOLE = ("journal", "journal+console", "console", "kmsg", "kmsg+console", "tty", "inherit", "")

_UNIT_KEYS = frozenset({"Description", "Documentation", "After", "Before", "Requires", "Wants", "DefaultDependencies"})
_SERVICE_KEYS = frozenset(
    {
        *_FOLDERS, "Type", "ExecStart", "ExecStartPre", "ExecStartPost", "User", "Group", "SupplementaryGroups",
        "WorkingDirectory", "Environment", "EnvironmentFile", "Restart", "RestartSec", "RemainAfterExit", "UMask",
        "NoNewPrivileges", "CapabilityBoundingSet", "AmbientCapabilities", "LimitNOFILE", "StandardOutput",
        "StandardError", "RuntimeDirectoryPreserve",
    }
)  # fmt: skip

_UNITS_OF_TIME = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "sec": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "": 1.0}


@records.frozen
class _Reader:
    """The directives of one section of a unit, by key."""

    unit: Unit
    section: str

    def all(self, key: str) -> tuple[Directive, ...]:
        """Directives of that key; an empty one takes back those before it."""
        found: list[Directive] = []
        for section in self.unit.sections:
            for directive in section.directives if section.name == self.section else ():
                if directive.key == key:
                    found = [*found, directive] if directive.value else []
        return tuple(found)

    def last(self, key: str, default: str = "") -> str:
        """The value of the last directive of that key."""
        found = self.all(key)
        return found[-1].value if found else default

    def words(self, key: str) -> list[str]:
        """All words of all values, quotes undone."""
        return [word for d in self.all(key) for word, _ in split_words(d.value.replace("%%", "%"), d.span)]


def render_service(unit: Unit, own: frozenset[str]) -> str:
    """The script of a service; ``own`` are the names of the image's services. Raises E_EMIT for what it cannot do."""
    _check(unit)
    service = _Reader(unit, "Service")
    kind = service.last("Type", "simple")
    restart, delay = service.last("Restart", "no"), _seconds(service)
    if kind not in SUPPORTED_TYPES or restart not in _RESTARTS:
        directive = (service.all("Type") if kind not in SUPPORTED_TYPES else service.all("Restart"))[-1]
        raise _refusal(f"{directive.key}={directive.value}", unit, directive)
    start = [parse_exec_line(d.value, d.span) for d in service.all("ExecStart")]
    if not start or (len(start) > 1 and kind != "oneshot"):
        raise DiagnosticError.of(Code.E_EMIT, f"'{unit.name}' has not one command to start", unit.span)
    requires = sorted(set(_Reader(unit, "Unit").words("Requires")) & own)
    settings = {
        "name": unit.name,
        "type": "oneshot" if kind == "oneshot" else "simple",
        "restart": restart,
        "delay": delay,
        "requires": " ".join(requires),
    }
    lines = ["#!/bin/sh", f"# {quoting.shell_comment(unit.name)}"]
    lines += ["# shellcheck disable=SC1091,SC2034,SC2086 # rc-service reads these; $NAME is split as systemd does"]
    lines += ["set -euf"]
    lines += [f"{key}={quoting.shell_word(value)}" for key, value in settings.items()]
    lines += ["", *_environment(service), f"umask {_octal(service)}"]
    identity = _identity(service)
    place = tuple(_place(service))
    lines += _function("prepare", (*_prepared(service), *place, *_commands(service, "ExecStartPre", identity)))
    last = "exec " if len(start) == 1 and not start[0].ignores_failure else ""
    lines += _function("start", (*place, *(f"{last}{identity}{_one(command)}" for command in start)))
    lines += _function("finish", (*place, *_commands(service, "ExecStartPost", identity)))
    return "\n".join([*lines, "", ". /usr/lib/tdx/rc-service", ""])


def _check(unit: Unit) -> None:
    """Refuse directives and sections that a script has no counterpart of."""
    allowed: Mapping[str, frozenset[str]] = {"Unit": _UNIT_KEYS, "Service": _SERVICE_KEYS}
    for section in unit.sections:
        if section.name == "Install":
            continue
        for directive in section.directives:
            if directive.key not in allowed.get(section.name, frozenset()):
                raise _refusal(f"{directive.key}= in [{section.name}]", unit, directive)
            if directive.key in {"StandardOutput", "StandardError"} and directive.value not in _CONSOLE:
                raise _refusal(f"{directive.key}={directive.value}", unit, directive)


def _refusal(what: str, unit: Unit, directive: Directive) -> DiagnosticError:
    message = f"'{unit.name}' uses {what}, which BusyBox's init cannot express"
    return DiagnosticError.of(Code.E_EMIT, message, directive.span, fix="leave it out, or use init = systemd")


def _seconds(service: _Reader) -> str:
    """``RestartSec=`` in seconds with a fraction, as sleep(1) of BusyBox and GNU take it."""
    text = service.last("RestartSec", "100ms")
    parts = re.findall(r"([0-9]+(?:\.[0-9]+)?) *([a-z]*)", text)
    if not parts or any(name not in _UNITS_OF_TIME for _, name in parts) or re.sub(r"[0-9. a-z]", "", text):
        raise _refusal(f"RestartSec={text}", service.unit, service.all("RestartSec")[-1])
    return f"{sum(float(number) * _UNITS_OF_TIME[name] for number, name in parts):g}"


def _octal(service: _Reader) -> str:
    mask = service.last("UMask", "0022")
    if not re.fullmatch(r"[0-7]{1,4}", mask):
        raise _refusal(f"UMask={mask}", service.unit, service.all("UMask")[-1])
    return mask


def _environment(service: _Reader) -> Iterator[str]:
    """Exports of ``Environment=``; what ``EnvironmentFile=`` names is read when the service starts, and wins."""
    for directive in service.all("Environment"):
        for word, _ in split_words(directive.value, directive.span):
            name, equals, value = word.replace("%%", "%").partition("=")
            if not equals or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
                raise _refusal(f"Environment={directive.value}", service.unit, directive)
            yield f"export {name}={quoting.shell_word(value, span=directive.span)}"
    for directive in service.all("EnvironmentFile"):
        optional = directive.value.startswith("-")
        path = quoting.shell_word(directive.value.removeprefix("-").replace("%%", "%"), span=directive.span)
        guard = f"if [ -f {path} ]; then\n" if optional else ""
        yield f"{guard}while IFS= read -r line; do"
        yield "    case $line in"
        yield "        '' | '#'* | ';'*) ;;"
        yield "        *=*)"
        yield "            value=${line#*=}"
        yield "            case $value in \\\"*\\\" | \\'*\\') value=${value#?} value=${value%?} ;; esac"
        yield '            export "${line%%=*}=$value"'
        yield "            ;;"
        yield "    esac"
        yield f"done <{path}" + ("\nfi" if optional else "")


def _prepared(service: _Reader) -> Iterator[str]:
    """Folders that the service owns."""
    user = service.last("User", "root")
    owner = f"{user}:{service.last('Group')}" if service.last("Group") else user
    for key, base in _FOLDERS.items():
        for word in service.words(key):
            path = quoting.shell_word(f"{base}/{word}")
            yield f"mkdir -p -m 0755 {path}"
            yield f"chown -h {quoting.shell_word(owner)} {path}"


def _place(service: _Reader) -> Iterator[str]:
    """The folder and the limit of open files that each command starts with."""
    folder = service.last("WorkingDirectory").replace("%%", "%")
    if folder:
        optional = " || true" if folder.startswith("-") else ""
        yield f"cd {quoting.shell_word(folder.removeprefix('-'))}{optional}"
    limit = service.last("LimitNOFILE").replace("infinity", "unlimited")
    if limit and not re.fullmatch(r"[0-9]+|unlimited", limit):
        raise _refusal(f"LimitNOFILE={limit}", service.unit, service.all("LimitNOFILE")[-1])
    if limit:
        yield f"ulimit -n {limit}"


def _identity(service: _Reader) -> str:
    """The setpriv(1) call in front of each command."""
    words: list[str] = []
    user, group = service.last("User"), service.last("Group")
    if user:
        words += ["--reuid", user, "--regid", group or f"$(id -g {quoting.shell_word(user)})"]
    elif group:
        words += ["--regid", group]
    extra = service.words("SupplementaryGroups")
    if user or group:
        words += ["--groups", ",".join(extra)] if extra else (["--init-groups"] if user else ["--clear-groups"])
    if service.last("NoNewPrivileges") in {"yes", "true", "on", "1"}:
        words.append("--no-new-privs")
    words += _capabilities(service)
    quoted = [f'"{word}"' if word.startswith("$(") else quoting.shell_word(word) for word in words]
    return f"setpriv {' '.join(quoted)} -- " if quoted else ""


def _capabilities(service: _Reader) -> list[str]:
    """Bounding and ambient sets; an empty bounding set takes everything away."""
    written = any(d.key == "CapabilityBoundingSet" for s in service.unit.sections for d in s.directives)
    if not written:
        return []
    names = [name.lower().removeprefix("cap_") for name in service.words("CapabilityBoundingSet")]
    if any(name.startswith("~") for name in names):
        raise _refusal("a capability set that begins with ~", service.unit, service.all("CapabilityBoundingSet")[0])
    ambient = [name.lower().removeprefix("cap_") for name in service.words("AmbientCapabilities")]
    bounding = ",".join(["-all", *(f"+{name}" for name in names)])
    kept = ",".join(["-all", *(f"+{name}" for name in ambient)])
    return ["--bounding-set", bounding, "--inh-caps", kept, *(["--ambient-caps", kept] if ambient else [])]


def _commands(service: _Reader, key: str, identity: str) -> Iterator[str]:
    for directive in service.all(key):
        yield identity + _one(parse_exec_line(directive.value, directive.span))


def _one(command: Command) -> str:
    return f"{command.shell} || true" if command.ignores_failure else command.shell


def _function(name: str, lines: Iterator[str] | tuple[str, ...]) -> list[str]:
    body = [f"    {line}" for line in lines]
    return ["", f"{name}() {{", *(body or ["    :"]), "}"]
