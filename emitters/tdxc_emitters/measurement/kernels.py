"""Which Linux a kernel package holds, as far as its name says; from that follows what its EFI stub measures.

Sources: the package lists of Debian 12 and 13, of Ubuntu 24.04 (linux-meta and its flavours) and of Alpine 3.20;
Ubuntu's kernel documentation, "HWE kernels", and its public-cloud documentation, "Kernels on the cloud": the kernel
that 24.04 was released with stays 6.8, and so do the ``-lts-24.04`` flavours, while ``-hwe-24.04``, ``-edge``,
``-oem-`` and the clouds' own flavours move on from series to series.
"""

from __future__ import annotations

import re

from tdxc import records
from tdxc.ir import ResolvedImage

_IN_NAME = re.compile(r"linux-(?:image|source)-(?:unsigned-)?(\d+)\.(\d+)")
_VERSION = re.compile(r"(?:\d+:)?(\d+)\.(\d+)")


@records.frozen
class KernelSeries:
    """The packages of a base whose whole name matches ``names``, in the suites ``suites``, are of one series."""

    names: str
    series: tuple[int, int]
    suites: str = ""


_OWN = r"|{0}|{0}-updates|{0}-security"
_SERIES: dict[str, tuple[KernelSeries, ...]] = {
    "debian/trixie": (KernelSeries(r"linux-image-.+", (6, 12), r"|trixie.*"),),
    "debian/bookworm": (
        KernelSeries(r"linux-image-.+", (6, 1), _OWN.format("bookworm")),
        KernelSeries(r"linux-image-.+", (6, 12), r"bookworm-backports(?:-sloppy)?"),
    ),
    "ubuntu/noble": (
        KernelSeries(
            r"linux-image-(?:generic|virtual|lowlatency|kvm|.+-lts-24\.04)",
            (6, 8),
            _OWN.format("noble") + "|noble-proposed",
        ),
    ),
    "alpine/3.20": (KernelSeries(r"linux-(?:lts|virt)", (6, 6), ""),),
}
"""By base; of a later suite, the least that it can be."""


def kernel_series(image: ResolvedImage) -> tuple[int, int] | None:
    """Major and minor version of the image's kernel, or the least that they can be; None where only a bake knows."""
    kernel = image.kernel
    if found := _VERSION.match(kernel.version):
        return int(found[1]), int(found[2])
    name, _, version = kernel.package.partition("=")
    name, _, suite = name.partition("/")
    if found := _VERSION.match(version) or _IN_NAME.match(name):
        return int(found[1]), int(found[2])
    for known in _SERIES.get(image.base.reference, ()):
        if re.fullmatch(known.names, name) and re.fullmatch(known.suites, suite):
            return known.series
    return None
