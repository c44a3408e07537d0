"""LayerBuilder: the one mutable thing behind an image, a profile or a module; ``freeze`` gives the IR's Layer."""

from __future__ import annotations

from typing import Any

from tdxc import records
from tdxc.diagnostics import SourceSpan
from tdxc.ir import Layer, ModuleUse, Node, Profile, merge_layers


class LayerBuilder:
    """Declarations in the order of the recipe, by the name of the Layer's field."""

    def __init__(self, span: SourceSpan) -> None:
        self.span = span
        self._single: dict[str, Node] = {}
        self._many: dict[str, list[Node | PendingModule]] = {}

    def put(self, field: str, node: Node | None) -> None:
        """Set a field that holds one node; the last one counts, and None unsets it."""
        if node is None:
            self._single.pop(field, None)
        else:
            self._single[field] = node

    def merge(self, field: str, node: Node) -> None:
        """Lay a node over the one that is there, as a profile's would be."""
        declared: dict[str, Any] = {field: node}
        below: dict[str, Any] = {field: self._single.get(field)}
        self._single[field] = getattr(merge_layers(Layer(**below), Layer(**declared)), field)

    def add(self, field: str, *nodes: Node | PendingModule) -> None:
        """Append to a field that holds many."""
        self._many.setdefault(field, []).extend(nodes)

    def freeze(self) -> Layer:
        """Everything declared so far."""
        fields: dict[str, Any] = dict(self._single)
        for name, nodes in self._many.items():
            fields[name] = tuple(node.freeze() if isinstance(node, PendingModule) else node for node in nodes)
        return Layer(span=self.span, **fields)


@records.frozen
class PendingModule:
    """A module that is being applied; it becomes a ModuleUse in the place where it began."""

    name: str
    builder: LayerBuilder

    def freeze(self) -> ModuleUse:
        """The IR node."""
        return ModuleUse(name=self.name, layer=self.builder.freeze(), span=self.builder.span)


def freeze_profiles(profiles: dict[str, LayerBuilder]) -> tuple[Profile, ...]:
    """Profiles in the order of their first mention."""
    return tuple(Profile(name=name, layer=layer.freeze(), span=layer.span) for name, layer in profiles.items())
