"""The key of a source build: a digest of everything that can change what it makes, and of nothing else.

The *inputs* of a build are a flat map from a readable name to a text: ``flag.ldflags`` to ``-s -w``, ``source`` to
``sha256:…``, ``package.gcc-14`` to its version and the digest of its ``.deb``. Large inputs stand in it by digest. The
key is the SHA-256 of the map as canonical JSON, so that no order, folder, time or name of the build takes part in it.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping

import attrs

KEY_FORMAT = "1"
"""Raised when builds are run in another way, so that results of older versions are not taken for today's."""

PACKAGE_PREFIX = "package."
"""Inputs with this prefix are packages of the build's environment: name to ``VERSION sha256:DIGEST``."""


@attrs.frozen(kw_only=True)
class InputChange:
    """An input that two builds differ in; empty text on the side that does not have it."""

    name: str
    before: str
    after: str

    def __str__(self) -> str:
        if not self.before:
            return f"{self.name}: new, {self.after}"
        if not self.after:
            return f"{self.name}: gone, was {self.before}"
        return f"{self.name}: {self.before} -> {self.after}"


def cache_key(inputs: Mapping[str, str]) -> str:
    """The key, 64 hexadecimal digits."""
    return hashlib.sha256(canonical_inputs(inputs)).hexdigest()


def canonical_inputs(inputs: Mapping[str, str]) -> bytes:
    """The one spelling of a map of inputs: JSON with sorted names, ASCII only, without white space, format first."""
    words = json.dumps([KEY_FORMAT, dict(inputs)], sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return words.encode("ascii")


def complete_inputs(declared: Mapping[str, str], packages: Mapping[str, str], mkosi_version: str) -> dict[str, str]:
    """What a tree declares, with what only the build host knows: the packages that apt would install, and the mkosi."""
    found = {f"{PACKAGE_PREFIX}{name}": version for name, version in packages.items()}
    return {**declared, **found, "tool.mkosi": mkosi_version}


def changed_inputs(before: Mapping[str, str], after: Mapping[str, str]) -> tuple[InputChange, ...]:
    """How two builds differ, by name; what a person has decided comes before the packages of the distribution."""
    names = sorted({*before, *after}, key=lambda name: (name.startswith(PACKAGE_PREFIX), name))
    return tuple(
        InputChange(name=name, before=before.get(name, ""), after=after.get(name, ""))
        for name in names
        if before.get(name) != after.get(name)
    )
