"""The declaration of services: every common directive typed, the sandbox on unless the recipe says otherwise."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from tdxc.diagnostics import Code, SourceSpan
from tdxc.ir import EnvironmentVariable, Hardening, Service

from tdx import _values as v
from tdx._declarations import Declarations, KeyPlace, make_directives, make_sections
from tdx._declare import declares

ServiceType = Literal["simple", "exec", "forking", "oneshot", "dbus", "notify", "notify-reload", "idle"]
Restart = Literal["no", "always", "on-success", "on-failure", "on-abnormal", "on-abort", "on-watchdog"]
Commands = v.Command | list[v.Command] | tuple[v.Command, ...]

_OTHER_SUFFIXES = frozenset(
    ("socket", "device", "mount", "automount", "swap", "target", "path", "timer", "slice", "scope")
)


class ServiceDeclarations(Declarations):
    """``image.service``."""

    @declares
    def service(
        self,
        name: v.ServiceName,
        exec: Commands,  # noqa: A002 - the name that recipes use
        *,
        description: v.Line = "",
        type: ServiceType | None = None,  # noqa: A002 - the name that recipes use
        user: v.OptionalUserName = "",
        group: v.OptionalUserName = "",
        supplementary_groups: v.UserNames = (),
        after: v.UnitReferences = (),
        before: v.UnitReferences = (),
        requires: v.UnitReferences = (),
        wants: v.UnitReferences = (),
        binds_to: v.UnitReferences = (),
        part_of: v.UnitReferences = (),
        conflicts: v.UnitReferences = (),
        wanted_by: v.UnitReferences = (),
        exec_start_pre: Commands = (),
        exec_start_post: Commands = (),
        exec_stop: Commands = (),
        exec_reload: Commands = (),
        restart: Restart | None = None,
        restart_sec: v.TimeSpan = "",
        timeout_start_sec: v.TimeSpan = "",
        timeout_stop_sec: v.TimeSpan = "",
        remain_after_exit: bool = False,
        working_directory: v.OptionalGuestPath = "",
        environment: v.Environment | None = None,
        environment_files: list[v.EnvironmentFile] | tuple[v.EnvironmentFile, ...] = (),
        credentials: v.Strings = (),
        secrets: v.SecretNames = (),
        state_directory: v.RelativeDirectory = "",
        runtime_directory: v.RelativeDirectory = "",
        cache_directory: v.RelativeDirectory = "",
        logs_directory: v.RelativeDirectory = "",
        writes: list[v.GuestPath] | tuple[v.GuestPath, ...] = (),
        devices: list[v.DevicePath] | tuple[v.DevicePath, ...] = (),
        ports: v.Ports = (),
        capabilities: list[v.Capability] | tuple[v.Capability, ...] = (),
        hardening: Literal["default", "none"] = "default",
        overrides: v.Directives | None = None,
        extra_unit: v.Sections | None = None,
        enabled: bool = True,
        early: bool = False,
    ) -> None:
        """Declare a service; ``exec`` is a systemd command line, or several for a oneshot service.

        Services get a sandbox by default. ``writes``, ``devices``, ``ports`` and ``capabilities`` open it for what
        the service does, ``overrides`` replaces single sandbox directives, ``hardening="none"`` takes it away.
        ``secrets`` of the image's SecretDelivery become credentials: files in ``$CREDENTIALS_DIRECTORY``.
        ``extra_unit`` adds directives by section. An ``early`` service does not wait for the boot steps.
        """
        given = {key: value for key, value in locals().items() if key != "self"}
        node = Service(
            **_fields(given, self._span, self._key_place) | {"name": self._service_name(name)}, span=self._span
        )
        self._add("services", [node])

    def _service_name(self, name: str) -> str:
        stem, _, suffix = name.rpartition(".")
        if stem and suffix in _OTHER_SUFFIXES:
            raise self._fault(Code.E_VALUE, f"'{name}' is no service", f"declare it with unit('{name}', …)")
        return name.removesuffix(".service")


_COMMAND_FIELDS = frozenset(("exec", "exec_start_pre", "exec_start_post", "exec_stop", "exec_reload"))


def _fields(given: Mapping[str, Any], span: SourceSpan, place: KeyPlace) -> dict[str, Any]:
    """The arguments of ``service`` as fields of the node, which has the same names."""
    fields: dict[str, Any] = {}
    for name, value in given.items():
        if name in _COMMAND_FIELDS and isinstance(value, str):
            fields[name] = (value,)
        elif isinstance(value, list):
            fields[name] = tuple(value)
        else:
            fields[name] = "" if value is None else value
    environment = sorted((given["environment"] or {}).items())
    fields["environment"] = tuple(EnvironmentVariable(name=key, value=value, span=span) for key, value in environment)
    fields["secrets"] = tuple(name if isinstance(name, str) else name.name for name in given["secrets"])
    fields["hardening"] = Hardening(given["hardening"])
    fields["overrides"] = make_directives(given["overrides"] or {}, place, "overrides")
    fields["extra_unit"] = make_sections(given["extra_unit"], place, "extra_unit")
    return fields
