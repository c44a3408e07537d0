"""The variable store that a firmware file ships (the configuration firmware volume, CFV).

Sources: edk2 ``MdeModulePkg/Include/Guid/VariableFormat.h`` (store and variable headers), UEFI PI 1.8 volume 3
(firmware volume header). All integers little-endian, GUIDs mixed-endian.
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Iterator

import attrs

GLOBAL_VARIABLE = uuid.UUID("8be4df61-93ca-11d2-aa0d-00e098032b8c")
IMAGE_SECURITY_DATABASE = uuid.UUID("d719b2cb-3d3a-4596-a3bc-dad00e67656f")
_AUTHENTICATED_STORE = uuid.UUID("aaf32c78-947b-439a-a180-2e144ec37792").bytes_le
_STORE_HEADER = 28
_VARIABLE_HEADER = struct.Struct("<HBxI28xII16s")
_START, _LIVE = 0x55AA, 0x3F
_MAX_VARIABLES = 4096


@attrs.frozen(kw_only=True)
class Variable:
    """A live UEFI variable."""

    vendor: uuid.UUID
    name: str
    attributes: int
    data: bytes


def read_variables(volume: bytes) -> tuple[Variable, ...]:
    """The live variables of an authenticated variable store; ``ValueError`` when the bytes are not one."""
    if len(volume) < 72 or volume[40:44] != b"_FVH":
        raise ValueError("the configuration volume does not begin with a firmware volume header")
    (header,) = struct.unpack("<H", volume[48:50])
    store = volume[header:]
    if len(store) < _STORE_HEADER or store[:16] != _AUTHENTICATED_STORE:
        raise ValueError("the configuration volume holds no authenticated variable store")
    (size,) = struct.unpack("<I", store[16:20])
    if not _STORE_HEADER <= size <= len(store):
        raise ValueError(f"the variable store claims {size} bytes")
    return tuple(_live_variables(store[:size]))


def _live_variables(store: bytes) -> Iterator[Variable]:
    position = _STORE_HEADER
    for _ in range(_MAX_VARIABLES):
        if position + _VARIABLE_HEADER.size > len(store):
            return
        start, state, attributes, name_size, data_size, vendor = _VARIABLE_HEADER.unpack_from(store, position)
        if start != _START:
            return
        name_start = position + _VARIABLE_HEADER.size
        end = name_start + name_size + data_size
        if end > len(store) or name_size % 2:
            raise ValueError(f"a variable at {position:#x} reaches beyond the store")
        if state == _LIVE:
            yield Variable(
                vendor=uuid.UUID(bytes_le=vendor),
                name=store[name_start : name_start + name_size].decode("utf-16-le", "replace").rstrip("\0"),
                attributes=attributes,
                data=store[name_start + name_size : end],
            )
        position = (end + 3) & ~3
    raise ValueError("the variable store does not end")
