"""The emitter protocol: a pure function from resolved IR to a tree."""

from __future__ import annotations

from typing import Protocol

from tdxc.ir import ResolvedImage
from tdxc.tree import FileTree


class Emitter(Protocol):
    """Writes one kind of output. Pure: no disk, no subprocess, no clock, no environment.

    What the target cannot express is E_EMIT at the node's span, never a warning.
    """

    @property
    def name(self) -> str:
        """Kebab-case name, as errors and origins spell it."""

    def emit(self, image: ResolvedImage) -> FileTree:
        """The files of one variant of the image, paths relative to the output folder."""
