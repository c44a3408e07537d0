"""Turn a malformed image into the diagnostic that a user reads."""

from __future__ import annotations

from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

from tdxc_runtime.measure.sources import ByteSource

from .image import MACHINE_AMD64, MalformedImageError, PeImage, parse_image


def artifact_error(name: str, message: str, fix: str = "bake the image again") -> DiagnosticError:
    """E_ARTIFACT about the file ``name``."""
    return DiagnosticError.of(Code.E_ARTIFACT, message, SourceSpan(file=name), fix=fix)


def read_image(source: ByteSource, *, artifact: str) -> PeImage:
    """Parse an x86-64 EFI image; E_ARTIFACT, naming ``artifact``, when it is none."""
    try:
        image = parse_image(source)
    except MalformedImageError as error:
        raise artifact_error(artifact, f"'{source.name}' is not an EFI image: {error}") from None
    if image.machine != MACHINE_AMD64:
        raise artifact_error(
            artifact, f"'{source.name}' is for machine {image.machine:#06x}, not x86-64", "TDX is x86-64 only"
        )
    return image
