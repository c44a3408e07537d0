"""A record behaves as the class that attrs would have made: each law is checked on one of each."""

from __future__ import annotations

import copy
import operator
import pickle
from collections.abc import Callable, Mapping
from typing import Any

import attrs
import pytest
from tdxc import records


def _sorted(values: Mapping[str, int]) -> dict[str, int]:
    return dict(sorted(values.items()))


@records.frozen(kw_only=True)
class Base:
    """Where it stems from is no part of the value."""

    origin: str = records.field(default="", eq=False, repr=False)


@records.frozen(kw_only=True)
class Record(Base):
    """Every kind of field that records know."""

    name: str
    size: int = 3
    parts: tuple[str, ...] = ()
    table: Mapping[str, int] = records.field(factory=dict, converter=_sorted, eq=False)

    @property
    def title(self) -> str:
        """A property survives."""
        return self.name.title()


@attrs.frozen(kw_only=True)
class AttrsBase:
    """The same, made by attrs."""

    origin: str = attrs.field(default="", eq=False, repr=False)


@attrs.frozen(kw_only=True)
class AttrsRecord(AttrsBase):
    """The same, made by attrs."""

    name: str
    size: int = 3
    parts: tuple[str, ...] = ()
    table: Mapping[str, int] = attrs.field(factory=dict, converter=_sorted, eq=False)

    @property
    def title(self) -> str:
        """A property survives."""
        return self.name.title()


@records.frozen
class Point:
    """Positional."""

    x: int
    y: int = 0


@attrs.frozen
class AttrsPoint:
    """Positional."""

    x: int
    y: int = 0


@records.frozen(kw_only=True, order=True)
class Place:
    """Ordered."""

    line: int = 0
    column: int = 0


@records.frozen(init=False)
class Words:
    """With an ``__init__`` of its own."""

    words: tuple[str, ...]

    def __init__(self, *words: str) -> None:
        self.__attrs_init__(words)


def _pickled(record: Any) -> Any:
    return pickle.loads(pickle.dumps(record))  # noqa: S301 - written a moment ago


RECORDS = pytest.mark.parametrize("cls", [Record, AttrsRecord])
POINTS = pytest.mark.parametrize("cls", [Point, AttrsPoint])


@RECORDS
def test_fields_get_their_defaults(cls: type[Any]) -> None:
    made = cls(name="a")
    assert (made.name, made.size, made.parts, made.table, made.origin, made.title) == ("a", 3, (), {}, "", "A")
    assert cls(name="b").table is not made.table


@RECORDS
def test_a_converter_sees_given_values(cls: type[Any]) -> None:
    assert list(cls(name="a", table={"z": 1, "b": 2}).table) == ["b", "z"]


@RECORDS
@pytest.mark.parametrize(
    "arguments", [{}, {"size": 1}, {"name": "a", "sice": 1}, {"sice": 1}, {"name": "a", "size": 1, "x": 1, "y": 2}]
)
def test_wrong_arguments_are_a_type_error(cls: type[Any], arguments: dict[str, Any]) -> None:
    with pytest.raises(TypeError):
        cls(**arguments)


@RECORDS
def test_keyword_only_fields_take_no_position(cls: type[Any]) -> None:
    with pytest.raises(TypeError):
        cls("a")


@POINTS
def test_positional_fields(cls: type[Any]) -> None:
    assert cls(1) == cls(x=1) == cls(1, 0) == cls(1, y=0)
    for call in (cls, lambda: cls(1, 2, 3), lambda: cls(1, x=1), lambda: cls(y=1)):
        with pytest.raises(TypeError):
            call()


@RECORDS
def test_equality_and_hash_are_by_the_fields_that_count(cls: type[Any]) -> None:
    one = cls(name="a", origin="here", table={"k": 1})
    assert one == cls(name="a", origin="there")
    assert hash(one) == hash(cls(name="a"))
    assert one != cls(name="b")
    assert one != cls(name="a", parts=("p",))
    assert {one, cls(name="a")} == {one}


def test_two_classes_with_the_same_fields_are_never_equal() -> None:
    others: tuple[object, ...] = (AttrsRecord(name="a"), Point(1, 2))
    assert Record(name="a") != others[0]
    assert Place(line=1, column=2) != others[1]


@RECORDS
@pytest.mark.parametrize("name", ["name", "size", "origin", "unheard_of"])
def test_nothing_can_be_set_or_deleted(cls: type[Any], name: str) -> None:
    made = cls(name="a")
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        setattr(made, name, 1)
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        delattr(made, name)
    assert not hasattr(made, "__dict__")


@RECORDS
def test_repr_shows_what_counts(cls: type[Any]) -> None:
    assert repr(cls(name="a", origin="here")) == f"{cls.__name__}(name='a', size=3, parts=(), table={{}})"


@RECORDS
@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, _pickled])
def test_copies_and_pickles_are_whole(cls: type[Any], copied: Callable[[Any], Any]) -> None:
    made = cls(name="a", parts=("p",), origin="here")
    assert copied(made) == made
    assert copied(made).origin == "here"


@RECORDS
@pytest.mark.parametrize("evolve", [records.evolve, attrs.evolve])
def test_evolve_changes_what_it_is_told(cls: type[Any], evolve: Callable[..., Any]) -> None:
    made = cls(name="a", size=4, origin="here", table={"k": 1})
    changed = evolve(made, name="b")
    assert (changed.name, changed.size, changed.origin, changed.table) == ("b", 4, "here", {"k": 1})
    with pytest.raises(TypeError):
        evolve(made, sice=1)


def test_attrs_knows_records_as_its_own() -> None:
    ours, theirs = attrs.fields(Record), attrs.fields(AttrsRecord)
    compared = ("name", "default", "eq", "order", "hash", "repr", "init", "kw_only", "type", "alias", "validator")
    assert [[getattr(field, name) for name in compared] for field in ours] == [
        [getattr(field, name) for name in compared] for field in theirs
    ]
    known: type = Record
    assert attrs.has(known)
    assert attrs.asdict(Record(name="a")) == attrs.asdict(AttrsRecord(name="a"))
    assert attrs.fields(Base) is attrs.fields(Base)
    assert [field.name for field in attrs.fields(Base)] == ["origin"]


def test_order_is_by_the_fields_that_count() -> None:
    places = [Place(line=2), Place(line=1, column=3), Place(line=1)]
    assert sorted(places) == [Place(line=1), Place(line=1, column=3), Place(line=2)]
    assert Place(line=1) <= Place(line=1) < Place(line=2)
    assert Place(line=2) > Place(line=1) >= Place(line=1)
    with pytest.raises(TypeError):
        operator.lt(Place(line=1), (1, 0))
    with pytest.raises(TypeError):
        _ = Point(1) < Point(2)  # records have no order of their own


def test_a_class_may_bring_its_own_init() -> None:
    assert Words("a", "b").words == ("a", "b")
    assert Words("a") == Words("a")


def test_a_subclass_that_attrs_made_is_refused_rather_than_compared_wrongly() -> None:
    @attrs.frozen(kw_only=True, eq=False, repr=False)
    class Stray(Base):
        name: str

    with pytest.raises(TypeError, match=r"Stray is no record: declare it with @records\.frozen"):
        records.fields_of(Stray)


def test_a_record_on_a_base_that_is_none_is_refused() -> None:
    with pytest.raises(TypeError, match="AttrsBase is no record"):

        @records.frozen(kw_only=True)
        class Stray(AttrsBase):
            name: str
