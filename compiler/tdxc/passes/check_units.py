"""Checks of units: what systemd would refuse, or pass over with a line in a log that nobody reads.

Sources: systemd.unit(5) (sections, specifiers), systemd.service(5) "Command lines", and how systemd's own
``extract_first_word`` reads quotes; ``systemd-analyze verify`` says the same of each.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tdxc.diagnostics import Code, Diagnostic, SourceSpan, nearest
from tdxc.ir import Directive, Layer, Section

_COMMANDS = frozenset(
    ("ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost")
)
_QUOTED = re.compile(r"""(?:[^\\'"]|\\.|'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")*""", re.DOTALL)
_SPECIFIERS = frozenset("%aAbBcCdDEfgGhHiIjJlLmMnNopPqrRsStTuUvVwWyY")
"""Of all versions since 252: before 256 there is no %D, and since 254 no %c, %r and %R."""

_PROGRAM = re.compile(r"""[ \t]*[@:+!-]*(["']?)([^ \t"']*)""")
_OWN_SECTION = {
    "service": "Service", "socket": "Socket", "timer": "Timer", "mount": "Mount", "automount": "Automount",
    "swap": "Swap", "path": "Path", "slice": "Slice", "scope": "Scope",
}  # fmt: skip
"""The section of a unit's own type; the types that are missing have none."""


def check_units(layer: Layer) -> Iterator[Diagnostic]:
    """All faults of the layer's units and drop-ins."""
    for service in layer.services:
        name = service.name if service.name.endswith(".service") else f"{service.name}.service"
        commands = (
            service.exec_start_pre,
            service.exec,
            service.exec_start_post,
            service.exec_stop,
            service.exec_reload,
        )
        for line in (line for lines in commands for line in lines):
            yield from _command(name, line, service.span)
        yield from _sections(name, service.extra_unit)
        yield from _names(name, "Service", service.overrides)
        starts = (*service.exec, *_values(service.extra_unit, "Service", "ExecStart"))
        types = (service.type, *_values(service.extra_unit, "Service", "Type"))
        yield from _one_start(name, starts, types, service.span)
    for unit in layer.units:
        yield from _sections(unit.name, unit.sections)
        starts = _values(unit.sections, "Service", "ExecStart")
        yield from _one_start(unit.name, starts, _values(unit.sections, "Service", "Type"), unit.span)
        yield from _activates(unit.name, unit.sections, unit.span)
    for drop_in in layer.drop_ins:
        yield from _sections(drop_in.unit, drop_in.sections)


def command_fault(line: str) -> tuple[str, str] | None:
    r"""What is wrong with a command line in systemd's syntax, and the fix; None where systemd would take it.

    >>> command_fault("/bin/date +%F")
    ("'%F' is no specifier of systemd's", "write '%%F' for the text")
    """
    if not _QUOTED.fullmatch(line):
        return "a quote in it is not closed", "close it, or write \\\" or \\' for the character itself"
    if unknown := [word for word in re.findall("%([0-9A-Za-z%])", line) if word not in _SPECIFIERS]:
        return f"'%{unknown[0]}' is no specifier of systemd's", f"write '%%{unknown[0]}' for the text"
    match = _PROGRAM.match(line)
    program = match[2] if match else ""
    if "%" in program or "$" in program:
        return None
    if program.endswith("/") or not program:
        return "it names no program", "begin with the program's path"
    if "/" in program and not program.startswith("/"):
        return (
            f"the program '{program}' is neither an absolute path nor a bare name",
            "write its whole path: '/usr/bin/…'",
        )
    return None


def _command(unit: str, line: str, span: SourceSpan) -> Iterator[Diagnostic]:
    fault = command_fault(line) if line.strip() else None
    if fault:
        shown = line if len(line) <= 80 else f"{line[:77]}..."
        message = f"'{unit}': systemd refuses the command line {shown!r}: {fault[0]}"
        yield Diagnostic(code=Code.E_SYNTAX, message=message, span=span, fix=fault[1])


def _sections(unit: str, sections: Iterable[Section]) -> Iterator[Diagnostic]:
    own = _OWN_SECTION.get(unit.rpartition(".")[2])
    known = ("Unit", "Install", own) if own else ("Unit", "Install")
    for section in sections:
        if section.name not in known and not section.name.startswith("X-"):
            close = nearest(section.name, known)
            yield Diagnostic(
                code=Code.E_KEY,
                message=f"'{unit}' has the section [{section.name}], which systemd ignores there",
                span=section.span,
                fix=f"did you mean '{close}'?" if close else f"its sections are {', '.join(known)}",
            )
        elif section.name in known:
            yield from _names(unit, section.name, section.directives)
        for directive in section.directives:
            if directive.key in _COMMANDS:
                yield from _command(unit, directive.value, directive.span)
            elif (section.name, directive.key) == ("Timer", "OnCalendar"):
                yield from _calendar(unit, directive)


def _calendar(unit: str, directive: Directive) -> Iterator[Diagnostic]:
    from tdxc.passes.calendar_events import calendar_fault

    if fault := calendar_fault(directive.value):
        message = f"'{unit}': systemd refuses the calendar event {directive.value!r}: {fault[0]}"
        yield Diagnostic(code=Code.E_SYNTAX, message=message, span=directive.span, fix=fault[1])


def _names(unit: str, section: str, directives: tuple[Directive, ...]) -> Iterator[Diagnostic]:
    """Directives of names that systemd does not know; the list of those is read where there is any directive."""
    if not directives:
        return
    from tdxc.passes.known_directives import directive_fault

    for directive in directives:
        if fault := directive_fault(section, directive.key):
            code, message, fix = fault
            yield Diagnostic(code=code, message=f"'{unit}': {message}", span=directive.span, fix=fix)


def _one_start(unit: str, starts: Iterable[str], types: Iterable[str], span: SourceSpan) -> Iterator[Diagnostic]:
    """Several ``ExecStart=`` are for ``Type=oneshot``; an empty one takes back those before it."""
    lines: list[str] = []
    for line in starts:
        lines = [*lines, line] if line.strip() else []
    if len(lines) > 1 and next((kind for kind in reversed([*types]) if kind), "") != "oneshot":
        yield Diagnostic(
            code=Code.E_VALUE,
            message=f"'{unit}' starts {len(lines)} commands, which systemd takes of services with Type=oneshot alone",
            span=span,
            fix="write one whole command line (each item of a list is one), or give type='oneshot'",
        )


def _activates(unit: str, sections: tuple[Section, ...], span: SourceSpan) -> Iterator[Diagnostic]:
    """A socket listens somewhere, and a timer elapses some time."""
    kind = unit.rpartition(".")[2]
    prefix = {"socket": "Listen", "timer": "On"}.get(kind)
    directives = _directives(sections, _OWN_SECTION.get(kind, ""))
    if prefix is None or any(d.key.startswith(prefix) and d.value for d in directives):
        return
    message, fix = {
        "socket": ("listens nowhere", "give listen_stream or listen_datagram"),
        "timer": ("never elapses", "give on_boot_sec, on_unit_active_sec or on_calendar"),
    }[kind]
    yield Diagnostic(code=Code.E_VALUE, message=f"'{unit}' {message}, so systemd refuses it", span=span, fix=fix)


def _values(sections: Iterable[Section], name: str, key: str) -> tuple[str, ...]:
    return tuple(directive.value for directive in _directives(sections, name) if directive.key == key)


def _directives(sections: Iterable[Section], name: str) -> Iterator[Directive]:
    return (directive for section in sections if section.name == name for directive in section.directives)
