"""Tdxs: quotes over a socket, for programs of the image that prove what they run in."""

from __future__ import annotations

from typing import Literal

from tdxc.ir import QuoteService

from tdx import _values as v
from tdx._declare import describes, here
from tdx.image import Image
from tdx.modules._guest import install_program

DEFAULT_SOCKET = "/run/tdxs.sock"
_SOURCES = {"auto": "auto", "tdx": "configfs", "azure": "azure_vtpm", "fake": "fake"}


class Tdxs:
    """Issue and validate TD quotes on a socket that only a group may use; the service starts with the first request.

    ``issuer``: ``tdx`` asks the kernel (configfs-tsm), ``azure`` the virtual TPM of Azure's confidential machines, and
    ``auto`` whichever of both the platform of the image, or of its profile, has. ``fake`` makes quotes up; it is for
    tests, and marks the image as a test image.
    """

    @describes
    def __init__(
        self,
        issuer: Literal["auto", "tdx", "azure", "fake"] = "auto",
        *,
        group: v.UserName = "tdx",
        socket: v.GuestFile = DEFAULT_SOCKET,
    ) -> None:
        self.node = QuoteService(source=_SOURCES[issuer], group=group, socket=socket, span=here())

    def apply(self, image: Image) -> None:
        """Declare the service, the program behind it, and the group."""
        with image.module("Tdxs"):
            install_program(image)
            image.group(self.node.group)
            image.declare_one("quote_service", self.node)
