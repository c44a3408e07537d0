"""Several profiles at once: whether their layers, which mkosi lays over each other, give the image that is meant.

A profile's layer holds each file that it changes in full, so of two profiles that change one file mkosi takes one
profile's. Lists (packages, drop-ins, keep-lists) add up and need no look.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tdxc.diagnostics import Code, Diagnostic
from tdxc.ir import Node, ResolvedImage


def check_layers(base: ResolvedImage, alone: Sequence[ResolvedImage], combined: ResolvedImage) -> Iterator[Diagnostic]:
    """Files and units that ``combined`` has otherwise than the layers of ``alone`` over ``base`` would give them.

    ``alone`` are the variants of one profile each.
    """
    below, layers = _contents(base), {variant.profiles[0]: _contents(variant) for variant in alone}
    for name, node in _contents(combined).items():
        old = below.get(name)
        changing = {profile: layer[name] for profile, layer in layers.items() if layer.get(name, old) != old}
        given = list(changing.values()) or [below[name]] * (name in below)
        if any(one != node for one in given):
            names = " and ".join(f"'{profile}'" for profile in changing)
            yield Diagnostic(
                code=Code.E_EMIT,
                message=f"the profiles {names} change '{name}' each in its own way, and laid over each other lose one",
                span=node.span,
                fix="declare it in the image itself or in one of them; or compile both together with --profile",
            )


def _contents(image: ResolvedImage) -> dict[str, Node]:
    return {file.path: file for file in image.files} | {unit.name: unit for unit in image.units}
