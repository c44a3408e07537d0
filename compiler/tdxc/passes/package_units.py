"""Services of packages that the image starts, and that do not wait for its disks and secrets.

::

    target("app", wants=["postgresql.service"])  ->  W_BOOT_ORDER  with the drop-in that lets it wait

Services of the image wait by themselves (init-priority, lower-guest). One of a package is left as the package has it:
it may be part of what brings the network up, which boot steps come after, and waiting would then be a circle. Nothing
starts one unasked: mkosi applies the image's preset, which disables all units, behind its postinst phase. So what
counts are links and dependencies that the recipe makes, and ``systemctl enable`` in a later phase.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tdxc.diagnostics import Code, Diagnostic, Note, SourceSpan
from tdxc.ir import ResolvedImage, ScriptPhase
from tdxc.passes.guest_uses import OWN_UNITS, SECRETS_UNIT, Parts, parts_of, uses
from tdxc.passes.init_priority import RUNTIME_INIT
from tdxc.passes.unit_graph import named_units

_STARTING_KEYS = ("Requires", "Wants", "BindsTo", "Upholds")
_LINK_FOLDERS = ("/etc/systemd/system/", "/usr/lib/systemd/system/", "/lib/systemd/system/")

_ENABLES = r"\bsystemctl\b[^\n;&|]*?\benable\b([^\n;&|]+)"

_OF_THE_SYSTEM = (
    "NetworkManager", "cloud-", "connman", "console-getty", "container-getty@", "dbus", "dhcpcd", "emergency", "getty@",
    "google-", "ifup", "iwd", "modprobe@", "networking", "polkit", "rescue", "serial-getty@", "systemd-", "udev",
    "user@", "walinuxagent", "wpa_supplicant",
)  # fmt: skip
"""Beginnings of the names of services by which a system boots, gets a network and logs people in."""


def check_package_units(image: ResolvedImage) -> Iterator[Diagnostic]:
    """Each such service once, where the recipe first asks for it."""
    every = tuple(parts for parts in parts_of(image) if parts.name not in OWN_UNITS)
    waited = _waited_for(image, every)
    if waited is None:
        return
    waited_unit, what, span = waited
    brought = {name for unit in image.units for name in (unit.name, *unit.aliases)}
    brought |= {parts.name for parts in every if parts.is_whole}
    waiting = {parts.name for parts in every if any(parts.has("After", name) for name in (RUNTIME_INIT, SECRETS_UNIT))}
    places: dict[str, SourceSpan] = {}
    for name, place in _started(image, every):
        places.setdefault(name, place)
    for name, place in places.items():
        if name in brought or name in waiting or name.startswith(_OF_THE_SYSTEM):
            continue
        section = f'{{"Unit": {{"Requires": "{waited_unit}", "After": "{waited_unit}"}}}}'
        yield Diagnostic(
            code=Code.W_BOOT_ORDER,
            message=f"'{name}' is a unit of a package, and does not wait for {what}",
            span=place,
            notes=(Note(message="it is declared here", span=span),),
            fix=f'let it wait: img.drop_in("{name}", {section})',
        )


def _waited_for(image: ResolvedImage, every: tuple[Parts, ...]) -> tuple[str, str, SourceSpan] | None:
    """What services of packages may need: a secret that no unit of the image takes, else a disk; with what makes it."""
    for secret in image.secret_delivery.secrets if image.secret_delivery else ():
        is_file = any(target.kind == "file" for target in secret.targets)
        if is_file and secret.required and not any(uses(secret, parts) for parts in every):
            return SECRETS_UNIT, f"the secret '{secret.name}', which no unit of the image names", secret.span
    for disk in image.encrypted_disks:
        return RUNTIME_INIT, f"the disk at '{disk.mount_at}'", disk.span
    return None


def _started(image: ResolvedImage, every: tuple[Parts, ...]) -> Iterator[tuple[str, SourceSpan]]:
    """Services that the image's units and links start, with the places that say so."""
    for parts in every:
        for unit in parts.units:
            found = named_units(unit, *_STARTING_KEYS)
            yield from ((name, span) for name, span in found if name.endswith(".service"))
    for link in image.symlinks:
        folder, _, name = link.path.rpartition("/")
        is_pulled = link.path.startswith(_LINK_FOLDERS) and folder.endswith((".wants", ".requires"))
        if is_pulled and name.endswith(".service"):
            yield name, link.span
    for script in image.scripts:
        for names in re.findall(_ENABLES, script.text) if script.phase is ScriptPhase.FINALIZE else ():
            plain = (name for name in names.split() if not name.startswith("-"))
            yield from ((name if "." in name else f"{name}.service", script.span) for name in plain)
