"""Emitters: from resolved images to the files of a mkosi tree. Pure: no disk, no process, no clock.

Example::

    tree = emit_image(compiled)
    tree.text("mkosi.conf")
"""

from __future__ import annotations

from tdxc.emission import Emitter
from tdxc.ir import CompiledImage
from tdxc.tree import FileTree

from tdxc_emitters.busybox import BusyboxEmitter
from tdxc_emitters.kconfig import KconfigEmitter
from tdxc_emitters.measurement import MeasurementEmitter
from tdxc_emitters.mkosi import emit_tree
from tdxc_emitters.systemd import SystemdEmitter

EMITTERS: tuple[Emitter, ...] = (
    SystemdEmitter(),  # units, links, presets, boot steps
    BusyboxEmitter(),  # inittab and service scripts, or the link to an init of the recipe's own
    KconfigEmitter(),  # kernel/
    MeasurementEmitter(),  # measurement/manifest.json
)
"""What adds files to a variant, beside the mkosi settings and scripts themselves."""


def emit_image(compiled: CompiledImage) -> FileTree:
    """The complete tree of an image and its profiles; raises DiagnosticError for what a target cannot express."""
    return emit_tree(compiled, EMITTERS)
