"""Calls of the DSL: every argument checked against the signature's own annotations, every fault kept with its line.

``@declares`` wraps an image's method: faults go to the image's sink and the call does nothing, so that a recipe
reports all of them at once. ``@describes`` wraps what makes a value (``Kernel.tdx``, ``Policy``): it raises.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, DiagnosticSink, SourceSpan, nearest

from tdx._callsite import caller_span
from tdx._kinds import Kind, Problem, kind_of
from tdx._session import active_session

P = ParamSpec("P")
ResultT = TypeVar("ResultT")


@records.frozen(kw_only=True)
class Site:
    """Where a declaration stands when it is not a Python call: a module's caller, or a place in a YAML file.

    ``arguments``, ``items`` and ``keys`` are the places of each argument's value, of its items and of its name, and of
    the keys in an argument that is a mapping (``overrides.UMask``); ``label`` and ``noun`` are what the declaration and
    its arguments are called in messages.
    """

    span: SourceSpan
    arguments: Mapping[str, SourceSpan] = records.field(factory=dict)
    items: Mapping[str, tuple[SourceSpan, ...]] = records.field(factory=dict)
    keys: Mapping[str, SourceSpan] = records.field(factory=dict)
    label: str = ""
    noun: str = "keyword"

    def span_of(self, argument: str, index: int | None = None) -> SourceSpan:
        """The place of one argument, or of an item of it; that of the whole where it is not known."""
        items = self.items.get(argument, ())
        if index is not None and index < len(items):
            return items[index]
        return self.arguments.get(argument, self.span)


class Declaring(Protocol):
    """What ``@declares`` needs of an image."""

    _faults: DiagnosticSink
    _root: Path
    _current: SourceSpan | None

    @property
    def _given_site(self) -> Site | None: ...


DeclaringT = TypeVar("DeclaringT", bound=Declaring)


@records.frozen
class Parameter:
    """One parameter of a call: whose and its name, the kind of its values, and whether it can be left out."""

    function: Callable[..., Any]
    name: str
    required: bool
    variadic: bool
    keyword_only: bool

    @property
    def kind(self) -> Kind:
        """The kind of its values, by its annotation; found out when first asked for, since most calls give few."""
        return _annotated_kind(self.function, self.name)

    def problems(self, given: Any) -> Iterator[Problem]:
        """What is wrong with what it was given, of several values up to the first one of a wrong type."""
        for value in given if self.variadic else (given,):
            for problem in self.kind.problems(value):
                listed = self.variadic and isinstance(value, list | tuple)
                fix = "give each as an argument of its own: leave the brackets out, or put '*' before them"
                yield records.evolve(problem, fix=fix) if listed else problem
                if self.variadic and problem.code is Code.E_TYPE:
                    return


@records.frozen
class Signature:
    """What a call takes; ``names`` are those of the parameters that may be given by keyword."""

    label: str
    parameters: tuple[Parameter, ...]
    names: tuple[str, ...]

    def faults(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any], site: Site) -> Iterator[Diagnostic]:
        """All that is wrong with a call's arguments."""
        label = site.label or f"{self.label}()"
        given, surplus = self._bind(arguments, keywords)
        if surplus:
            most = len(arguments) - len(surplus)
            count = ("no arguments", "no more than 1 argument")[most] if most < 2 else f"no more than {most} arguments"
            message = f"{label} takes {count} without a name"
            yield Diagnostic(code=Code.E_TYPE, message=message, span=site.span, fix=f"name them: {self._names_text}")
        unknown = [name for name in keywords if name not in self.names]  # one of these may be what is missing
        for name in keywords:
            if name in unknown:
                yield self._unknown(name, label, site)
            elif given[name] is not keywords[name]:
                message = f"{label} gets {name} twice, with its name and without"
                yield Diagnostic(code=Code.E_TYPE, message=message, span=site.span)
        for parameter in self.parameters:
            if parameter.name not in given:
                if parameter.required and not unknown and not surplus:
                    message = f"{label} needs {parameter.name}"
                    fix = f"add {parameter.name}: {parameter.kind.noun}"
                    yield Diagnostic(code=Code.E_TYPE, message=message, span=site.span, fix=fix)
                continue
            for problem in parameter.problems(given[parameter.name]):
                yield _diagnostic(problem, f"{label}: {parameter.name}", site.span_of(parameter.name, problem.index))

    @property
    def _names_text(self) -> str:
        return ", ".join(self.names)

    def _bind(self, arguments: tuple[Any, ...], keywords: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[Any, ...]]:
        given: dict[str, Any] = {}
        rest = arguments
        for parameter in self.parameters:
            if parameter.variadic:
                given[parameter.name], rest = rest, ()
            elif rest and not parameter.keyword_only:
                given[parameter.name], rest = rest[0], rest[1:]
            elif parameter.name in keywords:
                given[parameter.name] = keywords[parameter.name]
        return given, rest

    def _unknown(self, name: str, label: str, site: Site) -> Diagnostic:
        close = nearest(name, self.names)
        fix = f"did you mean '{close}'?" if close else f"it takes: {self._names_text}"
        message = f"{label} has no {site.noun} '{name}'"
        return Diagnostic(code=Code.E_KEY, message=message, span=site.keys.get(name, site.span), fix=fix)


@functools.cache
def signature_of(function: Callable[..., Any]) -> Signature:
    """The signature of a function of the DSL; parameters without an annotation (self, cls) are not checked."""
    function = inspect.unwrap(function)
    parameters = tuple(
        Parameter(
            function=function,
            name=name,
            required=parameter.default is parameter.empty and parameter.kind is not parameter.VAR_POSITIONAL,
            variadic=parameter.kind is parameter.VAR_POSITIONAL,
            keyword_only=parameter.kind is parameter.KEYWORD_ONLY,
        )
        for name, parameter in inspect.signature(function).parameters.items()
        if name in function.__annotations__
    )
    label = function.__qualname__ if function.__name__ != "__init__" else function.__qualname__.split(".")[-2]
    return Signature(
        label=label.rpartition("Declarations.")[2].removeprefix("Verbs."),
        parameters=parameters,
        names=tuple(parameter.name for parameter in parameters if not parameter.variadic),
    )


@functools.cache
def _annotated_kind(function: Callable[..., Any], name: str) -> Kind:
    """What ``typing.get_type_hints`` makes of all annotations of a function, for one of them and in less time."""
    hint = function.__annotations__[name]
    if isinstance(hint, str):
        hint = eval(hint, function.__globals__)  # noqa: S307 - text of this package's own signatures
    return kind_of(hint)


def declares(
    method: Callable[Concatenate[DeclaringT, P], None],
) -> Callable[Concatenate[DeclaringT, P], None]:
    """A method that declares something: checked, and its faults collected in the image instead of raised."""

    @functools.wraps(method)
    def declare(self: DeclaringT, /, *args: P.args, **kwargs: P.kwargs) -> None:
        if self._current is not None:
            method(self, *args, **kwargs)
            return
        site = self._given_site or Site(span=caller_span(self._root))
        faults = tuple(signature_of(method).faults(args, kwargs, site))
        if faults:
            self._faults.extend(faults)
            return
        self._current = site.span
        try:
            method(self, *args, **kwargs)
        except DiagnosticError as error:
            self._faults.extend(error.diagnostics)
        finally:
            self._current = None

    return declare


_DESCRIBING: list[Site] = []


def describes(function: Callable[P, ResultT]) -> Callable[P, ResultT]:
    """A call that makes a value of the recipe: checked, raising all its faults as one DiagnosticError."""

    @functools.wraps(function)
    def describe(*args: P.args, **kwargs: P.kwargs) -> ResultT:
        unbound = args[1:] if _is_method(function) else args
        faults = tuple(signature_of(function).faults(unbound, kwargs, _site()))
        if faults:
            raise DiagnosticError(faults)
        return function(*args, **kwargs)

    return describe


class describing_at:  # noqa: N801 - used as a word: `with describing_at(site):`
    """Give ``@describes`` calls in the block a place that is not a Python line."""

    def __init__(self, site: Site) -> None:
        self._site = site

    def __enter__(self) -> None:
        _DESCRIBING.append(self._site)

    def __exit__(self, *_exception: object) -> None:
        _DESCRIBING.pop()


def here() -> SourceSpan:
    """The place of the ``@describes`` call that goes on."""
    return _site().span


def site_here() -> Site:
    """The same with the places of its arguments."""
    return _site()


def given_site() -> Site | None:
    """The place of a value that is no Python call, if there is one."""
    return _DESCRIBING[-1] if _DESCRIBING else None


def _site() -> Site:
    if _DESCRIBING:
        return _DESCRIBING[-1]
    session = active_session()
    return Site(span=caller_span(session.root if session else None))


@functools.cache
def _is_method(function: Callable[..., Any]) -> bool:
    return function.__code__.co_varnames[:1] in {("self",), ("cls",)}


def _diagnostic(problem: Problem, name: str, span: SourceSpan) -> Diagnostic:
    message = f"{name} {problem.text}"
    return Diagnostic(code=problem.code, message=message, span=span, fix=problem.fix, notes=problem.notes)
