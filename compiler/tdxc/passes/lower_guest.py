"""lower-guest: keys, encrypted disks, secrets and quotes become the configuration of ``tdx-guest`` and its units.

What it takes is imported only for an image that declares any of it.
"""

from __future__ import annotations

from typing import ClassVar

from tdxc.ir import ResolvedImage
from tdxc.passes.base import PassContext


class LowerGuest:
    """Check what is declared for the inside of the guest, write its configuration and units."""

    name: ClassVar[str] = "lower-guest"
    description: ClassVar[str] = "keys, disks, secrets and quotes to the guest's configuration, units and dependencies"
    requires: ClassVar[frozenset[str]] = frozenset({"resolve-kernel"})
    establishes: ClassVar[frozenset[str]] = frozenset({"lower-guest"})

    def run(self, image: ResolvedImage, ctx: PassContext) -> ResolvedImage:
        """The image with its guest; reports every contradiction, and every way that a secret takes to the outside."""
        declared = image.guest_keys or image.encrypted_disks or image.secret_delivery or image.quote_service
        if not declared and not any(unit.needs and unit.needs.secrets for unit in image.units):
            return image
        from tdxc.passes.guest_checks import check_guest, check_size
        from tdxc.passes.guest_config import CONFIG_PATH
        from tdxc.passes.guest_mounts import check_mounts, with_closed_mount_points
        from tdxc.passes.guest_platform import check_platform, for_platform
        from tdxc.passes.guest_units import with_guest
        from tdxc.passes.guest_uses import check_uses
        from tdxc.passes.secret_flow import check_flow

        ctx.sink.extend(check_guest(image))
        ctx.sink.extend(check_mounts(image))
        ctx.sink.extend(check_uses(image))
        ctx.sink.extend(check_flow(image))
        ctx.sink.extend(check_platform(image))
        lowered = with_closed_mount_points(with_guest(for_platform(image)))
        for file in lowered.files:
            if file.path == CONFIG_PATH:
                ctx.sink.extend(check_size(file.content.size_bytes, image))
        return lowered
