"""systemd units: what a recipe declares (``Service``, ``RawUnit``) and what the passes make of it (``Unit``)."""

from __future__ import annotations

import enum

from tdxc import records
from tdxc.ir.node import Node


class UnitKind(enum.StrEnum):
    """Unit types that an image may bring; the value is the file name's suffix (systemd.unit(5))."""

    SERVICE = "service"
    SOCKET = "socket"
    TIMER = "timer"
    TARGET = "target"
    MOUNT = "mount"


class Hardening(enum.StrEnum):
    """Whether a service gets the default sandbox."""

    DEFAULT = "default"
    NONE = "none"


@records.frozen(kw_only=True)
class Directive(Node):
    """One ``Key=value`` line; ``value`` is the text as it stands in the file, quoting done, without newline."""

    key: str
    value: str


@records.frozen(kw_only=True)
class Section(Node):
    """An ordered multi-map of directives under ``[name]``: keys may repeat, and their order has meaning."""

    name: str
    directives: tuple[Directive, ...] = ()


@records.frozen(kw_only=True)
class EnvironmentVariable(Node):
    """``name=value`` in a service's environment. Never a secret: units are world-readable and measured."""

    name: str
    value: str


@records.frozen(kw_only=True)
class Service(Node):
    """A service as a recipe declares it; the lower-image pass turns it into a :class:`Unit`.

    ``exec`` lines are systemd command lines (systemd.service(5), "Command lines"). ``writes`` are absolute paths the
    service writes below, ``devices`` device nodes it opens, ``ports`` TCP or UDP ports it binds; the hardening pass
    opens the sandbox for exactly these. ``secrets`` are names of secrets that it gets as credentials. ``early``
    services are part of early boot and do not wait for runtime-init.
    """

    name: str
    exec: tuple[str, ...]
    description: str = ""
    type: str = ""
    user: str = ""
    group: str = ""
    supplementary_groups: tuple[str, ...] = ()
    after: tuple[str, ...] = ()
    before: tuple[str, ...] = ()
    requires: tuple[str, ...] = ()
    wants: tuple[str, ...] = ()
    binds_to: tuple[str, ...] = ()
    part_of: tuple[str, ...] = ()
    conflicts: tuple[str, ...] = ()
    wanted_by: tuple[str, ...] = ()
    exec_start_pre: tuple[str, ...] = ()
    exec_start_post: tuple[str, ...] = ()
    exec_stop: tuple[str, ...] = ()
    exec_reload: tuple[str, ...] = ()
    restart: str = ""
    restart_sec: str = ""
    timeout_start_sec: str = ""
    timeout_stop_sec: str = ""
    remain_after_exit: bool = False
    working_directory: str = ""
    environment: tuple[EnvironmentVariable, ...] = ()
    environment_files: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    state_directory: str = ""
    runtime_directory: str = ""
    cache_directory: str = ""
    logs_directory: str = ""
    writes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    capabilities: tuple[str, ...] = ()
    hardening: Hardening = Hardening.DEFAULT
    overrides: tuple[Directive, ...] = ()
    extra_unit: tuple[Section, ...] = ()
    enabled: bool = True
    early: bool = False


@records.frozen(kw_only=True)
class RawUnit(Node):
    """A unit given by its sections, of any kind; ``name`` includes the suffix."""

    name: str
    sections: tuple[Section, ...]
    wanted_by: tuple[str, ...] = ()
    enabled: bool = True
    early: bool = False


@records.frozen(kw_only=True)
class SandboxNeeds(Node):
    """What a service declared about itself, from which the hardening pass derives its sandbox."""

    user: str = ""
    writes: tuple[str, ...] = ()
    devices: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()
    capabilities: tuple[str, ...] = ()
    secrets: tuple[str, ...] = ()
    hardening: Hardening = Hardening.DEFAULT
    overrides: tuple[Directive, ...] = ()


@records.frozen(kw_only=True)
class Unit(Node):
    """A unit file as it will stand in ``/usr/lib/systemd/system``.

    ``wanted_by`` become links in ``TARGET.wants/``, ``required_by`` in ``TARGET.requires/``; ``aliases`` are further
    names that link to the file.
    """

    name: str
    sections: tuple[Section, ...]
    wanted_by: tuple[str, ...] = ()
    required_by: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    enabled: bool = True
    early: bool = False
    needs: SandboxNeeds | None = None

    @property
    def kind(self) -> UnitKind:
        """The unit's type, by its suffix. Raises ValueError for one that UnitKind does not list."""
        return UnitKind(self.name.rpartition(".")[2])

    def values(self, section: str, key: str) -> tuple[str, ...]:
        """All values of ``key`` in the sections of that name, in order."""
        return tuple(d.value for s in self.sections if s.name == section for d in s.directives if d.key == key)


@records.frozen(kw_only=True)
class DropIn(Node):
    """A drop-in file for a unit that a package brings: ``/usr/lib/systemd/system/UNIT.d/NAME.conf``."""

    unit: str
    name: str
    sections: tuple[Section, ...]
