"""The order of builds: one whose folder holds a place of another's comes first, so that the longer path wins.

::

    Build "tool"   /opt/tool/etc/tool.conf          "stage", "tool": mkosi unpacks one archive over the other,
    Build "stage"  /opt/tool                   ->   and the file at the place that names it is the one that stays
"""

from __future__ import annotations

from collections.abc import Iterator

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, Note
from tdxc.ir import Base, Build, Layer


def in_nested_order(layer: Layer, base: Base) -> Layer:
    """The layer with its builds in that order, otherwise in the recipe's; on a circle, in the recipe's."""
    waiting, ordered = list(layer.builds), list[Build]()
    while waiting:
        free = (build for build in waiting if not any(_holds(other, build, base) for other in waiting))
        build = next(free, waiting[0])
        waiting.remove(build)
        ordered.append(build)
    return records.evolve(layer, builds=tuple(ordered))


def check_nested_order(layer: Layer, base: Base) -> Iterator[Diagnostic]:
    """E_CONFLICT where builds hold places of each other, in a circle: no order lets each longer path win."""
    builds = in_nested_order(layer, base).builds
    for index, build in enumerate(builds):
        for earlier in builds[:index]:
            if _holds(build, earlier, base):
                yield Diagnostic(
                    code=Code.E_CONFLICT,
                    message=f"'{build.name}' has a folder that holds an artifact of '{earlier.name}', and the other way"
                    " round, so neither can be unpacked over the other",
                    span=build.span,
                    notes=(Note(message=f"'{earlier.name}' is declared here", span=earlier.span),),
                    fix="make two builds of one of them, or give each its own folders",
                )


def _holds(outer: Build, inner: Build, base: Base) -> bool:
    """Whether an artifact of ``outer``, if it is a folder, is above one of ``inner``."""
    if outer is inner:
        return False
    return any(
        place != above and place.startswith(above) for above in _places(outer, base) for place in _places(inner, base)
    )


def _places(build: Build, base: Base) -> list[str]:
    return [base.place(artifact.dest.rstrip("/") + "/") for artifact in build.artifacts]
