"""Facts between nodes that must hold after every pass. A violation is a fault of the compiler, not of the recipe."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from tdxc.diagnostics import Code, Diagnostic
from tdxc.ir.image import AuthoredImage, ResolvedImage
from tdxc.ir.node import Node

NodeT = TypeVar("NodeT", bound=Node)


def verify_authored(image: AuthoredImage) -> tuple[Diagnostic, ...]:
    """Nodes of the authored image that lack a place in the recipe, and profiles of one name."""
    layers = (image.layer, *(profile.layer for profile in image.profiles))
    nodes = [node for layer in layers for node in (*layer.files, *layer.services, *layer.packages, *layer.boot_steps)]
    return tuple(_without_span(nodes)) + tuple(_repeated("profile", image.profiles, lambda p: p.name))


def verify_resolved(image: ResolvedImage) -> tuple[Diagnostic, ...]:
    """Sorted and unique collections, and nodes that know where they stem from."""
    return (
        *_check_sorted("package", image.packages, lambda node: node.name),
        *_check_sorted("file", image.files, lambda node: node.path),
        *_check_sorted("symlink", image.symlinks, lambda node: node.path),
        *_check_sorted("directory", image.directories, lambda node: node.path),
        *_check_sorted("unit", image.units, lambda node: node.name),
    )


def _check_sorted(kind: str, nodes: tuple[NodeT, ...], key: Callable[[NodeT], str]) -> Iterator[Diagnostic]:
    yield from _without_span(nodes)
    keys = [key(node) for node in nodes]
    if all(map(operator.lt, keys, keys[1:])):
        return
    yield from _repeated(kind, nodes, key)
    if keys != sorted(keys):
        yield Diagnostic(code=Code.E_INTERNAL, message=f"the {kind}s of the image are not sorted")


def _without_span(nodes: Iterable[Node]) -> Iterator[Diagnostic]:
    for node in nodes:
        if not node.span.file and not node.cause:
            yield Diagnostic(code=Code.E_INTERNAL, message=f"{node!r} has neither a place in the recipe nor a cause")


def _repeated(kind: str, nodes: Iterable[NodeT], key: Callable[[NodeT], str]) -> Iterator[Diagnostic]:
    seen: set[str] = set()
    for node in nodes:
        name = key(node)
        if name in seen:
            yield Diagnostic(code=Code.E_INTERNAL, message=f"two {kind}s of the name {name!r}", span=node.span)
        seen.add(name)
