"""MeasurementEmitter: one manifest for each platform that the image has an output target for."""

from __future__ import annotations

from typing import ClassVar

from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import OutputTarget, ResolvedImage, json_text
from tdxc.tree import FileTree, Origin, TreeFile

from tdxc_emitters.measurement.manifest import manifest
from tdxc_emitters.measurement.platforms import PLATFORMS

FOLDER = "measurement"


class MeasurementEmitter:
    """``manifest.json`` for the first target (``qemu`` where it is one), ``manifest-PLATFORM.json`` for the others."""

    name: ClassVar[str] = "measurement"

    def emit(self, image: ResolvedImage) -> FileTree:
        """The manifests of one variant; raises E_DEPLOYMENT for a target that is no platform."""
        found = {}
        for index, target in enumerate(sorted(image.output_targets, key=_main_first)):
            if target.name not in PLATFORMS:
                raise DiagnosticError.of(
                    Code.E_DEPLOYMENT,
                    f"'{target.name}' is no platform that can be measured",
                    target.span,
                    fix=f"choose from {', '.join(PLATFORMS)}",
                )
            path = f"{FOLDER}/manifest.json" if index == 0 else f"{FOLDER}/manifest-{target.name}.json"
            text = json_text(manifest(image, target.name))
            origin = Origin(span=target.span, cause="what is known of the registers before a bake")
            found[path] = TreeFile.text(text, origin=origin)
        return FileTree(found)


def _main_first(target: OutputTarget) -> tuple[bool, str]:
    return target.name != "qemu", target.name
