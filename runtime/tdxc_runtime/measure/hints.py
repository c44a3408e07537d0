"""What digests in a log would mean: digests computed for inputs that machines commonly have."""

from __future__ import annotations

from tdxc_runtime.measure.events import Algorithm
from tdxc_runtime.measure.firmware.tdvf import Tdvf
from tdxc_runtime.measure.machine import GIB, MIB
from tdxc_runtime.measure.tdhob import build_td_hob, ram_ranges

# Whole and half powers of two, as people and clouds size their machines.
_SIZES = tuple(
    sorted({factor * step << power for step in (256 * MIB, 384 * MIB) for factor in (1, 5) for power in range(12)})
)


def memory_hints(firmware: Tdvf) -> dict[bytes, str]:
    """The digest of the memory layout (TD HOB) under ``firmware`` for each usual memory size, and that size in words.

    For :class:`~tdxc_runtime.measure.verify.Evidence`, so that a verdict can name the size that a TD really has.
    """
    return {
        Algorithm.SHA384.digest(build_td_hob(firmware, ram_ranges(size))): f"{_words(size)} of memory"
        for size in _SIZES
    }


def _words(size: int) -> str:
    return f"{size // GIB} GiB" if size % GIB == 0 else f"{size // MIB} MiB"
