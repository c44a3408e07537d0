"""Frozen records: ``attrs.frozen``, ``attrs.field`` and ``attrs.evolve`` without code generated for each class.

attrs writes an ``__init__`` for each class as text and compiles it: 0.3 ms a class, 30 ms at each start of the
compiler, a fifth of a whole compile. A record shares its methods with all others and costs a tenth of that::

    from tdxc import records

    @records.frozen(kw_only=True)
    class Note:
        message: str
        span: SourceSpan = UNKNOWN_SPAN

To a type checker these names *are* those of attrs, and a record behaves as the class that attrs would have made:
slotted, immutable, equal and hashed by value. attrs' own functions (and so cattrs) accept it: its attributes are
made by attrs itself when one of them first asks. What no record needs is left out: validators, aliases,
``super()`` without arguments, cached properties.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NamedTuple

__all__ = ["REQUIRED", "Field", "evolve", "field", "fields_of", "frozen"]

REQUIRED: Any = object()
"""The default of a field that has none."""


class Field(NamedTuple):
    """What a class says of one field; ``eq`` is also whether it counts for the hash and for the order."""

    name: str
    default: Any = REQUIRED
    factory: Callable[[], Any] | None = None
    converter: Callable[[Any], Any] | None = None
    eq: bool = True
    repr: bool = True
    kw_only: bool = False


class _Slots(NamedTuple):
    """How to get at all fields of a record: ``values`` gives them in the order of ``setters``.

    It is None where ``__init__`` alone may make a record, since it converts something or is the class's own.
    """

    setters: list[tuple[str, Callable[[object, Any], None]]]
    values: Callable[[Any], tuple[Any, ...]] | None
    names: frozenset[str]


class _Attributes:
    """``__attrs_attrs__``, by which attrs knows its classes, made by attrs on the first look at it."""

    def __get__(self, _record: object, cls: type) -> Any:
        import attrs

        twin = type(cls.__name__, (), {field.name: _attrs_field(field) for field in fields_of(cls)})
        twin.__annotations__ = {field.name: _annotation(cls, field.name) for field in fields_of(cls)}
        attributes = attrs.fields(attrs.frozen(twin))
        type.__setattr__(cls, "__attrs_attrs__", attributes)
        return attributes


def fields_of(cls: type) -> tuple[Field, ...]:
    """The fields of a record's class, those of its bases first. Raises TypeError for a class that is no record."""
    fields: tuple[Field, ...] | None = cls.__dict__.get("__record_fields__")
    if fields is None:
        raise TypeError(f"{cls.__qualname__} is no record: declare it with @records.frozen (see tdxc.records)")
    return fields


def _field(
    *,
    default: Any = REQUIRED,
    factory: Callable[[], Any] | None = None,
    converter: Callable[[Any], Any] | None = None,
    eq: bool = True,
    repr: bool = True,  # noqa: A002 - attrs' name for it
) -> Any:
    """What ``attrs.field`` would say of a field."""
    return Field("", default, factory, converter, eq, repr)


def _frozen(cls: type | None = None, *, kw_only: bool = False, order: bool = False, init: bool = True) -> Any:
    """What ``attrs.frozen`` would make of a class; with ``init=False`` the class calls ``self.__attrs_init__``."""
    if cls is None:
        return lambda cls: _frozen(cls, kw_only=kw_only, order=order, init=init)
    body = dict(cls.__dict__)
    own = [_declared(name, body.pop(name, REQUIRED), kw_only) for name in body.get("__annotations__", ())]
    names = {field.name for field in own}
    inherited = {field.name: field for base in cls.__bases__ if base is not object for field in fields_of(base)}
    fields = (*(field for field in inherited.values() if field.name not in names), *own)
    for unwanted in ("__dict__", "__weakref__"):
        body.pop(unwanted, None)
    body["__slots__"] = tuple(field.name for field in own if field.name not in inherited)
    body["__record_fields__"] = fields
    body["__attrs_attrs__"] = _Attributes()
    setters: list[tuple[str, Callable[[object, Any], None]]] = []
    body["__attrs_init__"] = made = _init_of(cls.__name__, fields, setters)
    body["__record_slots__"] = _slots_of(fields, setters, has_own_init=not init)
    if init:
        body["__init__"] = made
    body["__setattr__"], body["__delattr__"] = _refuse_to_set, _refuse_to_delete
    body["__getstate__"], body["__setstate__"] = _getstate, _setstate
    for name, method in _methods_of(fields, order=order).items():
        body.setdefault(name, method)
    record = type(cls)(cls.__name__, cls.__bases__, body)
    setters += ((field.name, getattr(record, field.name).__set__) for field in fields)
    return record


def _slots_of(
    fields: tuple[Field, ...], setters: list[tuple[str, Callable[[object, Any], None]]], *, has_own_init: bool
) -> _Slots:
    names = [field.name for field in fields]
    is_plain = not has_own_init and len(names) > 1 and not any(field.converter for field in fields)
    return _Slots(setters, operator.attrgetter(*names) if is_plain else None, frozenset(names))


def _declared(name: str, value: Any, kw_only: bool) -> Field:
    if isinstance(value, Field):
        return value._replace(name=name, kw_only=kw_only)
    return Field(name, value, kw_only=kw_only)


def _init_of(
    class_name: str, fields: tuple[Field, ...], setters: list[tuple[str, Callable[[object, Any], None]]]
) -> Callable[..., None]:
    """``__init__``: a closure over what it needs to know of the class, where attrs compiles a text.

    ``setters`` are those of the slots, filled in when the class exists: the fastest way past ``__setattr__``.
    """
    names = tuple(field.name for field in fields)
    positional = tuple(field.name for field in fields if not field.kw_only)
    defaults = {field.name: field.default for field in fields if field.default is not REQUIRED}
    adapted = tuple(field for field in fields if field.factory or field.converter)

    def init(self: object, *args: Any, **given: Any) -> None:
        if args:
            _take_positional(class_name, positional, args, given)
        if adapted:
            _adapt(adapted, given)
        values = {**defaults, **given}
        if len(values) != len(names):
            raise _wrong_arguments(class_name, names, values)
        try:
            for name, set_slot in setters:
                set_slot(self, values[name])
        except KeyError:
            raise _wrong_arguments(class_name, names, values) from None

    return init


def _adapt(fields: tuple[Field, ...], given: dict[str, Any]) -> None:
    for field in fields:
        if field.factory and field.name not in given:
            given[field.name] = field.factory()
        if field.converter and field.name in given:
            given[field.name] = field.converter(given[field.name])


def _take_positional(class_name: str, names: tuple[str, ...], args: tuple[Any, ...], given: dict[str, Any]) -> None:
    if len(args) > len(names):
        raise TypeError(f"{class_name}() takes {len(names)} positional arguments but {len(args)} were given")
    for name, value in zip(names, args, strict=False):
        if name in given:
            raise TypeError(f"{class_name}() got multiple values for argument '{name}'")
        given[name] = value


def _wrong_arguments(class_name: str, names: tuple[str, ...], values: dict[str, Any]) -> TypeError:
    unknown = [name for name in values if name not in names]
    if unknown:
        return TypeError(f"{class_name}() got an unexpected keyword argument '{unknown[0]}'")
    missing = ", ".join(f"'{name}'" for name in names if name not in values)
    return TypeError(f"{class_name}() is missing {missing}")


def _methods_of(fields: tuple[Field, ...], *, order: bool) -> dict[str, Any]:
    """What compares and shows a record, over the fields that count."""
    compared = [field.name for field in fields if field.eq]
    shown = [field.name for field in fields if field.repr]
    value: Callable[[Any], Any] = operator.attrgetter(*compared) if compared else _own_fields

    def eq(self: object, other: object) -> Any:
        return value(self) == value(other) if other.__class__ is self.__class__ else NotImplemented

    def hash_(self: object) -> int:
        return hash((self.__class__, value(self)))

    def repr_(self: object) -> str:
        return f"{type(self).__qualname__}({', '.join(f'{name}={getattr(self, name)!r}' for name in shown)})"

    methods = {"__eq__": eq, "__hash__": hash_, "__repr__": repr_}
    return {**methods, **_order_over(value)} if order else methods


def _own_fields(record: object) -> tuple[Field, ...]:
    """The value of a record without fields that count, but no subclass that is no record."""
    return fields_of(type(record))


def _order_over(value: Callable[[Any], Any]) -> dict[str, Any]:
    def comparing(compare: Callable[[Any, Any], bool]) -> Callable[[object, object], Any]:
        return lambda self, other: (
            compare(value(self), value(other)) if other.__class__ is self.__class__ else NotImplemented
        )

    return {f"__{name}__": comparing(getattr(operator, name)) for name in ("lt", "le", "gt", "ge")}


def _refuse_to_set(_self: object, _name: str, _value: object) -> None:
    from attrs.exceptions import FrozenInstanceError

    raise FrozenInstanceError


def _refuse_to_delete(_self: object, _name: str) -> None:
    from attrs.exceptions import FrozenInstanceError

    raise FrozenInstanceError


def _getstate(self: object) -> dict[str, Any]:
    return {field.name: getattr(self, field.name) for field in fields_of(type(self))}


def _setstate(self: object, state: dict[str, Any]) -> None:
    for name, value in state.items():
        object.__setattr__(self, name, value)


def _evolve(record: Any, **changes: Any) -> Any:
    """A copy of a record (or of any class of attrs) with some fields changed. Raises TypeError for an unknown field."""
    if "__record_fields__" not in type(record).__dict__:
        import attrs

        return attrs.evolve(record, **changes)
    slots: _Slots = record.__record_slots__
    if slots.values is None or not changes.keys() <= slots.names:
        return type(record)(**{**_getstate(record), **changes})
    evolved = object.__new__(type(record))
    for (_, set_slot), value in zip(slots.setters, slots.values(record), strict=True):
        set_slot(evolved, value)
    for name, value in changes.items():
        getattr(type(record), name).__set__(evolved, value)
    return evolved


def _attrs_field(field: Field) -> Any:
    import attrs

    if field.factory:
        value = {"factory": field.factory}
    else:
        value = {} if field.default is REQUIRED else {"default": field.default}
    return attrs.field(**value, converter=field.converter, eq=field.eq, repr=field.repr, kw_only=field.kw_only)  # type: ignore[call-overload]  # which overload it is depends on the field


def _annotation(cls: type, name: str) -> Any:
    import inspect

    annotations = (inspect.get_annotations(base) for base in cls.__mro__)
    return next(found[name] for found in annotations if name in found)


if TYPE_CHECKING:
    from attrs import evolve, field, frozen
else:
    evolve, field, frozen = _evolve, _field, _frozen
