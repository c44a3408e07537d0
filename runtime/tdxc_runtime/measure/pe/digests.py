"""Many digests over parts of one file, on all cores.

A :class:`DigestPlan` is a list of segments: spans of the file, zeros and literal bytes. Plans that share their
beginning share the work: the initrd that the kernel measures begins with the ``.initrd`` section, which is hashed
anyway. Memory use is a small piece of the file per core, whatever the size of the file.

The hashes over one plan are a chain that no two cores can work on at once, so the time is least when all chains end
together: every core always takes a slice of the chain that has the most left to do. A chain that would keep one core
busy beyond its share is taken apart, algorithm by algorithm. Each chain reads the file for itself: from the page cache
that costs a thirtieth of hashing it, and a piece never leaves the core's own cache.
"""

from __future__ import annotations

import hashlib
import heapq
import itertools
import os
import threading
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

import attrs

from tdxc_runtime.measure.events import Algorithm
from tdxc_runtime.measure.sources import ByteSource, Window

if TYPE_CHECKING:
    from hashlib import _Hash

PIECE_SIZE = 124 << 10
"""What is read at once, in bytes: malloc keeps blocks of this size, so that they cost no page faults."""
SLICE_SIZE = 1 << 19
"""What a core hashes before it looks again which chain has the most to do, in bytes."""
_ALONE_UP_TO = 1 << 20
_FULL_SHARE = 1.02
"""How much more than its share of all bytes a core may get before a chain is taken apart."""
_ZEROS = bytes(PIECE_SIZE)
_WEIGHTS = {Algorithm.SHA256: 3, Algorithm.SHA384: 7}
"""What a byte costs on processors with SHA extensions, which know SHA-256 only; it decides who goes first, no more."""

Digests: TypeAlias = tuple[tuple[Algorithm, bytes], ...]


@attrs.frozen
class Span:
    """``size`` bytes of the file from ``offset``."""

    offset: int
    size: int


@attrs.frozen
class Zeros:
    """``count`` zero bytes."""

    count: int


@attrs.frozen
class Literal:
    """Bytes that are not in the file."""

    data: bytes


Segment: TypeAlias = Span | Zeros | Literal


@attrs.frozen(kw_only=True)
class DigestPlan:
    """What to hash, in order, and under which name the result is wanted."""

    name: str
    segments: tuple[Segment, ...]


def window_segments(window: Window, ranges: Iterable[tuple[int, int]] | None = None) -> tuple[Segment, ...]:
    """Segments for ``(offset, size)`` ranges of a window (all of it by default) in terms of the window's own source."""
    segments: list[Segment] = []
    for offset, size in ((0, window.size),) if ranges is None else ranges:
        stored = max(0, min(offset + size, window.stored) - offset)
        if stored:
            segments.append(Span(window.offset + offset, stored))
        if size > stored:
            segments.append(Zeros(size - stored))
    return tuple(segments)


def segment_size(segment: Segment) -> int:
    """How many bytes a segment stands for."""
    if isinstance(segment, Span):
        return segment.size
    return segment.count if isinstance(segment, Zeros) else len(segment.data)


class _Chain:
    """Some hashes over one plan's segments, or over what they add to a parent's, whose state they then start from."""

    def __init__(self, segments: Sequence[Segment], algorithms: Sequence[Algorithm]) -> None:
        self.hashers: dict[Algorithm, _Hash] = {a: hashlib.new(a.value, usedforsecurity=False) for a in algorithms}
        self.children: list[_Chain] = []
        self.left = sum(map(segment_size, segments))
        self._weight = sum(_WEIGHTS[algorithm] for algorithm in algorithms)
        self._segments = segments
        self._position = 0
        self._done = 0

    def cost(self) -> int:
        """What is left to do for this chain and those that wait for it."""
        return self.left * self._weight + sum(child.cost() for child in self.children)

    def wake_children(self) -> Sequence[_Chain]:
        """Let those that waited start from here; call it once, when nothing is left to do."""
        for child in self.children:
            child.hashers = {algorithm: hasher.copy() for algorithm, hasher in self.hashers.items()}
        return self.children

    def advance(self, source: ByteSource, size: int) -> None:
        """Hash at least ``size`` bytes more, or all that are left."""
        stop = self.left - size
        while self._position < len(self._segments) and self.left > stop:
            segment = self._segments[self._position]
            piece = self._piece(source, segment)
            for hasher in self.hashers.values():
                hasher.update(piece)
            self.left -= len(piece)
            self._done += len(piece)
            if self._done == segment_size(segment):
                self._position, self._done = self._position + 1, 0

    def _piece(self, source: ByteSource, segment: Segment) -> bytes:
        if isinstance(segment, Span):
            return source.read(segment.offset + self._done, min(PIECE_SIZE, segment.size - self._done))
        if isinstance(segment, Literal):
            return segment.data
        return _ZEROS[: segment.count - self._done]


class _Schedule:
    """Which chain is next, for several threads. A chain that a thread has taken is nobody else's until it is back."""

    def __init__(self, chains: Iterable[_Chain]) -> None:
        self._turns = itertools.count()
        self._ready: list[tuple[int, int, _Chain]] = []
        self._taken = 0
        self._called_off = False
        self._changed = threading.Condition()
        self._push(chains)

    def _push(self, chains: Iterable[_Chain]) -> None:
        for chain in chains:
            heapq.heappush(self._ready, (-chain.cost(), next(self._turns), chain))

    def take(self) -> _Chain | None:
        """The chain with the most to do; ``None`` when all are done or the work is called off."""
        with self._changed:
            self._changed.wait_for(lambda: self._ready or not self._taken or self._called_off)
            if not self._ready or self._called_off:
                return None
            self._taken += 1
            return heapq.heappop(self._ready)[2]

    def put_back(self, chain: _Chain) -> None:
        """Give a chain back; when it is finished, those that waited for it are ready."""
        with self._changed:
            self._taken -= 1
            self._push([chain] if chain.left else chain.wake_children())
            self._changed.notify_all()

    def call_off(self) -> None:
        """Let every thread end after the slice that it is at."""
        with self._changed:
            self._called_off = True
            self._changed.notify_all()


def hash_plans(
    source: ByteSource, plans: Sequence[DigestPlan], algorithms: Sequence[Algorithm]
) -> Mapping[str, Digests]:
    """The digests of every plan, by its name, in the order of ``algorithms``.

    Raises ``TruncatedInputError`` for spans outside the source.
    """
    families = _families(plans)
    total = sum(member.size for family in families for member in family)
    cores = len(os.sched_getaffinity(0)) if total > _ALONE_UP_TO else 1
    chains: dict[tuple[str, Algorithm], _Chain] = {}
    roots = []
    for family in families:
        apart = sum(member.size for member in family) > _FULL_SHARE * total / cores
        for together in ((a,) for a in algorithms) if apart else (algorithms,):
            made = _make_chains(family, together)
            roots.append(made[family[0].plan.name])
            chains |= {(name, algorithm): chain for name, chain in made.items() for algorithm in together}
    schedule = _Schedule(roots)
    helpers = min(cores, len(roots)) - 1
    with ThreadPoolExecutor(max_workers=max(1, helpers)) as pool:
        others = [pool.submit(_work, schedule, source) for _ in range(helpers)]
        _work(schedule, source)
        for other in others:
            other.result()
    return {plan.name: tuple((a, chains[plan.name, a].hashers[a].digest()) for a in algorithms) for plan in plans}


@attrs.frozen
class _Member:
    """A plan, the member of its family that it begins with (``None`` for the first), and the segments it adds."""

    plan: DigestPlan
    parent: str | None
    rest: tuple[Segment, ...]

    @property
    def size(self) -> int:
        return sum(map(segment_size, self.rest))


def _families(plans: Sequence[DigestPlan]) -> list[list[_Member]]:
    """Plans that begin with another one are of its family; parents come before their children."""
    families: dict[str, list[_Member]] = {}
    shortest_first = sorted(plans, key=lambda plan: len(plan.segments))
    for index, plan in enumerate(shortest_first):
        before = [p for p in shortest_first[:index] if p.segments and plan.segments[: len(p.segments)] == p.segments]
        if before:
            family = families[before[-1].name]
            family.append(_Member(plan, before[-1].name, plan.segments[len(before[-1].segments) :]))
        else:
            family = [_Member(plan, None, plan.segments)]
        families[plan.name] = family
    return list({id(family): family for family in families.values()}.values())


def _make_chains(family: Sequence[_Member], algorithms: Sequence[Algorithm]) -> dict[str, _Chain]:
    chains: dict[str, _Chain] = {}
    for member in family:
        chains[member.plan.name] = chain = _Chain(member.rest, algorithms)
        if member.parent is not None:
            chains[member.parent].children.append(chain)
    return chains


def _work(schedule: _Schedule, source: ByteSource) -> None:
    """Hash slices until nothing is left; when it fails or is interrupted, nobody goes on."""
    try:
        while (chain := schedule.take()) is not None:
            chain.advance(source, SLICE_SIZE)
            schedule.put_back(chain)
    except BaseException:
        schedule.call_off()
        raise
