"""Small resolved images for tests of what comes behind the passes."""

from __future__ import annotations

from typing import Any

import attrs
from tdxc.diagnostics import SourceSpan
from tdxc.ir import (
    KNOWN_BASES,
    AuthoredImage,
    Base,
    KernelArgument,
    KernelSource,
    Layer,
    OutputTarget,
    Package,
    Reproducibility,
    ResolvedImage,
    ResolvedKernel,
)
from tdxc.passes.lower_image import lower_image

SPAN = SourceSpan(file="recipe.py", line=3, column=1)
SEED = "6d1b0e0a-1d0f-4e4b-9a3c-5f1f0c8a7d21"


def base(reference: str = "debian/trixie") -> Base:
    """A known base by its reference, with a place in a recipe."""
    found = next(known for known in KNOWN_BASES if known.reference == reference)
    return attrs.evolve(found, span=SPAN)


def resolved_image(reference: str = "debian/trixie", **changes: Any) -> ResolvedImage:
    """A complete image with a distribution kernel and nothing of its own; ``changes`` replace fields."""
    authored = AuthoredImage(span=SPAN, name="node", base=base(reference), layer=Layer(span=SPAN))
    image = lower_image(authored)
    kernel = ResolvedKernel(
        span=SPAN,
        source=KernelSource.DISTRIBUTION,
        package="linux-image-cloud-amd64",
        cmdline=(
            KernelArgument(span=SPAN, text="console=tty0"),
            KernelArgument(span=SPAN, text="console=ttyS0,115200n8"),
        ),
    )
    packages = (*image.packages, Package(span=SPAN, name=kernel.package))
    image = attrs.evolve(
        image,
        kernel=kernel,
        packages=tuple(sorted(packages, key=lambda package: package.name)),
        reproducibility=Reproducibility(span=SPAN, enabled=True, source_date_epoch=0, seed=SEED),
        output_targets=(OutputTarget(span=SPAN, name="qemu"),),
    )
    return attrs.evolve(image, **changes)
