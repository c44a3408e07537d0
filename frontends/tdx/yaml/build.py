"""From a YAML document to an image."""

from __future__ import annotations

from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

from tdx.image import Image


def read_image(text: str, file: str) -> Image:
    """Read a recipe's text; raises DiagnosticError with every fault."""
    raise DiagnosticError.of(Code.E_UNSUPPORTED, f"{len(text)} characters of YAML", SourceSpan(file=file))
