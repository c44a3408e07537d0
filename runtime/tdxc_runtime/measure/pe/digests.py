"""Many digests over parts of one file, in one pass over it and on all cores.

A :class:`DigestPlan` is a list of segments: spans of the file, zeros and literal bytes. Plans that share their
beginning share the work: the initrd that the kernel measures begins with the ``.initrd`` section, which is hashed
anyway. Memory use is a few chunks, whatever the size of the file.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, TypeAlias

import attrs

from tdxc_runtime.measure.events import Algorithm
from tdxc_runtime.measure.sources import ByteSource, Window

if TYPE_CHECKING:
    from hashlib import _Hash

CHUNK_SIZE = 4 << 20
_ZEROS = bytes(1 << 16)

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


class _Cursor:
    """The progress of one plan through the file. It waits while ``parent`` (a plan that it extends) is unfinished."""

    def __init__(self, segments: Sequence[Segment], algorithms: Sequence[Algorithm], parent: _Cursor | None) -> None:
        self.segments = list(segments)
        self.position = 0
        self.parent = parent
        self.hashers: dict[Algorithm, _Hash] = {}
        if parent is None:
            self.hashers = {a: hashlib.new(a.value, usedforsecurity=False) for a in algorithms}

    @property
    def finished(self) -> bool:
        return bool(self.hashers) and self.position == len(self.segments)

    @property
    def next_offset(self) -> int | None:
        """Where in the file this plan goes on; ``None`` when it waits or needs nothing more of the file."""
        if not self.hashers or self.finished:
            return None
        segment = self.segments[self.position]
        return segment.offset if isinstance(segment, Span) else None

    def wake(self) -> bool:
        """Start from the parent's state once the parent is done; whether that happened just now."""
        if self.hashers or self.parent is None or not self.parent.finished:
            return False
        self.hashers = {a: h.copy() for a, h in self.parent.hashers.items()}
        return True

    def take(self, chunk: memoryview, start: int) -> list[bytes | memoryview]:
        """What this plan wants of the file's bytes ``chunk``, which begin at ``start``; advances past it."""
        wanted: list[bytes | memoryview] = []
        while self.hashers and self.position < len(self.segments):
            segment = self.segments[self.position]
            if isinstance(segment, Span):
                begin = segment.offset - start
                if not 0 <= begin < len(chunk):
                    break
                part = chunk[begin : begin + segment.size]
                wanted.append(part)
                if len(part) < segment.size:
                    self.segments[self.position] = Span(segment.offset + len(part), segment.size - len(part))
                    break
            else:
                wanted.extend(_constant_bytes(segment))
            self.position += 1
        return wanted


def _constant_bytes(segment: Zeros | Literal) -> Iterable[bytes]:
    if isinstance(segment, Literal):
        return (segment.data,)
    whole, rest = divmod(segment.count, len(_ZEROS))
    return (*(_ZEROS for _ in range(whole)), _ZEROS[:rest])


def hash_plans(
    source: ByteSource, plans: Sequence[DigestPlan], algorithms: Sequence[Algorithm]
) -> Mapping[str, Digests]:
    """The digests of every plan, by its name, in the order of ``algorithms``.

    The file is read once, forwards, where all plans read it forwards; a plan that goes back costs a further pass over
    the parts that are still wanted. Raises ``TruncatedInputError`` for spans outside the source.
    """
    cursors = _make_cursors(plans, algorithms)
    live = list(cursors.values())
    with ThreadPoolExecutor(max_workers=max(1, min(os.cpu_count() or 1, 2 * len(live)))) as pool:
        _feed(pool, live, b"", 0)
        while offsets := [offset for cursor in live if (offset := cursor.next_offset) is not None]:
            _one_pass(pool, source, live, min(offsets))
    return {plan.name: tuple((a, cursors[plan.name].hashers[a].digest()) for a in algorithms) for plan in plans}


def _make_cursors(plans: Sequence[DigestPlan], algorithms: Sequence[Algorithm]) -> dict[str, _Cursor]:
    """One cursor per plan; the longest other plan that a plan begins with becomes its parent."""
    cursors: dict[str, _Cursor] = {}
    shortest_first = sorted(plans, key=lambda plan: len(plan.segments))
    for index, plan in enumerate(shortest_first):
        before = [p for p in shortest_first[:index] if p.segments and plan.segments[: len(p.segments)] == p.segments]
        parent = before[-1] if before else None
        rest = plan.segments[len(parent.segments) :] if parent else plan.segments
        cursors[plan.name] = _Cursor(rest, algorithms, cursors[parent.name] if parent else None)
    return cursors


def _one_pass(pool: ThreadPoolExecutor, source: ByteSource, cursors: Sequence[_Cursor], start: int) -> None:
    """Read forwards from ``start`` to the last byte wanted, skipping what nobody wants."""
    position = start
    while True:
        ahead = [o for cursor in cursors if (o := cursor.next_offset) is not None and o >= position]
        if not ahead:
            return
        position = min(ahead)
        chunk = source.read(position, min(CHUNK_SIZE, max(1, source.size - position)))
        _feed(pool, cursors, chunk, position)
        position += len(chunk)


def _feed(pool: ThreadPoolExecutor, cursors: Sequence[_Cursor], chunk: bytes, start: int) -> None:
    """Hand one chunk to every plan, all hashes in parallel; again while plans that waited for others come alive."""
    view = memoryview(chunk)
    while True:
        woken = [cursor for cursor in cursors if cursor.wake()]
        work = [(cursor, parts) for cursor in cursors if (parts := cursor.take(view, start))]
        if not work and not woken:
            return
        jobs = [(hasher, parts) for cursor, parts in work for hasher in cursor.hashers.values()]
        for _ in pool.map(_update, *zip(*jobs, strict=True)) if jobs else ():
            pass


def _update(hasher: _Hash, parts: Sequence[bytes | memoryview]) -> None:
    for part in parts:
        hasher.update(part)
