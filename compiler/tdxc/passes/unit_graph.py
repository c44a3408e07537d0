"""The order of an image's units as a graph: which unit comes after which, why, and where the recipe says so."""

from __future__ import annotations

import collections
from collections.abc import Iterable, Iterator, Mapping

from tdxc import records
from tdxc.diagnostics import UNKNOWN_SPAN, SourceSpan
from tdxc.ir import DropIn, Unit
from tdxc.passes.known_units import STATIC_AFTER
from tdxc.passes.unit_sections import is_false, last_value

PULLING_KEYS = ("Requires", "Wants", "BindsTo", "Requisite", "Upholds")
"""Directives that start another unit along with their own, or fail without it (systemd.unit(5))."""


@records.frozen
class Wait:
    """``later`` comes after ``earlier``; ``reason`` says by which directive or default."""

    later: str
    earlier: str
    reason: str
    span: SourceSpan = UNKNOWN_SPAN


def waits(
    units: Iterable[Unit], extra: Iterable[str] = (), drop_ins: Iterable[DropIn] = ()
) -> dict[str, dict[str, Wait]]:
    """For each unit the waits on others: explicit ones, systemd's defaults, and those among the targets of boot-up.

    ``extra`` are further known units whose own order shall be part of the graph; ``drop_ins`` add to that of theirs.
    """
    own = {unit.name: unit for unit in units}
    changed = [Unit(span=drop_in.span, name=drop_in.unit, sections=drop_in.sections) for drop_in in drop_ins]
    graph: dict[str, dict[str, Wait]] = {name: {} for name in (*own, *extra)}
    _add(graph, (wait for unit in (*own.values(), *changed) for wait in _explicit(unit)))
    _add(graph, (wait for unit in own.values() for wait in _default(unit)))
    for unit in own.values():
        _add(graph, tuple(_by_targets(unit, own, graph)))
    _add_boot_up(graph, own)
    return graph


def _add(graph: dict[str, dict[str, Wait]], found: Iterable[Wait]) -> None:
    """Add waits, the first of two for one pair kept."""
    for wait in found:
        graph.setdefault(wait.earlier, {})
        graph.setdefault(wait.later, {}).setdefault(wait.earlier, wait)


def _add_boot_up(graph: dict[str, dict[str, Wait]], own: Mapping[str, Unit]) -> None:
    """The order among units of boot-up that the image does not bring, with the targets that this adds."""
    pending = [name for name in graph if name not in own]
    for name in pending:
        for earlier in STATIC_AFTER.get(name, ()):
            if earlier not in graph and earlier.endswith(".target"):
                pending.append(earlier)
            if earlier in graph or earlier.endswith(".target"):
                _add(graph, (Wait(later=name, earlier=earlier, reason="systemd orders it so"),))


def named_units(unit: Unit, *keys: str) -> Iterator[tuple[str, SourceSpan]]:
    """Unit names in ``[Unit]`` lists of these keys with their places; names with specifiers are left out."""
    for section in unit.sections:
        for directive in section.directives if section.name == "Unit" else ():
            if directive.key in keys:
                yield from ((word, directive.span) for word in directive.value.split() if "%" not in word)


def has_default_dependencies(unit: Unit) -> bool:
    """Whether systemd adds its usual dependencies to the unit."""
    return not is_false(last_value(unit, "Unit", "DefaultDependencies"))


def _explicit(unit: Unit) -> Iterator[Wait]:
    for name, span in named_units(unit, "After"):
        yield Wait(later=unit.name, earlier=name, reason=f"After= of {unit.name}", span=span)
    for name, span in named_units(unit, "Before"):
        yield Wait(later=name, earlier=unit.name, reason=f"Before= of {unit.name}", span=span)


_DEFAULT_AFTER = {
    "service": ("sysinit.target", "basic.target"),
    "socket": ("sysinit.target",),
    "timer": ("sysinit.target",),
    "path": ("sysinit.target",),
    "mount": ("local-fs-pre.target",),
}
_DEFAULT_BEFORE = {
    "socket": "sockets.target",
    "timer": "timers.target",
    "path": "paths.target",
    "mount": "local-fs.target",
}
"""systemd.service(5), .socket(5), .timer(5), .path(5) and .mount(5), "Default Dependencies"."""


def _default(unit: Unit) -> Iterator[Wait]:
    if not has_default_dependencies(unit):
        return
    kind = unit.name.rpartition(".")[2]
    for name in _DEFAULT_AFTER.get(kind, ()):
        yield Wait(later=unit.name, earlier=name, reason=f"default of a {kind}", span=unit.span)
    if kind in _DEFAULT_BEFORE:
        yield Wait(later=_DEFAULT_BEFORE[kind], earlier=unit.name, reason=f"default of a {kind}", span=unit.span)


def _by_targets(unit: Unit, own: Mapping[str, Unit], graph: Mapping[str, Mapping[str, Wait]]) -> Iterator[Wait]:
    """A target comes after what it pulls in, unless one of both has no default dependencies or comes before it."""
    pulled_by = [(target, unit.name) for target in (*unit.wanted_by, *unit.required_by)]
    if unit.name.endswith(".target"):
        pulled_by += ((unit.name, name) for key in PULLING_KEYS for name, _ in named_units(unit, key))
    for target, name in pulled_by:
        ends = [own[end] for end in (target, name) if end in own]
        by_default = target.endswith(".target") and all(has_default_dependencies(end) for end in ends)
        if by_default and target not in graph.get(name, {}):
            yield Wait(later=target, earlier=name, reason=f"{target} pulls it in", span=unit.span)


def find_cycles(graph: Mapping[str, Mapping[str, Wait]]) -> list[list[Wait]]:
    """One shortest cycle for each knot of units that wait for each other, in the order of names."""
    return [_shortest_cycle(graph, knot) for knot in _knots(graph)]


def _knots(graph: Mapping[str, Mapping[str, Wait]]) -> list[frozenset[str]]:
    """Strongly connected components with a cycle (Tarjan's algorithm without recursion), sorted by their first name."""
    index: dict[str, int] = {}
    low: dict[str, int] = {}
    stack: list[str] = []
    on_stack: set[str] = set()
    found: list[frozenset[str]] = []
    for root in sorted(graph):
        work = [(root, iter(sorted(graph[root])))] if root not in index else []
        while work:
            node, rest = work[-1]
            if node not in index:
                index[node] = low[node] = len(index)
                stack.append(node)
                on_stack.add(node)
            for name in rest:
                if name not in index:
                    work.append((name, iter(sorted(graph[name]))))
                    break
                if name in on_stack:
                    low[node] = min(low[node], index[name])
            else:
                work.pop()
                if work:
                    low[work[-1][0]] = min(low[work[-1][0]], low[node])
                if low[node] == index[node]:
                    knot = _pop_knot(stack, on_stack, node)
                    if len(knot) > 1 or node in graph[node]:
                        found.append(knot)
    return sorted(found, key=min)


def _pop_knot(stack: list[str], on_stack: set[str], root: str) -> frozenset[str]:
    knot: set[str] = set()
    while root not in knot:
        knot.add(stack.pop())
    on_stack -= knot
    return frozenset(knot)


def _shortest_cycle(graph: Mapping[str, Mapping[str, Wait]], knot: frozenset[str]) -> list[Wait]:
    start = min(knot)
    came: dict[str, Wait] = {}
    queue = collections.deque([start])
    while start not in came:
        node = queue.popleft()
        for name in sorted(graph[node]):
            if name in knot and name not in came:
                came[name] = graph[node][name]
                queue.append(name)
    cycle = [came[start]]
    while cycle[0].later != start:
        cycle.insert(0, came[cycle[0].later])
    return cycle


def levels(graph: Mapping[str, Mapping[str, Wait]]) -> dict[str, int]:
    """The length of the longest chain of waits before each unit; the graph must be free of cycles."""
    waiting = {name: len(graph[name]) for name in graph}
    followers: dict[str, list[str]] = {}
    for name, earlier in graph.items():
        for other in earlier:
            followers.setdefault(other, []).append(name)
    ready = collections.deque(sorted(name for name, count in waiting.items() if not count))
    found: dict[str, int] = {}
    while ready:
        name = ready.popleft()
        found[name] = max((found[other] + 1 for other in graph[name]), default=0)
        for follower in followers.get(name, ()):
            waiting[follower] -= 1
            if not waiting[follower]:
                ready.append(follower)
    return found
