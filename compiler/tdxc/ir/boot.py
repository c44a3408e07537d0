"""Boot steps: commands that run once, in order, before the image's services."""

from __future__ import annotations

from tdxc import records
from tdxc.ir.node import Node

DEFAULT_PRIORITY = 50
"""Where ``image.on_boot`` steps stand; the modules of the seeds use 10 (keys), 20 (disks) and 30 (secrets)."""


@records.frozen(kw_only=True)
class BootStep(Node):
    """A step run by ``/usr/bin/runtime-init``: ``script`` is POSIX shell text.

    A lower ``priority`` (0 to 9999) runs first;
    ``index`` is the step's place in the recipe and breaks ties; ``after`` names steps that must have run before.
    """

    name: str
    script: str
    priority: int = DEFAULT_PRIORITY
    after: tuple[str, ...] = ()
    index: int = 0


@records.frozen(kw_only=True)
class OrderedStep(Node):
    """A boot step with its final drop-in name, ``PPPP-SS-name``, under ``/usr/lib/runtime-init.d``."""

    name: str
    file_name: str
    script: str


@records.frozen(kw_only=True)
class BootUnit(Node):
    """A unit (or a boot step) in boot order: ``after`` names what it waits for, ``level`` is how many stand before it.

    ``level`` is the length of the longest chain of such waits, so that what has one level may start at once.
    """

    name: str
    after: tuple[str, ...] = ()
    level: int = 0
