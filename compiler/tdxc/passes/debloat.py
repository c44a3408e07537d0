"""debloat: what goes from the image and what stays, each with its reason. The removing itself is a script of the bake.

::

    image with networkd   ->  keep unit systemd-networkd.service ("networkd configures the network"), remove unit *
    keep_units=["x"]      ->  keep unit x ("the recipe keeps it")

See :mod:`tdxc.passes.debloat_rules` for the rules and how names are read.
"""

from __future__ import annotations

import fnmatch
import functools
import re
from collections.abc import Iterable, Iterator
from typing import ClassVar

from tdxc import records
from tdxc.diagnostics import SourceSpan
from tdxc.ir import (
    BuildLanguage,
    Debloat,
    DebloatKind,
    KeepDecision,
    Node,
    RemoveDecision,
    ResolvedDebloat,
    ResolvedImage,
)
from tdxc.passes.base import PassContext
from tdxc.passes.debloat_rules import (
    COMMON_KEEPERS,
    COMMON_REMOVALS,
    INFRASTRUCTURE,
    SYSTEMD_KEEPERS,
    SYSTEMD_REMOVALS,
    Keeper,
    package_name,
)
from tdxc.passes.kernel_modules import wanted_modules
from tdxc.passes.unit_graph import PULLING_KEYS, named_units

_NAMING_KEYS = (*PULLING_KEYS, "After", "Before", "BindsTo", "PartOf", "Conflicts", "OnFailure", "OnSuccess")
_REMOVED_NAMES = [name for rule in (*COMMON_REMOVALS, *SYSTEMD_REMOVALS) for name in rule.names if name.startswith("/")]
_GLOB = re.compile(r"[*?[]")
_REMOVED = frozenset(name for name in _REMOVED_NAMES if not _GLOB.search(name))
_REMOVED_PATTERNS = tuple(name for name in _REMOVED_NAMES if _GLOB.search(name))
_PATTERN_STARTS = tuple(_GLOB.split(name, maxsplit=1)[0] for name in _REMOVED_PATTERNS)
"""The patterns' text before their first wildcard, which spares most paths the matching."""


class DebloatImage:
    """Fills in ``debloat``; on unless the recipe turns it off."""

    name: ClassVar[str] = "debloat"
    description: ClassVar[str] = "decide what of packages, systemd and the kernel stays, from what the image uses"
    requires: ClassVar[frozenset[str]] = frozenset({"order-units"})
    establishes: ClassVar[frozenset[str]] = frozenset({"debloat"})

    def run(self, image: ResolvedImage, ctx: PassContext) -> ResolvedImage:
        """Decide; nothing here can fail."""
        authored = image.authored_debloat
        span = authored.span if authored.span.line else image.span
        if authored.enabled is False:
            return records.evolve(image, debloat=ResolvedDebloat(span=span, enabled=False))
        decided = ResolvedDebloat(
            span=span,
            cause="debloat: on by default" if authored.enabled is None else "",
            enabled=True,
            keep=_sorted_keeps(_keeps(image)),
            remove=_removals(image.span, image.init),
        )
        return records.evolve(image, debloat=decided)


@functools.cache
def _removals(span: SourceSpan, init: str) -> tuple[RemoveDecision, ...]:
    """Sorted; all variants of an image remove the same, and what any of them keeps stays in it."""
    rules = (*COMMON_REMOVALS, *(SYSTEMD_REMOVALS if init == "systemd" else ()))
    found = [
        RemoveDecision(span=span, cause=f"debloat rule: {rule.reason}", kind=rule.kind, name=name, reason=rule.reason)
        for rule in rules
        for name in rule.names
    ]
    return tuple(sorted(found, key=lambda decision: (decision.kind, decision.name)))


def _sorted_keeps(decisions: Iterator[KeepDecision]) -> tuple[KeepDecision, ...]:
    """Unique by kind and name, the first reason kept, sorted."""
    first: dict[tuple[str, str], KeepDecision] = {}
    for decision in decisions:
        first.setdefault((decision.kind, decision.name), decision)
    return tuple(first[key] for key in sorted(first))


def _keeps(image: ResolvedImage) -> Iterator[KeepDecision]:
    """The recipe's own words first, since a thing's first reason is the one that is shown."""
    yield from _authored(image.authored_debloat)
    if image.init == "systemd":
        yield from _own_units(image)
        for keeper in SYSTEMD_KEEPERS:
            yield from _kept(keeper, image)
        yield from _named_units(image)
    for keeper in COMMON_KEEPERS:
        yield from _kept(keeper, image)
    yield from _packages(image)
    yield from _placed(image)
    for build in image.builds:
        if build.language is BuildLanguage.KERNEL:
            continue  # it goes into the UKI, like a packaged one
        for artifact in build.artifacts:
            yield _keep(DebloatKind.PATH, artifact.dest, f"built from source as '{build.name}'", artifact, build)
    yield from wanted_modules(image)


def keeps_unit(image: ResolvedImage, name: str) -> bool:
    """Whether a unit of the distribution stays in the image, as far as what is declared so far tells.

    It says what the pass would decide of this one unit, without deciding of all else.
    """
    if image.authored_debloat.enabled is False:
        return True
    systemd = image.init == "systemd"
    named = (*(_own_units(image) if systemd else ()), *(_named_units(image) if systemd else ()), *_packages(image))
    return (
        _matches(name, image.authored_debloat.keep_units)
        or any(keeper.cause(image) is not None for keeper in _keepers_of(name, systemd=systemd))
        or _matches(name, (keep.name for keep in (*named, *_placed(image)) if keep.kind is DebloatKind.UNIT))
    )


@functools.cache
def _keepers_of(name: str, *, systemd: bool) -> tuple[Keeper, ...]:
    keepers = (*(SYSTEMD_KEEPERS if systemd else ()), *COMMON_KEEPERS)
    return tuple(keeper for keeper in keepers if _matches(name, keeper.units))


def _matches(name: str, patterns: Iterable[str]) -> bool:
    # most patterns are plain names, and fnmatch makes a regular expression of each
    return any(name == pattern or ("*" in pattern and fnmatch.fnmatchcase(name, pattern)) for pattern in patterns)


def _authored(debloat: Debloat) -> Iterator[KeepDecision]:
    for kind, names in (
        (DebloatKind.BINARY, debloat.keep_binaries),
        (DebloatKind.UNIT, debloat.keep_units),
        (DebloatKind.PATH, debloat.keep_paths),
        (DebloatKind.MODULE, debloat.keep_modules),
    ):
        for name in names:
            spelled = name.replace("-", "_").removesuffix(".ko") if kind is DebloatKind.MODULE else name
            yield _keep(kind, spelled, "the recipe keeps it", debloat)


def _kept(keeper: Keeper, image: ResolvedImage) -> Iterator[KeepDecision]:
    cause = keeper.cause(image)
    if cause is None:
        return
    for kind, names in (
        (DebloatKind.UNIT, keeper.units),
        (DebloatKind.BINARY, keeper.binaries),
        (DebloatKind.PATH, keeper.paths),
    ):
        for name in names:
            yield _keep(kind, name, keeper.reason, cause, image)


def _own_units(image: ResolvedImage) -> Iterator[KeepDecision]:
    yield _keep(DebloatKind.UNIT, image.default_target, "the target that the image boots into", image)
    yield _keep(DebloatKind.UNIT, "default.target", "the name by which systemd finds that target", image)
    for unit in image.units:
        for name in (unit.name, *unit.aliases):
            yield _keep(DebloatKind.UNIT, name, "a unit of the image", unit, image)
    for drop_in in image.drop_ins:
        yield _keep(DebloatKind.UNIT, drop_in.unit, "the recipe changes it by a drop-in", drop_in, image)


def _named_units(image: ResolvedImage) -> Iterator[KeepDecision]:
    """Units that the image's own units name, with the template of an instance."""
    for unit in image.units:
        named = [name for key in _NAMING_KEYS for name, _ in named_units(unit, key)]
        for name in (*named, *unit.wanted_by, *unit.required_by):
            yield _keep(DebloatKind.UNIT, name, f"{unit.name} names it", unit, image)
            stem, _, suffix = name.rpartition(".")
            if "@" in stem:
                template = f"{stem.partition('@')[0]}@.{suffix}"
                yield _keep(DebloatKind.UNIT, template, f"{unit.name} names an instance of it", unit, image)


def _packages(image: ResolvedImage) -> Iterator[KeepDecision]:
    """All that a package brings stays where the recipe, a module or a pass installs it for its own sake."""
    for package in image.packages:
        name = package_name(package.name)
        if name in INFRASTRUCTURE:
            continue
        reason = package.cause or "the recipe installs it"
        for kind in (DebloatKind.BINARY, DebloatKind.UNIT):
            yield _keep(kind, f"package:{name}", reason, package, image)


def _placed(image: ResolvedImage) -> Iterator[KeepDecision]:
    """What the recipe itself puts where the rest goes."""
    placed: list[tuple[str, Node]] = [(file.path, file) for file in image.files]
    placed += [(link.path, link) for link in image.symlinks]
    placed += [(directory.path, directory) for directory in image.directories]
    for path, node in placed:
        parts = path.split("/")
        if any(_is_removed("/".join(parts[:end])) for end in range(2, len(parts) + 1)):
            yield _keep(DebloatKind.PATH, path, "the recipe puts it there", node, image)


@functools.lru_cache(maxsize=1 << 12)
def _is_removed(path: str) -> bool:
    """Whether any rule removes exactly this path."""
    if path in _REMOVED or not path.startswith(_PATTERN_STARTS):
        return path in _REMOVED
    return any(fnmatch.fnmatchcase(path, pattern) for pattern in _REMOVED_PATTERNS)


def _keep(kind: DebloatKind, name: str, reason: str, cause: Node, fallback: Node | None = None) -> KeepDecision:
    span = cause.span if cause.span.line or fallback is None else fallback.span
    return KeepDecision(span=span, cause=f"debloat: {reason}", kind=kind, name=name, reason=reason)
