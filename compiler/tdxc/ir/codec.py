"""Canonical JSON of the IR: sorted keys, no floats, content by digest, spans and causes left out.

The JSON of a node holds only fields that differ from their default, so that a new field with a default changes no
digest. ``schema`` in the envelope is raised when the meaning of a field changes.
"""

from __future__ import annotations

import enum
import functools
import hashlib
import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, TypeVar, cast

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir.blob import Blob
from tdxc.ir.image import AuthoredImage, ResolvedImage
from tdxc.ir.json_text import json_text
from tdxc.ir.node import Node, walk

if TYPE_CHECKING:
    from cattrs import Converter

SCHEMA_VERSION = 1

RootT = TypeVar("RootT", AuthoredImage, ResolvedImage)


def dumps(image: AuthoredImage | ResolvedImage) -> str:
    """The canonical JSON text of an image, indented by one space for reviewers, with a final newline."""
    envelope = {"schema": SCHEMA_VERSION, "kind": type(image).__name__, "image": to_data(image)}
    return json_text(envelope, sort_keys=True)


def loads(text: str, kind: type[RootT], blobs: Mapping[str, bytes] | None) -> RootT:
    """Read what :func:`dumps` wrote; ``blobs`` maps SHA-256 to content, or is None to leave contents empty.

    Raises E_VALUE for another schema or kind, unknown keys, wrong types or missing content.
    """
    try:
        envelope = json.loads(text)
        if envelope["schema"] != SCHEMA_VERSION or envelope["kind"] != kind.__name__:
            raise DiagnosticError.of(
                Code.E_VALUE,
                f"IR schema {envelope['schema']} of {envelope['kind']}, not {SCHEMA_VERSION} of {kind.__name__}",
                fix="compile the recipe again with this version of tdxc",
            )
        converter = _converter()
        data = envelope["image"]
    except (ValueError, KeyError, TypeError) as error:
        raise DiagnosticError.of(Code.E_VALUE, f"this is not an IR file: {error}") from error
    try:
        image: RootT = converter.structure(data, kind)
        return image if blobs is None else cast("RootT", _attach(image, blobs))
    except DiagnosticError:
        raise
    except Exception as error:
        from cattrs import transform_error

        raise DiagnosticError.of(Code.E_VALUE, "bad IR: " + "; ".join(transform_error(error, path="image"))) from error


def to_data(image: AuthoredImage | ResolvedImage) -> dict[str, Any]:
    """The image as plain JSON data."""
    return _node_data(image)


def digest(image: AuthoredImage) -> str:
    """SHA-256 (hex) of the compact canonical JSON: the recipe digest of the lockfile.

    Independent of time, environment, absolute paths, locale, hash seed and the order of dict insertion.
    """
    text = json.dumps({"schema": SCHEMA_VERSION, "image": to_data(image)}, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def blobs_of(image: AuthoredImage | ResolvedImage) -> dict[str, bytes]:
    """All content that the image refers to, by SHA-256."""
    found: dict[str, bytes] = {}
    for node in walk(image):
        for field in records.fields_of(type(node)):
            value = getattr(node, field.name)
            if isinstance(value, Blob):
                found[value.sha256] = value.data
    return found


def _node_data(node: Node) -> dict[str, Any]:
    """A node's fields that differ from their defaults. By hand, because cattrs generates code for each class first."""
    data = {}
    for name, default in _compared_fields(node):
        value = getattr(node, name)
        if value != default:
            data[name] = _plain(value)
    return data


def _compared_fields(node: Node) -> tuple[tuple[str, Any], ...]:
    cls: Any = type(node)
    return _compared(cls)


@functools.cache
def _compared(cls: Any) -> tuple[tuple[str, Any], ...]:
    """Name and default of the fields that are part of a node's value."""
    return tuple((field.name, field.default) for field in records.fields_of(cls) if field.eq)


def _plain(value: Any) -> Any:
    if type(value) is str:
        return value
    if isinstance(value, Node):
        return _node_data(value)
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, Blob):
        return {"sha256": value.sha256, "size_bytes": value.size_bytes}
    return value.value if isinstance(value, enum.Enum) else value


@functools.cache
def _converter() -> Converter:
    """Reads what :func:`to_data` makes, checking every type."""
    from cattrs import Converter
    from cattrs.gen import make_dict_structure_fn, override

    converter = Converter(forbid_extra_keys=True)

    def structure_node(cls: type[Any]) -> Any:
        omitted = {field.name: override(omit=True) for field in records.fields_of(cls) if not field.eq}
        return make_dict_structure_fn(cls, converter, _cattrs_forbid_extra_keys=True, **omitted)  # type: ignore[arg-type]

    def is_node(cls: Any) -> bool:
        return isinstance(cls, type) and issubclass(cls, Node)

    converter.register_structure_hook_factory(is_node, structure_node)
    converter.register_structure_hook(Blob, _structure_blob)
    for scalar in (str, int, bool):
        converter.register_structure_hook(scalar, _strict)
    return converter


def _strict(value: Any, kind: type[Any]) -> Any:
    """No coercion: ``"1"`` is not 1, and ``true`` is not 1 either. StrEnums come here as kinds of str."""
    if issubclass(kind, enum.Enum):
        return kind(value)
    if type(value) is not kind:
        raise TypeError(f"expected {kind.__name__}, got {type(value).__name__}")
    return value


def _structure_blob(value: Any, _kind: type[Any]) -> Blob:
    return Blob(sha256=_strict(value["sha256"], str), size_bytes=_strict(value["size_bytes"], int), data=b"")


def _attach(node: Any, blobs: Mapping[str, bytes]) -> Any:
    """Put content back into the blobs of a freshly decoded tree of nodes."""
    changes: dict[str, Any] = {}
    for field in records.fields_of(type(node)):
        value = getattr(node, field.name)
        if isinstance(value, Blob):
            changes[field.name] = _with_content(value, blobs)
        elif isinstance(value, Node):
            changes[field.name] = _attach(value, blobs)
        elif isinstance(value, tuple) and value and isinstance(value[0], Node):
            changes[field.name] = tuple(_attach(item, blobs) for item in value)
    return records.evolve(node, **changes) if changes else node


def _with_content(blob: Blob, blobs: Mapping[str, bytes]) -> Blob:
    data = blobs.get(blob.sha256)
    if data is None or hashlib.sha256(data).hexdigest() != blob.sha256:
        raise DiagnosticError.of(Code.E_VALUE, f"the content with SHA-256 {blob.sha256} is missing or damaged")
    return records.evolve(blob, data=data)
