"""Builds whose artifacts lie in folders of each other: whatever the recipe's order, the longer path wins."""

from __future__ import annotations

from collections.abc import Sequence

from hypothesis import given
from hypothesis import strategies as st
from support.authored import at
from support.builds import authored_build
from tdxc.ir import KNOWN_BASES, Artifact, Build, Layer
from tdxc.passes.nested_builds import check_nested_order, in_nested_order

BASE = KNOWN_BASES[0]
PATHS = st.lists(st.sampled_from(["a", "b"]), min_size=1, max_size=3).map(lambda parts: "/opt/" + "/".join(parts))
ARTIFACTS = st.lists(st.tuples(PATHS, st.sampled_from(["", "/"])), min_size=1, max_size=3)


def build(number: int, paths: Sequence[tuple[str, str]]) -> Build:
    artifacts = tuple(Artifact(span=at(number), source="out", dest=path + slash) for path, slash in paths)
    return authored_build(name=f"b{number}", span=at(number), artifacts=artifacts)


def covers(outer: Build, inner: Build) -> bool:
    pairs = [(one.dest.rstrip("/"), other.dest.rstrip("/")) for one in outer.artifacts for other in inner.artifacts]
    return any(below != above and below.startswith(above + "/") for above, below in pairs)


@given(st.lists(ARTIFACTS, max_size=5))
def test_the_longer_path_wins_or_it_is_said_that_it_cannot(drawn: list[list[tuple[str, str]]]) -> None:
    layer = Layer(builds=tuple(build(number, paths) for number, paths in enumerate(drawn, 1)))
    found = in_nested_order(layer, BASE).builds
    assert sorted(b.name for b in found) == sorted(b.name for b in layer.builds)
    wrong = [(b.name, a.name) for i, b in enumerate(found) for a in found[:i] if covers(b, a)]
    faults = list(check_nested_order(layer, BASE))
    assert len(faults) == len(wrong)
    assert bool(wrong) == has_circle(layer.builds)
    nested = any(covers(one, other) for one in layer.builds for other in layer.builds if one is not other)
    assert nested or found == layer.builds


def has_circle(builds: tuple[Build, ...]) -> bool:
    """By walking, an other way than the product's: whether a build is reached from itself."""
    below = {b.name: {o.name for o in builds if o is not b and covers(b, o)} for b in builds}
    for start, first in below.items():
        reached, pending = set[str](), set(first)
        while pending:
            name = pending.pop()
            reached.add(name)
            pending |= below[name] - reached
        if start in reached:
            return True
    return False
