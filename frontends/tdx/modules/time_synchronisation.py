"""TimeSynchronisation: a trustworthy clock, as a module to use and to learn from (``docs/module-authoring.md``)."""

from __future__ import annotations

from tdxc import records

from tdx import _values as v
from tdx._declare import describes
from tdx.image import Image

DEFAULT_SERVERS = ("0.debian.pool.ntp.org", "1.debian.pool.ntp.org")


@records.frozen(init=False)
class TimeSynchronisation:
    """Keep the clock right with systemd-timesyncd; certificates and tokens are only as good as the clock.

    A trust domain's clock is the host's to set, so it is no proof of time; choose servers that you trust.
    """

    servers: tuple[str, ...]

    @describes
    def __init__(self, *, servers: v.HostNames = DEFAULT_SERVERS) -> None:
        self.__attrs_init__(tuple(servers))

    def apply(self, image: Image) -> None:
        """Declare the package, its configuration and what must survive debloating."""
        with image.module("TimeSynchronisation"):
            image.install("systemd-timesyncd")
            image.file(
                "/usr/lib/systemd/timesyncd.conf.d/50-servers.conf",
                content=f"[Time]\nNTP={' '.join(self.servers)}\n",
            )
            image.debloat(keep_units=["systemd-timesyncd.service"])
