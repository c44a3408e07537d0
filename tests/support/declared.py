"""What tests of the DSL share: an image of a recipe in some folder, and what it holds as plain values."""

from __future__ import annotations

from pathlib import Path

import pytest
from tdx import Image
from tdx._session import recipe_session
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import Section


def new_image(folder: Path) -> Image:
    """An image as a recipe in ``folder`` makes it."""
    with recipe_session(folder):
        return Image("x")


def pairs(section: Section) -> tuple[str, list[tuple[str, str]]]:
    """A section's name and its directives as pairs."""
    return (section.name, [(directive.key, directive.value) for directive in section.directives])


def faults_of(image: Image) -> list[tuple[Code, str]]:
    """What freezing the image reports: there must be something."""
    with pytest.raises(DiagnosticError) as caught:
        image.freeze()
    return [(fault.code, fault.message) for fault in caught.value.diagnostics]
