"""The JSON Schema (draft 2020-12) of YAML recipes, made of the table of keys and the builders' own signatures."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from tdx._attributes import Attribute
from tdx._declare import Parameter, signature_of
from tdx._kinds import Choice, Constrained, Either, Kind, ListOf, MapOf, Plain, kind_of
from tdx.image import Image
from tdx.yaml.descriptions import describe_parameter
from tdx.yaml.keys import KEYS, Key, Shape

Schema = dict[str, Any]

DIALECT = "https://json-schema.org/draft/2020-12/schema"

_TYPES = {str: "string", int: "integer", bool: "boolean", type(None): "null"}


def json_schema() -> Schema:
    """The schema as plain data, in the order of the table."""
    return {
        "$schema": DIALECT,
        "title": "tdxvm recipe",
        "description": "A recipe for a reproducible, measured Intel TDX virtual machine image.",
        "type": "object",
        "additionalProperties": False,
        "properties": {key.name: _key_schema(key) for key in KEYS},
        "$defs": {
            "profile": {
                "description": "A delta over the image.",
                "type": ["object", "null"],
                "additionalProperties": False,
                "properties": {key.name: {"$ref": f"#/properties/{key.name}"} for key in KEYS if key.in_profile},
            }
        },
    }


def _key_schema(key: Key) -> Schema:
    return {"description": key.description, **_value_schema(key)}


def _value_schema(key: Key) -> Schema:
    match key.shape:
        case Shape.ATTRIBUTE:
            return kind_schema(_attribute_kind(key.target))
        case Shape.CALL | Shape.VALUE:
            return _builder_schema(key)
        case Shape.EACH | Shape.VALUES:
            return _list(_builder_schema(key))
        case Shape.WORDS:
            return _list(kind_schema(_word_kind(key)))
        case Shape.VARIANT:
            return _variant_schema(key)
        case Shape.VARIANTS:
            return _list(_variant_schema(key))
        case Shape.MODULES:
            return _list(_module_schema())
        case Shape.PROFILES:
            return {
                "type": ["object", "null"],
                "propertyNames": {"pattern": "^[A-Za-z0-9][A-Za-z0-9_-]{0,63}$"},
                "additionalProperties": {"$ref": "#/$defs/profile"},
            }


def kind_schema(kind: Kind) -> Schema:
    """The schema of a kind of values."""
    match kind:
        case Plain():
            return {"type": _TYPES[kind.type]} if kind.type in _TYPES else {}
        case Choice():
            return {"enum": list(kind.values)}
        case ListOf():
            return {"type": "array", "items": kind_schema(kind.item)}
        case MapOf():
            return _map_schema(kind)
        case Either():
            return _either_schema(kind)
        case Constrained():
            return kind_schema(kind.kind) | _constraint_schema(kind)


def _map_schema(kind: MapOf) -> Schema:
    schema: Schema = {"type": "object", "additionalProperties": kind_schema(kind.value) or True}
    names = kind_schema(kind.key)
    if "pattern" in names:
        schema["propertyNames"] = {"pattern": names["pattern"]}
    return schema


def _either_schema(kind: Either) -> Schema:
    arms = [kind_schema(arm) for arm in kind.arms if _is_yaml(arm)]
    if all(set(arm) == {"type"} for arm in arms):
        types = list(dict.fromkeys(arm["type"] for arm in arms))
        return {"type": types[0] if len(types) == 1 else types}
    return arms[0] if len(arms) == 1 else {"anyOf": arms}


def _constraint_schema(kind: Constrained) -> Schema:
    constraint = kind.constraint
    schema: Schema = {}
    if constraint.pattern:
        schema["pattern"] = constraint.pattern
    if constraint.minimum is not None:
        schema["minimum"] = constraint.minimum
    if constraint.maximum is not None:
        schema["maximum"] = constraint.maximum
    return schema


def _is_yaml(kind: Kind) -> bool:
    """Whether a YAML document can hold a value of this kind; classes of Python (paths, bytes) it cannot."""
    return not isinstance(kind, Plain) or kind.type in _TYPES or kind.type is object


def _builder_schema(key: Key) -> Schema:
    if key.builder is None:
        return {}
    schema = _arguments_schema(key.name, key.builder)
    if not key.shorthand:
        return schema
    parameter = next(each for each in signature_of(_function(key.builder)).parameters if each.name == key.shorthand)
    return {"anyOf": [kind_schema(parameter.kind), schema]}


def _arguments_schema(key: str, builder: Callable[..., Any]) -> Schema:
    parameters = signature_of(_function(builder)).parameters
    required = [parameter.name for parameter in parameters if parameter.required]
    schema: Schema = {
        "type": "object" if required else ["object", "null"],
        "additionalProperties": False,
        "properties": {parameter.name: _parameter_schema(key, parameter) for parameter in parameters},
    }
    return schema | ({"required": required} if required else {})


def _parameter_schema(key: str, parameter: Parameter) -> Schema:
    return {"description": describe_parameter(key, parameter.name), **kind_schema(parameter.kind)}


def _variant_schema(key: Key) -> Schema:
    words = [word for word, builder in key.variants if not _required(builder)]
    mappings: list[Schema] = [
        {
            "type": "object",
            "additionalProperties": False,
            "required": [word],
            "properties": {word: _arguments_schema(key.name, builder)},
        }
        for word, builder in key.variants
    ]
    return {"anyOf": [*([{"enum": words}] if words else []), *mappings]}


def _module_schema() -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "required": ["use"],
        "properties": {
            "use": {
                "description": "The dotted name of a class with apply(image).",
                "type": "string",
                "pattern": r"^[A-Za-z_]\w*(\.[A-Za-z_]\w*)+$",
            },
            "with": {"description": "The arguments of the class.", "type": ["object", "null"]},
        },
    }


def _required(builder: Callable[..., Any]) -> bool:
    return any(parameter.required for parameter in signature_of(_function(builder)).parameters)


def _function(builder: Callable[..., Any]) -> Callable[..., Any]:
    """The function whose signature counts: a class is made by its ``__init__``."""
    function: Callable[..., Any] = vars(builder)["__init__"] if isinstance(builder, type) else builder
    return getattr(function, "__func__", function)


def _attribute_kind(name: str) -> Kind:
    attribute: Attribute[Any] = vars(Image)[name]
    return kind_of(attribute.hint)


def _word_kind(key: Key) -> Kind:
    return next(each.kind for each in signature_of(getattr(Image, key.target)).parameters if each.variadic)


def _list(items: Schema) -> Schema:
    return {"type": ["array", "null"], "items": items}
