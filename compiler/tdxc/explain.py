"""Answers to "why is this in the image, or not": pure functions over the resolved IR."""

from __future__ import annotations

import fnmatch
from collections.abc import Iterator

from tdxc import records
from tdxc.ir import DebloatKind, KeepDecision, Node, RemoveDecision, ResolvedImage, Unit

_UNIT_TYPES = (".service", ".socket", ".target", ".timer", ".mount", ".automount", ".path", ".slice", ".scope", ".swap")
_PACKAGE_RULES = ("package:", "unused-package:", "programs-of:")
_EVERYTHING_ELSE = "*"


def explain(image: ResolvedImage, topic: str) -> str:
    """All that the image knows of ``topic`` as text, empty when that is nothing."""
    if topic == "debloat":
        return "\n".join(_debloat(image))
    found = (
        *_units(image, topic),
        *_paths(image, topic),
        *_named(image, topic),
        *_kernel(image, topic),
        *_decisions(image, topic),
    )
    return "\n".join(found or _removed_with_the_rest(image, topic))


def because(node: Node) -> str:
    """Where a node stems from: the recipe's line, the pass that made it, or both."""
    place = str(node.span)
    if node.cause:
        return f"{node.cause}" + (f" (from {place})" if place else "")
    return f"declared at {place}" if place else "a default"


def _units(image: ResolvedImage, topic: str) -> Iterator[str]:
    for unit in image.units:
        if topic in {unit.name, unit.name.rpartition(".")[0]}:
            yield from _unit(unit)


def _unit(unit: Unit) -> Iterator[str]:
    yield f"{unit.name}: {because(unit)}"
    if unit.wanted_by:
        yield f"  started by {', '.join(unit.wanted_by)}"
    for section in unit.sections:
        yield f"  [{section.name}]"
        for directive in section.directives:
            yield f"    {directive.key}={directive.value}"
            if directive.cause:
                yield f"        {directive.cause}"


def _paths(image: ResolvedImage, topic: str) -> Iterator[str]:
    for file in image.files:
        if file.path == topic:
            yield f"{file.path}: file, {file.mode:04o} {file.owner}:{file.group}, sha256:{file.content.sha256}"
            yield f"  {because(file)}"
    for directory in image.directories:
        if directory.path == topic:
            yield f"{directory.path}: directory, {directory.mode:04o} {directory.owner}:{directory.group}"
            yield f"  {because(directory)}"
    for link in image.symlinks:
        if link.path == topic:
            yield f"{link.path}: symbolic link to {link.target}"
            yield f"  {because(link)}"


def _named(image: ResolvedImage, topic: str) -> Iterator[str]:
    kinds = (("package", image.packages), ("build package", image.build_packages), ("user", image.users),
             ("group", image.groups), ("boot step", image.boot_steps))  # fmt: skip
    for kind, nodes in kinds:
        for node in nodes:
            if node.name == topic:
                yield f"{topic}: {kind}, {because(node)}"


def _kernel(image: ResolvedImage, topic: str) -> Iterator[str]:
    for option in (*image.kernel.options, *image.kernel.base_options):
        if topic.removeprefix("CONFIG_") == option.name:
            yield f"CONFIG_{option.name}={option.value}: {because(option)}"
    for argument in image.kernel.cmdline:
        if topic in {argument.text, argument.text.partition("=")[0]}:
            yield f"{argument.text}: kernel command line, {because(argument)}"


def _decisions(image: ResolvedImage, topic: str) -> Iterator[str]:
    for kept in image.debloat.keep:
        if topic in {kept.name, kept.name.rpartition("/")[2]} or fnmatch.fnmatchcase(topic, _bare(kept)):
            yield _decision("kept", kept)
    for removed in image.debloat.remove:
        if removed.name != _EVERYTHING_ELSE and _covers(removed, topic):
            yield _decision("removed", removed)


def _covers(removed: RemoveDecision, topic: str) -> bool:
    """Whether a removal speaks of ``topic`` itself or, for an absolute path, of a folder above it."""
    parts = topic.split("/")
    above = ["/".join(parts[:end]) for end in range(2, len(parts) + 1)] if topic.startswith("/") else []
    return topic == _bare(removed) or any(fnmatch.fnmatchcase(path, removed.name) for path in (topic, *above))


def _bare(decision: KeepDecision | RemoveDecision) -> str:
    """The name without the rule in front of it; modules as they are called in files."""
    for rule in _PACKAGE_RULES:
        if decision.name.startswith(rule):
            return decision.name.removeprefix(rule)
    return f"{decision.name}.ko" if decision.kind is DebloatKind.MODULE else decision.name


def _removed_with_the_rest(image: ResolvedImage, topic: str) -> Iterator[str]:
    """Units and modules that no other rule names: all that are not kept go."""
    kind = DebloatKind.UNIT if topic.endswith(_UNIT_TYPES) else DebloatKind.MODULE if topic.endswith(".ko") else None
    for removed in image.debloat.remove:
        if removed.name == _EVERYTHING_ELSE and removed.kind is kind:
            yield _decision("removed", records.evolve(removed, name=topic))


def _debloat(image: ResolvedImage) -> Iterator[str]:
    if not image.debloat.enabled:
        yield "debloat is off: nothing is removed beyond documentation, locales and package metadata"
        return
    yield from (_decision("kept", kept) for kept in image.debloat.keep)
    yield from (_decision("removed", removed) for removed in image.debloat.remove)


def _decision(verb: str, decision: KeepDecision | RemoveDecision) -> str:
    place = f" ({decision.span})" if str(decision.span) else ""
    return f"{verb:<8}{decision.kind.value:<7} {decision.name:<48} {decision.reason}{place}"
