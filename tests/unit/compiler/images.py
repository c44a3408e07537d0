"""Hypothesis strategies for authored images, built from the node classes themselves so that no field is forgotten."""

from __future__ import annotations

import enum
import types
import typing
from typing import Any

import attrs
from hypothesis import strategies as st
from tdxc.diagnostics import SourceSpan
from tdxc.ir import AuthoredImage, Blob, Node

texts = st.text(st.characters(codec="utf-8"), max_size=8)
spans = st.builds(SourceSpan, file=st.just("recipe.py"), line=st.integers(1, 99), column=st.integers(1, 9))
_DEPTH = 3


def authored_images() -> st.SearchStrategy[AuthoredImage]:
    """Any image at all that the types allow; it need not be one that compiles."""
    return nodes(AuthoredImage, _DEPTH)


def nodes(kind: type[Any], depth: int) -> st.SearchStrategy[Any]:
    hints = typing.get_type_hints(kind)
    fields = {field.name: values(hints[field.name], depth) for field in attrs.fields(kind) if field.eq}
    return st.builds(kind, span=spans, **fields)


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
