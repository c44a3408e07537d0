"""Read a disk image in QEMU's qcow2 format as the disk that it holds; QEMU's docs/interop/qcow2.txt gives the fields.

Images with what a bake never writes (a backing file, encryption, compressed clusters, snapshots' own tables) are
refused. All integers big-endian.
"""

from __future__ import annotations

import functools
import struct

from .pe.diagnose import artifact_error
from .sources import ByteSource, TruncatedInputError

MAGIC = b"QFI\xfb"
_HEADER = struct.Struct(">4sIQIIQIIQ")
_FEATURES = struct.Struct(">Q")
_HOST_OFFSET = (1 << 56) - (1 << 9)
_COMPRESSED, _ALL_ZERO = 1 << 62, 1
_DIRTY = 1
_SMALLEST_CLUSTER, _LARGEST_CLUSTER = 9, 21
_MAX_L1 = 32 << 20


class Qcow2Disk:
    """The disk in a qcow2 image; a :class:`~tdxc_runtime.measure.sources.ByteSource`.

    Raises E_ARTIFACT for an image that is damaged or of a kind that is not read, when it is opened and when it is read.
    """

    def __init__(self, file: ByteSource, artifact: str) -> None:
        self._file = file
        self._artifact = artifact
        head = self._stored(0, _HEADER.size)
        magic, version, backing, _, bits, size, encryption, l1_size, l1_offset = _HEADER.unpack(head)
        features = _FEATURES.unpack(self._stored(_HEADER.size + 24, 8))[0] if version >= 3 else 0
        if magic != MAGIC or version not in {2, 3} or not _SMALLEST_CLUSTER <= bits <= _LARGEST_CLUSTER:
            raise artifact_error(artifact, "this is no qcow2 image of version 2 or 3")
        if backing or encryption or features & ~_DIRTY:
            raise artifact_error(
                artifact,
                "this qcow2 image has a backing file, encryption or features that are not read",
                "convert it: qemu-img convert -O raw IMAGE disk.raw",
            )
        self._size: int = size
        self._bits: int = bits
        self._l1: int = l1_offset
        self._l2_entries = 1 << (self._bits - 3)
        if l1_size * 8 > _MAX_L1 or -(-self._size // (self._l2_entries << bits)) > l1_size:
            raise artifact_error(artifact, f"its first table of {l1_size} entries does not suit {self._size} bytes")
        self._table = functools.lru_cache(maxsize=16)(self._read_table)

    @property
    def name(self) -> str:
        """The image's name."""
        return self._file.name

    @property
    def size(self) -> int:
        """The disk's size."""
        return self._size

    def read(self, offset: int, size: int) -> bytes:
        """Exactly ``size`` bytes of the disk from ``offset``."""
        if offset < 0 or size < 0 or offset + size > self._size:
            raise TruncatedInputError(
                f"bytes {offset:#x} to {offset + size:#x} lie outside the {self._size:#x} there are"
            )
        parts = []
        end = offset + size
        while offset < end:
            within = offset & ((1 << self._bits) - 1)
            part = min(end - offset, (1 << self._bits) - within)
            place = self._host_offset(offset >> self._bits)
            parts.append(bytes(part) if place is None else self._stored(place + within, part))
            offset += part
        return b"".join(parts)

    def _host_offset(self, cluster: int) -> int | None:
        """Where a cluster of the disk lies in the file; ``None`` for one that is all zeros."""
        first, second = divmod(cluster, self._l2_entries)
        (table,) = struct.unpack(">Q", self._stored(self._l1 + 8 * first, 8))
        if not table & _HOST_OFFSET:
            return None
        (entry,) = struct.unpack_from(">Q", self._table(table & _HOST_OFFSET), 8 * second)
        if entry & _COMPRESSED:
            raise artifact_error(
                self._artifact, "this qcow2 image is compressed", "convert it: qemu-img convert -O raw IMAGE disk.raw"
            )
        return None if entry & _ALL_ZERO or not entry & _HOST_OFFSET else entry & _HOST_OFFSET

    def _read_table(self, offset: int) -> bytes:
        return self._stored(offset, 8 * self._l2_entries)

    def _stored(self, offset: int, size: int) -> bytes:
        try:
            return self._file.read(offset, size)
        except TruncatedInputError as error:
            raise artifact_error(self._artifact, f"the qcow2 image is cut short or damaged: {error}") from None
