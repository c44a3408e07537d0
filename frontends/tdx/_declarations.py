"""What all groups of an image's declarations share: the layers that a declaration goes to, and where it stands."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, DiagnosticSink, SourceSpan
from tdxc.ir import Directive, Node, Section

from tdx._callsite import caller_span
from tdx._declare import Site
from tdx._layer import LayerBuilder, PendingModule

NodeT = TypeVar("NodeT", bound=Node)

_SECTION_ORDER = {"Unit": 0, "Install": 2}


@records.frozen(kw_only=True)
class State:
    """Where declarations go now: to which layers, for which profiles (None outside of any), and from which place.

    ``site`` is None where each declaration is its own Python call.
    """

    layers: tuple[LayerBuilder, ...]
    profiles: tuple[str, ...] | None = None
    site: Site | None = None
    in_module: bool = False


class Declarations:
    """What an image has behind its groups of declarations."""

    _root: Path
    _faults: DiagnosticSink
    _state: State
    _current: SourceSpan | None
    _counters: dict[str, int]
    _assigned: dict[str, Any]

    def enter_state(self, state: State) -> State:
        """Replace where declarations go; gives the former state."""
        former, self._state = self._state, state
        return former

    def enter_site(self, site: Site | None) -> Site | None:
        """Replace the place of declarations that are no Python calls; gives the former one."""
        former = self._state.site
        self._state = records.evolve(self._state, site=site)
        return former

    @property
    def faults(self) -> tuple[Diagnostic, ...]:
        """What is wrong with the declarations so far, in source order."""
        return self._faults.diagnostics

    def report(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Add faults that were found elsewhere."""
        self._faults.extend(diagnostics)

    @property
    def _given_site(self) -> Site | None:
        """The place of declarations that are no Python calls of the recipe."""
        return self._state.site

    @property
    def _span(self) -> SourceSpan:
        """The place of the declaration that goes on."""
        return self._current or SourceSpan()

    def _place(self, argument: str, index: int | None = None) -> SourceSpan:
        """The place of one argument, or of one item of it, as near as it is known."""
        site = self._state.site
        return self._span if site is None else site.span_of(argument, index)

    def _key_place(self, *path: str) -> SourceSpan:
        """The place of a key in an argument that is a mapping, as near as it is known.

        A directive that is not in the mapping has an argument of its own: ``OnCalendar`` is from ``on_calendar``.
        """
        site = self._state.site
        if site is None:
            return self._span
        argument = re.sub("(?<=[a-z])(?=[A-Z])", "_", path[-1]).lower()
        return site.keys.get(".".join(path)) or site.keys.get(argument, self._span)

    @property
    def place(self) -> SourceSpan:
        """Where in the recipe the declarations that go on stand."""
        return self._state.site.span if self._state.site else caller_span(self._root)

    def declare(self, field: str, *nodes: Node) -> None:
        """Declare nodes of the IR; for modules of this package, which have checked them."""
        self._add(field, nodes)

    def declare_one(self, field: str, node: Node) -> None:
        """Declare a node of which a layer has one."""
        self._put(field, node)

    def _add(self, field: str, nodes: Iterable[Node | PendingModule]) -> None:
        given = tuple(nodes)
        for layer in self._state.layers:
            layer.add(field, *given)

    def _put(self, field: str, node: Node | None) -> None:
        for layer in self._state.layers:
            layer.put(field, node)

    def _merge(self, field: str, node: Node) -> None:
        for layer in self._state.layers:
            layer.merge(field, node)

    def _count(self, what: str) -> int:
        """1 for the first call with ``what``, and so on."""
        self._counters[what] = self._counters.get(what, 0) + 1
        return self._counters[what]

    def _fault(self, code: Code, message: str, fix: str = "") -> DiagnosticError:
        """An error at the declaration that goes on; raising it skips the declaration and keeps the fault."""
        return DiagnosticError.of(code, message, self._span, fix=fix)


KeyPlace = Callable[..., SourceSpan]
"""The place of a key, by its path from the argument on: that of the declaration where it is not known."""


def with_span(nodes: Iterable[NodeT], span: SourceSpan) -> tuple[NodeT, ...]:
    """The nodes, standing at ``span``."""
    return tuple(records.evolve(node, span=span) for node in nodes)


def make_sections(
    sections: Mapping[str, Mapping[str, object]] | None, place: KeyPlace, argument: str
) -> tuple[Section, ...]:
    """Unit file sections from a mapping, an ``argument``: ``Unit`` first, ``Install`` last, and keys sorted.

    The order of a mapping's keys never reaches the image; the order of the values of one key does.
    """
    return tuple(
        Section(name=name, directives=make_directives(directives, place, argument, name), span=place(argument, name))
        for name, directives in sorted(
            (sections or {}).items(), key=lambda item: (_SECTION_ORDER.get(item[0], 1), item[0])
        )
    )


def make_directives(directives: Mapping[str, object], place: KeyPlace, *path: str) -> tuple[Directive, ...]:
    """Directives from a mapping, sorted by key; a list repeats its key, booleans become yes and no."""
    found: list[Directive] = []
    for key, given in sorted(directives.items()):
        span = place(*path, key)
        values = given if isinstance(given, list | tuple) else (given,)
        for value in values:
            text = ("yes" if value else "no") if isinstance(value, bool) else str(value)
            if "\n" in text or "\r" in text or "\0" in text:
                message = f"the value of {key}= holds a line break or NUL, which a unit file cannot hold"
                raise DiagnosticError.of(Code.E_VALUE, message, span)
            found.append(Directive(key=key, value=text, span=span))
    return tuple(found)
