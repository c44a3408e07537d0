"""GcpPlatform: Google Cloud confidential VMs with Intel TDX."""

from __future__ import annotations

from tdxc import records

from tdx._declare import describes
from tdx.image import Image


@records.frozen(init=False)
class GcpPlatform:
    """Make the image's artifact for Google Cloud, with its attestation."""

    @describes
    def __init__(self) -> None:
        self.__attrs_init__()

    def apply(self, image: Image) -> None:
        """Declare the platform on ``image``, usually inside of ``image.profile("gcp")``."""
        with image.module("GcpPlatform"):
            image.cloud = "gcp"
            image.attestation_backend = "gcp"
            image.output_targets("gcp")
