"""Units that exist without the recipe bringing them: by name, by template, and by a type that is made at run time.

Also what the targets of boot-up pull in and come after, since an image's own units are ordered among them (bootup(7),
systemd.special(7), and the unit files of systemd 257).
"""

from __future__ import annotations

import functools
from pathlib import Path

_MADE_AT_BOOT = frozenset(
    {
        "-.mount", "-.slice", "default.target", "display-manager.service", "init.scope", "system.slice",
        "systemd-cryptsetup@.service", "systemd-integritysetup@.service", "systemd-veritysetup@.service",
    }
)  # fmt: skip
"""Units without a file: built into systemd, written by its generators, or an alias that a package may take."""

_MADE_FROM_NAMES = ("device", "mount", "automount", "swap", "slice", "scope")
"""Types whose units come into being with what they are named after (systemd.unit(5))."""

STATIC_PULLS: dict[str, tuple[str, ...]] = {
    "basic.target": ("sysinit.target", "sockets.target", "timers.target", "paths.target", "slices.target"),
    "graphical.target": ("multi-user.target", "display-manager.service"),
    "multi-user.target": ("basic.target", "getty.target"),
    "sysinit.target": ("local-fs.target", "swap.target"),
    "systemd-networkd.service": ("network.target",),
    "time-sync.target": ("time-set.target",),
}
"""What each unit starts with itself: its ``Requires=`` and ``Wants=``, as far as an image depends on them."""

STATIC_AFTER: dict[str, tuple[str, ...]] = {
    "basic.target": ("sysinit.target", "sockets.target", "paths.target", "slices.target"),
    "graphical.target": ("multi-user.target",),
    "local-fs.target": ("local-fs-pre.target",),
    "multi-user.target": ("basic.target",),
    "network-online.target": ("network.target", "systemd-networkd-wait-online.service"),
    "network.target": ("network-pre.target", "systemd-networkd.service"),
    "remote-fs.target": ("remote-fs-pre.target",),
    "sysinit.target": (
        "local-fs.target", "swap.target", "systemd-journald.service", "systemd-modules-load.service",
        "systemd-sysctl.service", "systemd-sysusers.service", "systemd-tmpfiles-setup.service",
        "systemd-udevd.service",
    ),
    "systemd-networkd-wait-online.service": ("systemd-networkd.service",),
    "systemd-networkd.service": ("network-pre.target", "systemd-udevd.service", "systemd-sysctl.service"),
    "systemd-sysctl.service": ("systemd-modules-load.service",),
    "systemd-tmpfiles-setup.service": ("local-fs.target", "systemd-sysusers.service"),
    "time-sync.target": ("time-set.target",),
}  # fmt: skip
"""What each unit of boot-up comes after."""

BOOT_TARGETS = ("multi-user.target", "graphical.target", "default.target")
"""Targets by which units that were written for any system mean "at boot"."""

SHUTDOWN_TARGETS = frozenset(
    {
        "exit.target", "final.target", "halt.target", "kexec.target", "poweroff.target", "reboot.target",
        "shutdown.target", "umount.target",
    }
)  # fmt: skip
"""Targets of shutting down: units name them in ``Before=``, but they are no part of a boot."""


@functools.cache
def known_units() -> frozenset[str]:
    """Names of all units that systemd 257 and packages of Debian trixie bring, templates with their ``@``."""
    text = Path(__file__).with_name("known_units.txt").read_text(encoding="utf-8")
    return _MADE_AT_BOOT | {line for line in text.splitlines() if not line.startswith("#")}


def is_known(name: str) -> bool:
    """Whether a unit may exist in an image that does not bring it itself."""
    stem, _, suffix = name.rpartition(".")
    if suffix in _MADE_FROM_NAMES or name in known_units():
        return True
    template, at, _ = stem.partition("@")
    return bool(at) and f"{template}@.{suffix}" in known_units()
