"""What a compiled tree says of its source builds: ``.tdxc/builds.json``."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError

DECLARATION = Path(".tdxc/builds.json")
_FORMAT = 1
_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
"""A commit in full: SHA-1 or, in newer repositories, SHA-256 (gitrepository-layout(5), objects)."""


@attrs.frozen(kw_only=True)
class DeclaredBuild:
    """One build of a tree, as the compiler wrote it down.

    ``profiles``: those that bring it, of which one has to be chosen; empty for a build of the image itself.
    ``packages``: what its environment is made of, besides the distribution's essential packages. ``inputs``: see
    :mod:`tdxc_runtime.builds.key`. ``network``: whether it may use the network while it compiles.
    """

    name: str
    profiles: tuple[str, ...] = ()
    language: str = ""
    network: bool = False
    packages: tuple[str, ...] = ()
    inputs: Mapping[str, str] = attrs.field(factory=dict)

    @property
    def moving_source(self) -> str:
        """The branch or tag of its git repository, which can be another commit tomorrow; else empty."""
        rev = self.inputs.get("rev", "") if self.inputs.get("git") else ""
        return "" if _COMMIT.fullmatch(rev) else rev


@attrs.frozen(kw_only=True)
class BuildRecord:
    """What is recorded of a build beside the image.

    ``key`` is empty where the key did not say it all: its packages were not known beforehand, or its source can change.
    """

    name: str
    language: str = ""
    key: str = ""
    network: bool = False


def read_builds(tree: Path, profiles: tuple[str, ...]) -> tuple[DeclaredBuild, ...]:
    """The builds of a variant, by name; none for a tree that declares none.

    Raises DiagnosticError (E_BACKEND_EXECUTION) when the declaration is damaged.
    """
    path = tree / DECLARATION
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return ()
    try:
        words = json.loads(text)
        if words["format"] != _FORMAT:
            raise ValueError(f"format {words['format']!r} is not known")
        builds = tuple(_read_build(name, entry) for name, entry in sorted(words["builds"].items()))
    except (ValueError, KeyError, TypeError, AttributeError) as fault:
        raise DiagnosticError.of(
            Code.E_BACKEND_EXECUTION,
            f"{path} cannot be read: {fault}",
            fix="compile the recipe again with this version: `tdxc compile RECIPE -o DIR --force`",
        ) from fault
    return tuple(build for build in builds if not build.profiles or set(build.profiles) & set(profiles))


def _read_build(name: str, entry: Mapping[str, object]) -> DeclaredBuild:
    inputs = entry["inputs"]
    if not isinstance(inputs, dict):
        raise ValueError(f"the inputs of {name} are not a map")
    return DeclaredBuild(
        name=name,
        profiles=_texts(entry.get("profiles", [])),
        language=str(entry.get("language", "")),
        network=entry["network"] is True,
        packages=_texts(entry["packages"]),
        inputs={str(key): str(value) for key, value in inputs.items()},
    )


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{value!r} is not a list")
    return tuple(map(str, value))
