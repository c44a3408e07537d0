"""lower_service: a declared service as a unit file's sections, every value quoted, before any sandbox is added."""

from __future__ import annotations

from collections.abc import Iterator

from tdxc import quoting, records
from tdxc.diagnostics import SourceSpan
from tdxc.ir import Directive, SandboxNeeds, Section, Service, Unit

_UNIT_LISTS = (
    ("After", "after"),
    ("Before", "before"),
    ("Requires", "requires"),
    ("Wants", "wants"),
    ("BindsTo", "binds_to"),
    ("PartOf", "part_of"),
    ("Conflicts", "conflicts"),
)
"""``[Unit]`` keys that hold unit names, with the service's field (systemd.unit(5))."""

_EXEC_LISTS = (
    ("ExecStartPre", "exec_start_pre"),
    ("ExecStart", "exec"),
    ("ExecStartPost", "exec_start_post"),
    ("ExecReload", "exec_reload"),
    ("ExecStop", "exec_stop"),
)
"""``[Service]`` keys that hold command lines in systemd's own syntax (systemd.service(5), "Command lines")."""

_WORDS = (
    ("Type", "type"),
    ("User", "user"),
    ("Group", "group"),
    ("StateDirectory", "state_directory"),
    ("RuntimeDirectory", "runtime_directory"),
    ("CacheDirectory", "cache_directory"),
    ("LogsDirectory", "logs_directory"),
    ("Restart", "restart"),
    ("RestartSec", "restart_sec"),
    ("TimeoutStartSec", "timeout_start_sec"),
    ("TimeoutStopSec", "timeout_stop_sec"),
)
"""``[Service]`` keys with one plain value."""


def lower_service(service: Service) -> Unit:
    """The unit of a service; raises E_VALUE or E_EMIT (by ``tdxc.quoting``) for a value that a unit cannot hold."""
    sections = (
        Section(span=service.span, name="Unit", directives=tuple(_unit_directives(service))),
        Section(span=service.span, name="Service", directives=tuple(_service_directives(service))),
    )
    return Unit(
        span=service.span,
        cause=service.cause,
        name=unit_name(service.name),
        sections=append_sections(sections, service.extra_unit),
        wanted_by=tuple(unit_name(name) for name in service.wanted_by),
        enabled=service.enabled,
        early=service.early,
        needs=SandboxNeeds(
            span=service.span,
            user=service.user,
            writes=service.writes,
            devices=service.devices,
            ports=service.ports,
            capabilities=service.capabilities,
            secrets=service.secrets,
            hardening=service.hardening,
            overrides=service.overrides,
        ),
    )


def unit_name(name: str) -> str:
    """``app`` means ``app.service``; a name with a unit suffix stays."""
    return name if name.rpartition(".")[2] in _SUFFIXES and "." in name else f"{name}.service"


_SUFFIXES = frozenset(
    ("service", "socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope")
)


def append_sections(sections: tuple[Section, ...], extra: tuple[Section, ...]) -> tuple[Section, ...]:
    """Add the directives of ``extra`` behind those of the same section; sections that are new go to the end."""
    merged = {section.name: section for section in sections}
    for section in extra:
        known = merged.get(section.name)
        joined = section if known is None else records.evolve(known, directives=known.directives + section.directives)
        merged[section.name] = joined
    return tuple(merged.values())


def _unit_directives(service: Service) -> Iterator[Directive]:
    description = quoting.unit_text(service.description or service.name, span=service.span)
    yield _directive(service.span, "Description", description)
    for key, field in _UNIT_LISTS:
        for name in getattr(service, field):
            yield _directive(service.span, key, quoting.unit_reference(unit_name(name), span=service.span))


def _service_directives(service: Service) -> Iterator[Directive]:
    span = service.span
    for key, field in _WORDS:
        if value := getattr(service, field):
            yield _directive(span, key, quoting.unit_text(value, span=span, what=key))
    for group in service.supplementary_groups:
        yield _directive(span, "SupplementaryGroups", quoting.unit_word(group, span=span))
    if service.remain_after_exit:
        yield _directive(span, "RemainAfterExit", "yes")
    if service.working_directory:
        yield _directive(span, "WorkingDirectory", quoting.unit_path(service.working_directory, span=span))
    yield from _environment(service)
    for key, field in _EXEC_LISTS:
        for line in getattr(service, field):
            yield _directive(span, key, quoting.unit_directive(line, span=span, what=key))


def _environment(service: Service) -> Iterator[Directive]:
    span = service.span
    for variable in service.environment:
        value = quoting.environment_assignment(variable.name, variable.value, span=variable.span)
        yield _directive(variable.span, "Environment", value)
    for path in service.environment_files:
        optional, plain = ("-", path[1:]) if path.startswith("-") else ("", path)
        yield _directive(span, "EnvironmentFile", optional + quoting.environment_file(plain, span=span))
    for credential in service.credentials:
        yield _directive(span, "LoadCredential", quoting.unit_text(credential, span=span))


def _directive(span: SourceSpan, key: str, value: str) -> Directive:
    return Directive(span=span, key=key, value=value)
