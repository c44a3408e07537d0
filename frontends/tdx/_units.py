"""Declarations of systemd units other than services: sockets, timers, targets, mounts, raw units and drop-ins."""

from __future__ import annotations

from tdxc import quoting
from tdxc.ir import DropIn, RawUnit

from tdx import _values as v
from tdx._declarations import Declarations, make_sections
from tdx._declare import declares


class UnitDeclarations(Declarations):
    """``image.socket``, ``image.unit`` and their like."""

    @declares
    def unit(
        self,
        name: v.UnitName,
        sections: v.Sections,
        *,
        wanted_by: v.UnitReferences = (),
        enabled: bool = True,
        early: bool = False,
    ) -> None:
        """Declare a unit of any kind by its sections; a list as a value repeats its directive."""
        self._raw(name, sections, tuple(wanted_by), enabled=enabled, early=early, argument="sections")

    @declares
    def socket(
        self,
        name: v.ServiceName,
        *,
        listen_stream: v.Strings = (),
        listen_datagram: v.Strings = (),
        service: v.OptionalServiceName = "",
        accept: bool = False,
        socket_user: v.OptionalUserName = "",
        socket_group: v.OptionalUserName = "",
        socket_mode: v.Mode | None = None,
        description: v.Line = "",
        extra_unit: v.Sections | None = None,
        wanted_by: v.UnitReferences = ("sockets.target",),
        enabled: bool = True,
    ) -> None:
        """Declare a socket; it activates the service of its own name unless ``service`` names another."""
        directives: dict[str, object] = {
            "ListenStream": list(listen_stream),
            "ListenDatagram": list(listen_datagram),
            "Service": _with_suffix(service, "service"),
            "Accept": accept or None,
            "SocketUser": socket_user,
            "SocketGroup": socket_group,
            "SocketMode": None if socket_mode is None else f"{v.mode_bits(socket_mode):04o}",
        }
        sections = _joined(
            {"Unit": {"Description": quoting.unit_text(description, span=self._span)}, "Socket": directives}, extra_unit
        )
        self._raw(_with_suffix(name, "socket"), sections, tuple(wanted_by), enabled=enabled)

    @declares
    def timer(
        self,
        name: v.ServiceName,
        *,
        on_boot_sec: v.TimeSpan = "",
        on_unit_active_sec: v.TimeSpan = "",
        on_calendar: v.Strings = (),
        persistent: bool = False,
        unit: v.OptionalServiceName = "",
        description: v.Line = "",
        extra_unit: v.Sections | None = None,
        wanted_by: v.UnitReferences = ("timers.target",),
        enabled: bool = True,
    ) -> None:
        """Declare a timer; it starts the service of its own name unless ``unit`` names another unit."""
        directives: dict[str, object] = {
            "OnBootSec": on_boot_sec,
            "OnUnitActiveSec": on_unit_active_sec,
            "OnCalendar": list(on_calendar),
            "Persistent": persistent or None,
            "Unit": unit,
        }
        sections = _joined(
            {"Unit": {"Description": quoting.unit_text(description, span=self._span)}, "Timer": directives}, extra_unit
        )
        self._raw(_with_suffix(name, "timer"), sections, tuple(wanted_by), enabled=enabled)

    @declares
    def target(
        self,
        name: v.ServiceName,
        *,
        requires: v.UnitReferences = (),
        wants: v.UnitReferences = (),
        after: v.UnitReferences = (),
        allow_isolate: bool = False,
        description: v.Line = "",
        extra_unit: v.Sections | None = None,
        wanted_by: v.UnitReferences = (),
        enabled: bool = True,
    ) -> None:
        """Declare a target."""
        directives: dict[str, object] = {
            "Description": quoting.unit_text(description, span=self._span),
            "Requires": list(requires),
            "Wants": list(wants),
            "After": list(after),
            "AllowIsolate": allow_isolate or None,
        }
        sections = _joined({"Unit": directives}, extra_unit)
        self._raw(_with_suffix(name, "target"), sections, tuple(wanted_by), enabled=enabled)

    @declares
    def mount(
        self,
        where: v.GuestFile,
        what: v.Command,
        *,
        type: v.Line = "",  # noqa: A002 - the name that recipes use
        options: v.Strings = (),
        description: v.Line = "",
        extra_unit: v.Sections | None = None,
        wanted_by: v.UnitReferences = ("local-fs.target",),
        enabled: bool = True,
    ) -> None:
        """Declare a mount; systemd demands that the unit's name follows from ``where``, and so it does."""
        place = quoting.unit_path(where, span=self._span)
        directives: dict[str, object] = {"What": what, "Where": place, "Type": type, "Options": ",".join(options)}
        sections = _joined(
            {"Unit": {"Description": quoting.unit_text(description, span=self._span)}, "Mount": directives}, extra_unit
        )
        self._raw(f"{quoting.unit_name_of_path(where)}.mount", sections, tuple(wanted_by), enabled=enabled)

    @declares
    def drop_in(self, unit: v.UnitName, sections: v.Sections, *, name: v.StepName = "50-tdx") -> None:
        """Add directives to a unit that a package brings."""
        made = make_sections(sections, self._key_place, "sections")
        self._add("drop_ins", [DropIn(unit=unit, name=name, sections=made, span=self._span)])

    def _raw(
        self,
        name: str,
        sections: v.Sections,
        wanted_by: tuple[str, ...],
        *,
        enabled: bool = True,
        early: bool = False,
        argument: str = "extra_unit",
    ) -> None:
        node = RawUnit(
            name=name,
            sections=make_sections(sections, self._key_place, argument),
            wanted_by=wanted_by,
            enabled=enabled,
            early=early,
            span=self._span,
        )
        self._add("units", [node])


def _with_suffix(name: str, suffix: str) -> str:
    return name if not name or name.endswith(f".{suffix}") else f"{name}.{suffix}"


def _joined(typed: dict[str, dict[str, object]], extra: v.Sections | None) -> v.Sections:
    """Typed directives that are set, with ``extra`` over them."""
    joined: dict[str, dict[str, v.DirectiveValue]] = {}
    for section, directives in typed.items():
        joined[section] = {key: _value(value) for key, value in directives.items() if value not in ("", None, [])}
    for section, more in (extra or {}).items():
        joined.setdefault(section, {}).update(more)
    return {section: directives for section, directives in joined.items() if directives}


def _value(value: object) -> v.DirectiveValue:
    if isinstance(value, str | bool | int | list):
        return value
    raise TypeError(f"no directive value: {value!r}")
