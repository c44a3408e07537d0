"""Backends as a recipe names them: plain descriptions of where mkosi runs. Running it is ``tdxc_runtime``'s."""

from __future__ import annotations

from tdxc import records

from tdx import _values as v
from tdx._declare import describes


@records.frozen(init=False)
class LocalLinuxBackend:
    """mkosi on this Linux machine: the one on PATH if it is new enough, else one in a pinned tools root."""

    @describes
    def __init__(self) -> None:
        self.__attrs_init__()


@records.frozen(init=False)
class NixMkosiBackend:
    """mkosi from ``nix develop`` on this Linux machine."""

    @describes
    def __init__(self) -> None:
        self.__attrs_init__()


@records.frozen(init=False)
class LimaMkosiBackend:
    """mkosi inside a Lima virtual machine; ``memory`` and ``disk`` as Lima spells sizes (``12GiB``)."""

    cpus: int
    memory: str
    disk: str

    @describes
    def __init__(self, *, cpus: v.CpuCount = 4, memory: v.LimaSize = "8GiB", disk: v.LimaSize = "60GiB") -> None:
        self.__attrs_init__(cpus, memory, disk)


Backend = LocalLinuxBackend | NixMkosiBackend | LimaMkosiBackend
