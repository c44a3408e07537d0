"""The SGX extension of a PCK certificate: which platform it is for and at which TCB level the certificate was issued.

Source: Intel SGX PCK Certificate and CRL Profile Specification, revision 1.5, section 1.3.5: a DER SEQUENCE of
(OID, value) pairs under 1.2.840.113741.1.13.1, where .2 is the TCB (components .1 to .16, PCESVN .17, CPUSVN .18), .3
the PCE id, .4 the FMSPC.
"""

from __future__ import annotations

import attrs

_BASE = "1.2.840.113741.1.13.1"
_SEQUENCE, _INTEGER, _OCTETS, _OID = 0x30, 0x02, 0x04, 0x06
_MAX_DEPTH = 4


@attrs.frozen(kw_only=True)
class PckTcb:
    """FMSPC (6 bytes), PCE id (2 bytes), the 16 SVN components and the PCE's SVN."""

    fmspc: bytes
    pce_id: bytes
    components: tuple[int, ...]
    pce_svn: int


def parse_sgx_extension(data: bytes) -> PckTcb:
    """Read the extension's value; ``ValueError`` when it is malformed or lacks one of the fields."""
    fields: dict[str, bytes] = {}
    _collect(memoryview(data), fields, 0)
    try:
        components = tuple(int.from_bytes(fields[f"{_BASE}.2.{i}"], "big") for i in range(1, 17))
        return PckTcb(
            fmspc=_exactly(fields[f"{_BASE}.4"], 6),
            pce_id=_exactly(fields[f"{_BASE}.3"], 2),
            components=components,
            pce_svn=int.from_bytes(fields[f"{_BASE}.2.17"], "big"),
        )
    except KeyError as missing:
        raise ValueError(f"the SGX extension has no field {missing}") from None


def _exactly(value: bytes, size: int) -> bytes:
    if len(value) != size:
        raise ValueError(f"a field of the SGX extension has {len(value)} bytes, not {size}")
    return value


def _collect(data: memoryview, fields: dict[str, bytes], depth: int) -> None:
    """Walk nested SEQUENCEs; a pair of an OID and an integer or octets becomes a field."""
    if depth > _MAX_DEPTH:
        raise ValueError("the SGX extension is nested too deeply")
    key = ""
    while data:
        tag, value, data = _element(data)
        if tag == _OID:
            key = _oid_text(bytes(value))
        elif tag == _SEQUENCE:
            _collect(value, fields, depth + 1)
        elif tag in {_INTEGER, _OCTETS} and key:
            fields[key] = bytes(value)


def _element(data: memoryview) -> tuple[int, memoryview, memoryview]:
    """The next DER element: tag, value, and what follows. Lengths up to two bytes."""
    if len(data) < 2:
        raise ValueError("the SGX extension breaks off")
    tag, length, start = data[0], data[1], 2
    if length & 0x80:
        count = length & 0x7F
        if count not in {1, 2} or len(data) < 2 + count:
            raise ValueError("the SGX extension has a bad length")
        length, start = int.from_bytes(data[2 : 2 + count], "big"), 2 + count
    if start + length > len(data):
        raise ValueError("the SGX extension breaks off")
    return tag, data[start : start + length], data[start + length :]


def _oid_text(value: bytes) -> str:
    """Dotted form of an OBJECT IDENTIFIER."""
    numbers, current = [], 0
    for byte in value[:64]:
        current = current << 7 | byte & 0x7F
        if not byte & 0x80:
            numbers.append(current)
            current = 0
    if not numbers:
        raise ValueError("the SGX extension has an empty identifier")
    first = min(numbers[0] // 40, 2)
    return ".".join(map(str, (first, numbers[0] - 40 * first, *numbers[1:])))
