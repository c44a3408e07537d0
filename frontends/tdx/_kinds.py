"""Kinds of values: the annotations of the DSL's own signatures, turned into checks.

One annotation serves the type checker, the check of each call, the check of each YAML value and the JSON Schema.
``Annotated[str, Constraint(...)]`` narrows a type to what an image can hold; :mod:`tdx._values` names those in use.
"""

from __future__ import annotations

import functools
import types
import typing
from collections.abc import Callable, Iterator, Mapping
from typing import Annotated, Any, Literal, get_args, get_origin

from tdxc import records
from tdxc.diagnostics import Code, Note, nearest

from tdx import _secret


@records.frozen
class Problem:
    """What is wrong with a value: a code, the rest of a sentence that begins with the value's name, and a fix.

    ``index`` is the item's, from 0, where only one item of a list is wrong.
    """

    code: Code
    text: str
    fix: str = ""
    index: int | None = None
    notes: tuple[Note, ...] = ()


@records.frozen(kw_only=True)
class Constraint:
    """A narrowing of a type: ``check`` gives a problem or None; ``pattern`` is an ECMA 262 regular expression.

    What is wrong with a value ``hidden`` is told without the value, which may be a password.
    """

    check: Callable[[Any], Problem | None]
    noun: str
    pattern: str = ""
    minimum: int | None = None
    maximum: int | None = None
    hidden: bool = False


@records.frozen
class Plain:
    """A value of one Python type; ``True`` is no integer."""

    type: type
    noun: str

    def accepts(self, value: object) -> bool:
        """Whether the type fits."""
        if self.type is int:
            return type(value) is int
        return isinstance(value, self.type)

    def problems(self, value: object) -> Iterator[Problem]:
        """A wrong type, or text that UTF-8 cannot hold; a secret has no type but its own."""
        if isinstance(value, _secret.SecretReference) and self.type is not _secret.SecretReference:
            yield secret_problem(value)
        elif not self.accepts(value):
            quotes = self.type is str and isinstance(value, int | float)
            yield wrong_type(self.noun, value, fix="put it into quotes" if quotes else "")
        elif isinstance(value, str) and not _is_utf8(value):
            yield Problem(Code.E_ENCODING, f"{value!r} holds a lone surrogate, which UTF-8 cannot write")


@records.frozen
class Choice:
    """One of some words."""

    values: tuple[str, ...]

    @property
    def noun(self) -> str:
        """What a value is called in messages."""
        return "one of " + ", ".join(f"'{value}'" for value in self.values)

    def accepts(self, value: object) -> bool:
        """Any text: a word outside of the list is a wrong value, not a wrong type."""
        return isinstance(value, str)

    def problems(self, value: object) -> Iterator[Problem]:
        """A wrong type, or a word that is not on the list, with the nearest one."""
        if not isinstance(value, str):
            yield wrong_type(self.noun, value)
        elif value not in self.values:
            close = nearest(value, self.values)
            fix = f"did you mean '{close}'?" if close else f"write {self.noun}"
            yield Problem(Code.E_VALUE, f"must be {self.noun}, not '{value}'", fix)


@records.frozen
class ListOf:
    """A list or tuple."""

    item: Kind

    @property
    def noun(self) -> str:
        """What a value is called in messages."""
        return f"a list ({self.item.noun} each)"

    def accepts(self, value: object) -> bool:
        """A list or tuple of anything."""
        return isinstance(value, list | tuple)

    def problems(self, value: object) -> Iterator[Problem]:
        """A wrong type, or the problems of each item."""
        if not isinstance(value, list | tuple):
            shown = repr(value) if isinstance(value, str | int | float) else "…"
            if self.item.accepts(value):  # a secret too, where secrets may stand
                text = f"must be {self.noun}, not {describe(value)}"
                yield Problem(Code.E_TYPE, text, f"put it into a list: [{shown}]")
            else:
                yield wrong_type(self.noun, value)
            return
        for index, item in enumerate(value):
            for problem in self.item.problems(item):
                yield records.evolve(problem, text=_of(f"item {index + 1}", problem.text), index=index)


@records.frozen
class MapOf:
    """A mapping with text keys."""

    key: Kind
    value: Kind

    @property
    def noun(self) -> str:
        """What a value is called in messages."""
        return f"a mapping (to {self.value.noun} each)"

    def accepts(self, value: object) -> bool:
        """A mapping of anything."""
        return isinstance(value, Mapping)

    def problems(self, value: object) -> Iterator[Problem]:
        """A wrong type, or the problems of each key and value."""
        if not isinstance(value, Mapping):
            yield wrong_type(self.noun, value)
            return
        for name, item in value.items():
            for problem in self.key.problems(name):
                text = problem.text.removeprefix(f"{name!r} ")
                yield records.evolve(problem, text=f"key {name!r} {text}")
            for problem in self.value.problems(item):
                yield records.evolve(problem, text=_of(f"[{name!r}]", problem.text))


@records.frozen
class Either:
    """A union."""

    arms: tuple[Kind, ...]

    @property
    def noun(self) -> str:
        """What a value is called in messages."""
        return " or ".join(arm.noun for arm in self.arms if not (isinstance(arm, Plain) and arm.type is type(None)))

    def accepts(self, value: object) -> bool:
        """Whether any arm's type fits."""
        return any(arm.accepts(value) for arm in self.arms)

    def problems(self, value: object) -> Iterator[Problem]:
        """Nothing when one arm is content; else what the first arm of a fitting type says."""
        fitting = [arm for arm in self.arms if arm.accepts(value)]
        if not fitting:
            yield wrong_type(self.noun, value)
            return
        found = [list(arm.problems(value)) for arm in fitting]
        if all(found):
            yield from found[0]


@records.frozen
class Constrained:
    """A kind with a further constraint."""

    kind: Kind
    constraint: Constraint

    @property
    def noun(self) -> str:
        """What a value is called in messages."""
        return self.constraint.noun

    def accepts(self, value: object) -> bool:
        """Whether the type fits."""
        return self.kind.accepts(value)

    def problems(self, value: object) -> Iterator[Problem]:
        """Those of the type, and then that of the constraint."""
        found = list(self.kind.problems(value))
        if not found and (problem := self.constraint.check(value)):
            found.append(problem)
        if self.constraint.hidden and any(problem.code is not Code.E_SECRET for problem in found):
            found = [Problem(Code.E_SECRET, f"must be {self.noun}")]
        yield from found


Kind = Plain | Choice | ListOf | MapOf | Either | Constrained

_PLAIN = {
    str: "a string",
    int: "an integer",
    bool: "true or false",
    bytes: "bytes",
    float: "a number",
    type(None): "nothing",
}
_ORDERED = (str, int, bool, bytes, float)


def kind_of(hint: Any) -> Kind:
    """The kind of an annotation. Raises TypeError for one that the DSL does not use."""
    return _kind_of(hint)


@functools.cache
def _kind_of(hint: Any) -> Kind:
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is Annotated:
        kind = kind_of(arguments[0])
        for constraint in arguments[1:]:
            kind = Constrained(kind, constraint)
        return kind
    if origin is Literal:
        return Choice(tuple(arguments))
    if origin in {typing.Union, types.UnionType}:
        return _either([kind_of(argument) for argument in arguments])
    if origin in {list, tuple}:
        return ListOf(kind_of(arguments[0]))
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return MapOf(kind_of(arguments[0]), kind_of(arguments[1]))
    if isinstance(hint, type) or hint is None:
        cls = type(None) if hint is None else hint
        return Plain(cls, _PLAIN.get(cls) or f"a {cls.__name__}")
    if isinstance(origin, type):
        return Plain(origin, f"a {origin.__name__}")
    raise TypeError(f"no kind for the annotation {hint!r}")


def _either(arms: list[Kind]) -> Kind:
    """A union without equal arms: ``list[X] | tuple[X, ...]`` is one kind.

    Its plain types stand in one order: ``int | str`` and ``str | int`` are equal, so typing's caches may give either.
    """
    unique = sorted(dict.fromkeys(arms), key=_place)
    return unique[0] if len(unique) == 1 else Either(tuple(unique))


def _place(arm: Kind) -> int:
    """Text and numbers, then everything else as it is written, then nothing."""
    if isinstance(arm, Plain) and arm.type in _ORDERED:
        return _ORDERED.index(arm.type)
    return len(_ORDERED) + (isinstance(arm, Plain) and arm.type is type(None))


def wrong_type(noun: str, value: object, fix: str = "") -> Problem:
    """The problem of a value that is not even of the right type."""
    if isinstance(value, _secret.SecretReference):
        return secret_problem(value)
    return Problem(Code.E_TYPE, f"must be {noun}, not {describe(value)}", fix)


def _of(place: str, text: str) -> str:
    """The rest of a sentence about an item: a verb goes on, a value begins anew."""
    return f"{place} {text}" if text[:1].isalpha() else f"{place}: {text}"


def secret_problem(secret: _secret.SecretReference) -> Problem:
    """The problem of a secret where something that everybody can read belongs."""
    text = f"is the secret '{secret.name}', and what stands there can be read by everybody who has the image"
    return Problem(Code.E_SECRET, text, _secret.FIX, notes=secret.notes())


def describe(value: object) -> str:
    """A value's type and, where short, the value, in a recipe author's words."""
    if value is None:
        return "nothing (null)"
    if isinstance(value, bool):
        return f"the boolean {str(value).lower()}"
    if isinstance(value, str):
        return f"the string {value!r}" if len(value) <= 40 else "a string"
    if isinstance(value, int | float):
        return f"the number {value}"
    if isinstance(value, list | tuple):
        return "a list"
    if isinstance(value, Mapping):
        return "a mapping"
    return f"a {type(value).__name__}"


def _is_utf8(value: str) -> bool:
    return value.isascii() or not any(0xD800 <= ord(ch) <= 0xDFFF for ch in value)
