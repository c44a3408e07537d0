"""What a pass is: a frozen value with a name and a pure function from IR to IR."""

from __future__ import annotations

from typing import ClassVar, Protocol, TypeVar

from tdxc import records
from tdxc.diagnostics import DiagnosticSink
from tdxc.ir import AuthoredImage, ResolvedImage

ImageT = TypeVar("ImageT", AuthoredImage, ResolvedImage)


@records.frozen
class PassContext:
    """What a pass may see beside the image: no clock, environment, network or file system."""

    sink: DiagnosticSink


class Pass(Protocol[ImageT]):
    """A rewrite of the image. It reports every fault it can see into the sink and returns a usable image.

    ``requires`` and ``establishes`` name facts (other passes' names by convention); the pipeline refuses an order in
    which a required fact has not been established before.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    requires: ClassVar[frozenset[str]]
    establishes: ClassVar[frozenset[str]]

    def run(self, image: ImageT, ctx: PassContext) -> ImageT:
        """Rewrite the image."""
