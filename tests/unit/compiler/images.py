"""Authored images, built from the node classes themselves so that none of their fields is forgotten."""

from __future__ import annotations

import enum
import functools
import types
import typing
from collections.abc import Iterator
from typing import Any

import attrs
from hypothesis import strategies as st
from tdxc.diagnostics import SourceSpan
from tdxc.ir import AuthoredImage, Blob, Node

texts = st.text(st.characters(codec="utf-8"), max_size=8)
spans = st.builds(SourceSpan, file=st.just("recipe.py"), line=st.integers(1, 99), column=st.integers(1, 9))
_DEPTH = 3
_FEW = 5


def authored_images() -> st.SearchStrategy[AuthoredImage]:
    """Any image at all that the types allow; it need not be one that compiles."""
    return nodes(AuthoredImage, _DEPTH)


@functools.cache
def nodes(kind: type[Any], depth: int) -> st.SearchStrategy[Any]:
    """A node with all that it must have and a few of the fields that it may leave at their defaults.

    Any field can be among the few, so that all of them are met over the examples while no single image is huge.
    """
    hints = typing.get_type_hints(kind)
    fields = {field.name: values(hints[field.name], depth) for field in attrs.fields(kind) if field.eq}
    must = [field.name for field in attrs.fields(kind) if field.eq and field.default is attrs.NOTHING]
    may = sorted(fields.keys() - set(must))
    few = st.lists(st.sampled_from(may), max_size=_FEW, unique=True) if may else st.just([])
    return few.flatmap(lambda chosen: st.builds(kind, span=spans, **{name: fields[name] for name in (*must, *chosen)}))


def values(hint: Any, depth: int) -> st.SearchStrategy[Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        return st.one_of(*(values(argument, depth) for argument in arguments))
    if origin is tuple and arguments[-1] is Ellipsis:
        return st.just(()) if depth == 0 else st.lists(values(arguments[0], depth - 1), max_size=2).map(tuple)
    if origin is tuple:
        return st.tuples(*(values(argument, depth) for argument in arguments))
    return scalar(hint, depth)


def scalar(hint: Any, depth: int) -> st.SearchStrategy[Any]:
    if isinstance(hint, typing.NewType):
        return values(hint.__supertype__, depth)
    if hint is type(None):
        return st.none()
    if hint is Blob:
        return st.binary(max_size=4).map(Blob.of)
    if issubclass(hint, enum.Enum):
        return st.sampled_from(hint)
    if issubclass(hint, Node):
        return nodes(hint, depth)
    return {str: texts, int: st.integers(0, 9999), bool: st.booleans()}[hint]


_OTHER = {str: "other", int: 4321}


def images_by_field() -> Iterator[AuthoredImage]:
    """The smallest image, and for each field of each node that an image can hold one that differs in that field."""
    seen: set[type[Any]] = set()
    yield smallest(AuthoredImage)
    yield from variants(AuthoredImage, seen)


def smallest(kind: type[Any]) -> Any:
    """A node with all fields at their defaults, or else at a first value."""
    hints = typing.get_type_hints(kind)
    must = [field.name for field in attrs.fields(kind) if field.default is attrs.NOTHING]
    return kind(**{name: first_value(hints[name]) for name in must})


def first_value(hint: Any) -> Any:
    if typing.get_origin(hint) is tuple:
        return ()
    if issubclass(hint, Node):
        return smallest(hint)
    return next(iter(hint)) if issubclass(hint, enum.Enum) else Blob.of(b"") if hint is Blob else hint()


def variants(kind: type[Any], seen: set[type[Any]]) -> Iterator[Any]:
    """Nodes that differ from the smallest one in one field each; those of a kind that was ``seen`` are left out."""
    if kind in seen:
        return
    seen.add(kind)
    hints, node = typing.get_type_hints(kind), smallest(kind)
    for field in attrs.fields(kind):
        if field.eq:
            for value in other_values(hints[field.name], seen):
                if value != getattr(node, field.name):
                    yield attrs.evolve(node, **{field.name: value})


def other_values(hint: Any, seen: set[type[Any]]) -> Iterator[Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {typing.Union, types.UnionType}:
        for argument in arguments:
            yield from other_values(argument, seen)
    elif origin is tuple and arguments[-1] is Ellipsis:
        yield from ((value,) for value in other_values(arguments[0], seen))
    elif origin is tuple:
        yield tuple(next(other_values(argument, seen)) for argument in arguments)
    elif isinstance(hint, typing.NewType):
        yield from other_values(hint.__supertype__, seen)
    elif issubclass(hint, Node):
        yield smallest(hint)
        yield from variants(hint, seen)
    elif issubclass(hint, enum.Enum):
        yield from hint
    elif hint is Blob:
        yield Blob.of(b"other")
    else:
        yield from {bool: (True, False), type(None): (None,)}.get(hint) or (_OTHER[hint],)
