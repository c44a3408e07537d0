"""Small images for tests of passes: authored ones from a few declarations, resolved ones through lower-image."""

from __future__ import annotations

from typing import Any

from tdxc.diagnostics import Diagnostic, DiagnosticSink, SourceSpan
from tdxc.ir import AuthoredImage, Base, Distribution, Layer, Profile, ResolvedImage
from tdxc.passes.base import ImageT, Pass, PassContext
from tdxc.passes.lower_image import lower_image


def at(line: int, column: int = 1, file: str = "recipe.py") -> SourceSpan:
    """A place in the recipe."""
    return SourceSpan(file=file, line=line, column=column)


def authored(
    reference: str = "debian/trixie", *, profiles: dict[str, Layer] | None = None, **declarations: Any
) -> AuthoredImage:
    """An image of the given base whose layer holds ``declarations``."""
    distribution, _, release = reference.partition("/")
    return AuthoredImage(
        span=at(1),
        name="test",
        base=Base(span=at(1), distribution=Distribution(distribution), release=release),
        layer=Layer(span=at(1), **declarations),
        profiles=tuple(
            Profile(span=at(90 + index), name=name, layer=layer)
            for index, (name, layer) in enumerate((profiles or {}).items())
        ),
    )


def resolved(
    reference: str = "debian/trixie",
    *,
    profiles: dict[str, Layer] | None = None,
    chosen: tuple[str, ...] = (),
    **declarations: Any,
) -> ResolvedImage:
    """The same image behind lower-image, as the resolved passes get it."""
    return lower_image(authored(reference, profiles=profiles, **declarations), chosen)


def run(pass_: Pass[ImageT], image: ImageT) -> tuple[ImageT, tuple[Diagnostic, ...]]:
    """What a pass makes of an image, and what it reports."""
    sink = DiagnosticSink()
    return pass_.run(image, PassContext(sink=sink)), sink.diagnostics
