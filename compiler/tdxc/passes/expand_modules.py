"""expand-modules: what modules declared becomes part of the layer that applied them.

A module's scalars stand below those of the layer itself, so that a recipe can override what a module set; two modules
that set one scalar differently contradict each other.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, ClassVar

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticSink, Note
from tdxc.ir import (
    AuthoredImage,
    BootStep,
    Debloat,
    Layer,
    ModuleUse,
    Network,
    Node,
    Profile,
    laid_over,
    merge_layers,
)
from tdxc.passes.base import PassContext

_REPEATABLE = ("users", "groups", "directories", "symlinks", "suites", "repositories", "builds", "boot_steps")
"""Declarations that several modules may make alike; equal ones are kept once."""


class ExpandModules:
    """Flatten ``Layer.modules`` recursively; every node keeps its place and says which module declared it."""

    name: ClassVar[str] = "expand-modules"
    description: ClassVar[str] = "put what modules declared into the layers that applied them"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset({"expand-modules"})

    def run(self, image: AuthoredImage, ctx: PassContext) -> AuthoredImage:
        """The image without ModuleUse nodes; profiles lose what the image itself declares alike."""
        layer = _without_repetitions(_flat(image.layer, ctx.sink))
        profiles = tuple(_profile(profile, layer, ctx.sink) for profile in image.profiles)
        return records.evolve(image, layer=layer, profiles=profiles)


def _profile(profile: Profile, base: Layer, sink: DiagnosticSink) -> Profile:
    layer = _without_repetitions(_flat(profile.layer, sink), base)
    return records.evolve(profile, layer=_with_rule_layer(layer, profile.name))


def _flat(layer: Layer, sink: DiagnosticSink) -> Layer:
    """The layer with all modules merged in, below its own declarations."""
    if not layer.modules:
        return layer
    below = Layer(span=layer.span)
    for use in layer.modules:
        expanded = _expanded(use, sink)
        for conflict in _scalar_conflicts(below, expanded, layer):
            _report(conflict, sink)
        below = merge_layers(below, expanded)
    merged = merge_layers(below, records.evolve(layer, modules=(), module_names=()))
    names = (*layer.module_names, *below.module_names)
    return records.evolve(
        merged,
        modules=(),
        policy=laid_over(below.policy, layer.policy) if below.policy and layer.policy else merged.policy,
        module_names=tuple(dict.fromkeys(names)),
        # Modules stand below the layer, but boot steps of one priority keep the order of the recipe.
        boot_steps=tuple(sorted(merged.boot_steps, key=lambda step: step.index)),
        span=layer.span,
    )


def _expanded(use: ModuleUse, sink: DiagnosticSink) -> Layer:
    layer = _flat(use.layer, sink)
    changes: dict[str, Any] = {}
    for field in records.fields_of(Layer):
        value = getattr(layer, field.name)
        if isinstance(value, Node):
            changes[field.name] = _marked(value, use)
        elif isinstance(value, tuple):
            changes[field.name] = tuple(_marked(item, use) if isinstance(item, Node) else item for item in value)
    changes["module_names"] = (use.name, *layer.module_names)
    return records.evolve(layer, **changes)


def _marked(node: Node, use: ModuleUse) -> Node:
    span = node.span if node.span.file else use.span
    return records.evolve(node, span=span, cause=node.cause or f"module {use.name}")


def _scalar_conflicts(first: Layer, second: Layer, own: Layer) -> Iterator[tuple[str, Node, Node]]:
    """Scalars that two modules set to different values, unless the layer itself decides or they can be merged."""
    for field in records.fields_of(Layer):
        before, after = getattr(first, field.name), getattr(second, field.name)
        if not (field.eq and isinstance(before, Node) and isinstance(after, Node)):
            continue
        if before != after and not isinstance(after, Network | Debloat) and getattr(own, field.name) is None:
            yield field.name, before, after


def _report(conflict: tuple[str, Node, Node], sink: DiagnosticSink) -> None:
    name, before, after = conflict
    sink.add(
        Code.E_CONFLICT,
        f"{after.cause} and {before.cause} set '{name}' to different values",
        after.span,
        notes=(Note(message=f"{before.cause} is applied here", span=before.span),),
        fix=f"set '{name}' in the recipe itself, which overrides both, or apply only one of them",
    )


def _without_repetitions(layer: Layer, base: Layer | None = None) -> Layer:
    changes: dict[str, Any] = {}
    for name in _REPEATABLE:
        seen = {_unplaced(node) for node in getattr(base, name)} if base else set()
        kept: list[Node] = []
        for node in getattr(layer, name):
            value = _unplaced(node)
            if value not in seen:
                seen.add(value)
                kept.append(node)
        changes[name] = tuple(kept)
    return records.evolve(layer, **changes)


def _unplaced(node: Node) -> Node:
    """A module's boot step without its place in the recipe, in which equal ones differ; other nodes as they are."""
    return records.evolve(node, index=0) if isinstance(node, BootStep) and node.cause else node


def _with_rule_layer(layer: Layer, profile: str) -> Layer:
    if layer.network is None or not layer.network.firewall_rules:
        return layer
    rules = tuple(records.evolve(rule, layer=profile) for rule in layer.network.firewall_rules)
    return records.evolve(layer, network=records.evolve(layer.network, firewall_rules=rules))
