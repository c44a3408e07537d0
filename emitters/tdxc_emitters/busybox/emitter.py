"""BusyboxEmitter: ``/init``, ``/etc/inittab`` and a script for each service, where the init system is not systemd."""

from __future__ import annotations

from typing import ClassVar

from tdxc.diagnostics import Code, Diagnostic, DiagnosticError
from tdxc.ir import Node, ResolvedImage
from tdxc.tree import FileTree, Origin, TreeBuilder, TreeFile, TreeLink

from tdxc_emitters.busybox.templates import read_template

EXTRA = "mkosi.extra"
SERVICES_FOLDER = "usr/lib/tdx/services"
EARLY_FOLDER = "usr/lib/tdx/early-services"

_INITTAB = """\
# What BusyBox's init runs; compiled by tdxc.
::sysinit:/usr/lib/tdx/rc-boot
::ctrlaltdel:/bin/busybox reboot
::shutdown:/bin/busybox umount -a -r
::restart:/bin/busybox init
"""


class BusyboxEmitter:
    """Services for BusyBox's init; for an init of the recipe's own, the link that starts it; nothing for systemd."""

    name: ClassVar[str] = "busybox"

    def emit(self, image: ResolvedImage) -> FileTree:
        """The files of one variant. Raises E_EMIT for what the init system cannot express."""
        if image.init == "systemd":
            return FileTree()
        builder = TreeBuilder()
        if image.init == "busybox":
            _add_busybox(builder, image)
        else:
            _refuse_services(image)
            if image.init != "/init":
                cause = "the kernel starts /init, which is the init of the recipe"
                builder.add("init", TreeLink(target=image.init, origin=Origin(span=image.span, cause=cause)))
        return builder.build().under(EXTRA)


def _add_busybox(builder: TreeBuilder, image: ResolvedImage) -> None:
    from tdxc_emitters.busybox.service_script import render_service  # most images have systemd

    origin = Origin(span=image.span, cause="the init system is BusyBox")
    builder.add("init", _script("init.sh", origin))
    builder.add("etc/inittab", TreeFile.text(_INITTAB, origin=origin))
    builder.add("usr/lib/tdx/rc-boot", _script("boot.sh", origin))
    services = [unit for unit in image.units if unit.enabled]
    if services:
        builder.add("usr/lib/tdx/rc-service", TreeFile.text(read_template("service.sh"), origin=origin))
    own = frozenset(unit.name for unit in services)
    levels = {row.name: row.level for row in image.boot_order}
    faults = [_needs_systemd(f"a drop-in for '{drop_in.unit}'", drop_in) for drop_in in image.drop_ins]
    for unit in services:
        folder = EARLY_FOLDER if unit.early else SERVICES_FOLDER
        path = f"{folder}/{levels.get(unit.name, 0):04}-{unit.name.removesuffix('.service')}"
        if not unit.name.endswith(".service") or "@" in unit.name:
            faults.append(_needs_systemd(f"'{unit.name}'", unit))
            continue
        try:
            text = render_service(unit, own)
        except DiagnosticError as fault:
            faults += fault.diagnostics
        else:
            builder.add(path, TreeFile.text(text, executable=True, origin=_origin(unit)))
    if faults:
        raise DiagnosticError(faults)


def _needs_systemd(what: str, node: Node) -> Diagnostic:
    message = f"{what} needs systemd: BusyBox's init knows plain services only"
    return Diagnostic(code=Code.E_EMIT, message=message, span=node.span, fix="use init = systemd")


def _refuse_services(image: ResolvedImage) -> None:
    nodes: list[tuple[str, Node]] = [(f"unit '{unit.name}'", unit) for unit in image.units]
    nodes += [(f"boot step '{step.name}'", step) for step in image.boot_steps]
    nodes += [(f"drop-in for '{drop_in.unit}'", drop_in) for drop_in in image.drop_ins]
    if nodes:
        raise DiagnosticError(
            Diagnostic(
                code=Code.E_EMIT,
                message=f"{what} is started by nobody: the image's init is '{image.init}'",
                span=node.span,
                fix=f"let '{image.init}' do it, or use init = systemd",
            )
            for what, node in nodes
        )


def _script(template: str, origin: Origin) -> TreeFile:
    return TreeFile.text(f"#!/bin/sh\n{read_template(template)}", executable=True, origin=origin)


def _origin(node: Node) -> Origin:
    return Origin(span=node.span, cause=node.cause)
