"""The distribution that an image starts from, and where its packages come from."""

from __future__ import annotations

import enum

from tdxc import records
from tdxc.ir.blob import Blob
from tdxc.ir.node import Node


class Distribution(enum.StrEnum):
    """Distributions that a recipe may name; the values are mkosi's spelling except for Alpine (mkosi has none)."""

    DEBIAN = "debian"
    UBUNTU = "ubuntu"
    ALPINE = "alpine"


class Architecture(enum.StrEnum):
    """TDX exists on x86-64 alone (Intel TDX Module Base Architecture Specification); mkosi's spelling."""

    X86_64 = "x86-64"


_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Folders that are links into ``/usr`` on Debian and Ubuntu, and as mkosi makes them (Debian wiki, "UsrMerge")."""


@records.frozen(kw_only=True)
class Base(Node):
    """``debian/trixie`` and its like."""

    distribution: Distribution
    release: str
    architecture: Architecture = Architecture.X86_64

    @property
    def reference(self) -> str:
        """The spelling that recipes use, ``distribution/release``."""
        return f"{self.distribution.value}/{self.release}"

    def place(self, path: str) -> str:
        """Where an absolute path leads: ``/bin/sh`` is ``/usr/bin/sh``, except on Alpine; ``/bin`` itself is a link."""
        first, separator, rest = path[1:].partition("/")
        merged = separator and first in _MERGED and self.distribution is not Distribution.ALPINE
        return f"/usr/{first}/{rest}" if merged else path


KNOWN_BASES: tuple[Base, ...] = (
    Base(distribution=Distribution.DEBIAN, release="bookworm"),
    Base(distribution=Distribution.DEBIAN, release="trixie"),
    Base(distribution=Distribution.UBUNTU, release="noble"),
    Base(distribution=Distribution.ALPINE, release="3.20"),
)


@records.frozen(kw_only=True)
class Suite(Node):
    """A further suite of the same mirror, such as ``trixie-backports`` or ``sid``.

    ``priority`` is the APT pin priority (apt_preferences(5)): 100 installs from it only what is asked for by
    ``package/suite`` or is in no other suite.
    """

    name: str
    priority: int = 100


@records.frozen(kw_only=True)
class Repository(Node):
    """An extra package source (deb822 fields of sources.list(5)) with the key that signs it."""

    name: str
    uri: str
    suites: tuple[str, ...]
    components: tuple[str, ...] = ()
    key: Blob | None = None
