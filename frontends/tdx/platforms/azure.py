"""AzurePlatform: Azure confidential VMs, attested by their vTPM."""

from __future__ import annotations

from tdxc import records

from tdx._declare import describes
from tdx.image import Image


@records.frozen(init=False)
class AzurePlatform:
    """Make the image's artifact for Azure, with Azure's attestation."""

    @describes
    def __init__(self) -> None:
        self.__attrs_init__()

    def apply(self, image: Image) -> None:
        """Declare the platform on ``image``, usually inside of ``image.profile("azure")``."""
        with image.module("AzurePlatform"):
            image.cloud = "azure"
            image.attestation_backend = "azure"
            image.output_targets("azure")
