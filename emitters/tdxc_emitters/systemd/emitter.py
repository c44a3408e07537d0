"""SystemdEmitter: the units of an image as they stand in ``/usr/lib/systemd/system``."""

from __future__ import annotations

from typing import ClassVar

from tdxc.diagnostics import Diagnostic, DiagnosticError
from tdxc.ir import Node, ResolvedImage, Unit
from tdxc.tree import FileTree, Origin, TreeBuilder, TreeFile, TreeLink

from tdxc_emitters.systemd.runtime_init import RUNNER_PATH, STEPS_FOLDER, render_runner, render_step
from tdxc_emitters.systemd.unit_file import header, render_drop_in, render_unit

UNITS_FOLDER = "usr/lib/systemd/system"
PRESET_PATH = "usr/lib/systemd/system-preset/00-image.preset"
EXTRA = "mkosi.extra"


class SystemdEmitter:
    """Units, drop-ins, links, the preset and the boot steps of an image whose init system is systemd.

    For another init system it emits the boot steps alone, which do not depend on one. All paths lie below
    ``mkosi.extra/``, mkosi's copy of the root file system.
    """

    name: ClassVar[str] = "systemd"

    def emit(self, image: ResolvedImage) -> FileTree:
        """The files of one variant. Raises E_EMIT and E_VALUE for what a unit file cannot express."""
        builder = TreeBuilder()
        _add_steps(builder, image)
        if image.init == "systemd":
            _add_units(builder, image)
            _add_presets(builder, image)
        return builder.build().under(EXTRA)


def _add_units(builder: TreeBuilder, image: ResolvedImage) -> None:
    """Units and drop-ins; what is wrong with any of them is raised together."""
    faults: list[Diagnostic] = []
    for unit in image.units:
        try:
            _add_unit(builder, unit, image.name)
        except DiagnosticError as fault:
            faults += fault.diagnostics
    for drop_in in image.drop_ins:
        path = f"{UNITS_FOLDER}/{drop_in.unit}.d/{drop_in.name.removesuffix('.conf')}.conf"
        try:
            builder.add(path, TreeFile.text(render_drop_in(drop_in, image.name), origin=_origin(drop_in)))
        except DiagnosticError as fault:
            faults += fault.diagnostics
    if faults:
        raise DiagnosticError(faults)


def _add_unit(builder: TreeBuilder, unit: Unit, image_name: str) -> None:
    path = f"{UNITS_FOLDER}/{unit.name}"
    builder.add(path, TreeFile.text(render_unit(unit, image_name), origin=_origin(unit)))
    link = TreeLink(target=f"../{unit.name}", origin=_origin(unit))
    for target in unit.wanted_by:
        builder.add(f"{UNITS_FOLDER}/{target}.wants/{unit.name}", link)
    for target in unit.required_by:
        builder.add(f"{UNITS_FOLDER}/{target}.requires/{unit.name}", link)
    for alias in unit.aliases:
        builder.add(f"{UNITS_FOLDER}/{alias}", TreeLink(target=unit.name, origin=_origin(unit)))


def _add_presets(builder: TreeBuilder, image: ResolvedImage) -> None:
    """Nothing is enabled by presets: what an image starts is what links in its own tree say, and no package adds to it.

    mkosi runs ``systemctl preset-all``, which would enable all that Debian's own presets name.
    """
    text = header("preset", image.name) + "disable *\n"
    builder.add(PRESET_PATH, TreeFile.text(text, origin=Origin(span=image.span, cause="only wants links enable units")))
    if image.default_target != "default.target":
        cause = "the target that the image boots into"
        link = TreeLink(target=image.default_target, origin=Origin(span=image.span, cause=cause))
        builder.add(f"{UNITS_FOLDER}/default.target", link)


def _add_steps(builder: TreeBuilder, image: ResolvedImage) -> None:
    if not image.ordered_steps:
        return
    origin = Origin(span=image.ordered_steps[0].span, cause="init-priority: the image has boot steps")
    builder.add(RUNNER_PATH, TreeFile.text(render_runner(), executable=True, origin=origin))
    for step in image.ordered_steps:
        text = render_step(step)
        builder.add(f"{STEPS_FOLDER}/{step.file_name}", TreeFile.text(text, executable=True, origin=_origin(step)))


def _origin(node: Node) -> Origin:
    return Origin(span=node.span, cause=node.cause)
