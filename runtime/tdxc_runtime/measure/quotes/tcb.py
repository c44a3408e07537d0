"""The TCB status of a platform, its TDX module and its quoting enclave, by Intel's rules.

Sources: Intel PCS API version 4, "Get TDX TCB Info V4" (the selection of the TCB level, ``tdxModuleIdentities``) and
"Get TDX QE Identity V4" (masks, ``tcbLevels``).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import cast

import attrs

from tdxc_runtime.measure.quotes.body import TdBody
from tdxc_runtime.measure.quotes.pck import PckTcb
from tdxc_runtime.measure.quotes.quote import EnclaveReport

UP_TO_DATE = "UpToDate"
# From best to worst; a combination is as good as its worst part.
_ORDER = (
    UP_TO_DATE,
    "SWHardeningNeeded",
    "ConfigurationNeeded",
    "ConfigurationAndSWHardeningNeeded",
    "OutOfDate",
    "OutOfDateConfigurationNeeded",
    "Revoked",
)


@attrs.frozen(kw_only=True)
class TcbStatus:
    """A status by Intel's names, with the advisories that apply and the date of the level."""

    status: str
    advisories: tuple[str, ...] = ()
    date: str = ""


def worst(statuses: Sequence[TcbStatus]) -> TcbStatus:
    """The combination: the worst status, all advisories. A status of an unknown name counts as the worst."""
    ranked = max(statuses, key=lambda s: _ORDER.index(s.status) if s.status in _ORDER else len(_ORDER))
    advisories = dict.fromkeys(a for s in statuses for a in s.advisories)
    return attrs.evolve(ranked, advisories=tuple(advisories))


def platform_status(tcb_info: Mapping[str, object], pck: PckTcb, body: TdBody) -> TcbStatus:
    """The first TCB level that the platform reaches. ``ValueError`` when it is for another platform or none fits."""
    if _text(tcb_info, "id") != "TDX" or tcb_info.get("version") != 3:
        raise ValueError("it is not TDX TCB info of version 3")
    if bytes.fromhex(_text(tcb_info, "fmspc")) != pck.fmspc:
        raise ValueError(f"it is for FMSPC {_text(tcb_info, 'fmspc')}, the platform is {pck.fmspc.hex()}")
    if bytes.fromhex(_text(tcb_info, "pceId")) != pck.pce_id:
        raise ValueError(f"it is for PCE {_text(tcb_info, 'pceId')}, the platform has {pck.pce_id.hex()}")
    # A TDX module of version 1 and later has its first two SVNs judged by its own identity, see module_status.
    first = 2 if body.tee_tcb_svn[1] else 0
    for level in _objects(tcb_info, "tcbLevels"):
        tcb = _object(level, "tcb")
        sgx, tdx = _components(tcb, "sgxtcbcomponents"), _components(tcb, "tdxtcbcomponents")
        if (
            all(have >= need for have, need in zip(pck.components, sgx, strict=True))
            and pck.pce_svn >= _integer(tcb, "pcesvn")
            and all(have >= need for have, need in zip(body.tee_tcb_svn[first:], tdx[first:], strict=True))
        ):
            return _status(level)
    raise ValueError("the platform reaches none of its TCB levels")


def module_status(tcb_info: Mapping[str, object], body: TdBody) -> TcbStatus:
    """The status of the TDX module by its signer, attributes and SVN. ``ValueError`` when it is not a known module."""
    version = body.tee_tcb_svn[1]
    identity = _object(tcb_info, "tdxModule")
    if version:
        wanted = f"TDX_{version:02X}"
        found = [m for m in _objects(tcb_info, "tdxModuleIdentities") if _text(m, "id").upper() == wanted]
        if not found:
            raise ValueError(f"it knows no TDX module {wanted}")
        identity = found[0]
    if bytes.fromhex(_text(identity, "mrsigner")) != body.mr_signer_seam:
        raise ValueError("the TDX module is signed by somebody else (MRSIGNERSEAM)")
    if not _matches(body.seam_attributes, identity, "attributes", "attributesMask"):
        raise ValueError("the TDX module's attributes (SEAMATTRIBUTES) are not the expected ones")
    if not version:
        return TcbStatus(status=UP_TO_DATE)
    return _status_by_svn(identity, body.tee_tcb_svn[0], "the TDX module")


def enclave_status(identity: Mapping[str, object], report: EnclaveReport) -> TcbStatus:
    """The status of the quoting enclave. ``ValueError`` when the report is not of Intel's TD quoting enclave."""
    if _text(identity, "id") != "TD_QE":
        raise ValueError(f"it is for enclave '{_text(identity, 'id')}', not for the TD quoting enclave")
    if bytes.fromhex(_text(identity, "mrsigner")) != report.mr_signer:
        raise ValueError("the quoting enclave is signed by somebody else (MRSIGNER)")
    if _integer(identity, "isvprodid") != report.isv_prod_id:
        raise ValueError(f"the quoting enclave has product id {report.isv_prod_id}")
    # MISCSELECT is written as a number (most significant byte first) and lies little-endian in the report.
    misc, mask = (int(_text(identity, key), 16) for key in ("miscselect", "miscselectMask"))
    if int.from_bytes(report.misc_select, "little") & mask != misc & mask:
        raise ValueError("the quoting enclave's MISCSELECT is not the expected one")
    if not _matches(report.attributes, identity, "attributes", "attributesMask"):
        raise ValueError("the quoting enclave's attributes are not the expected ones")
    return _status_by_svn(identity, report.isv_svn, "the quoting enclave")


def _status_by_svn(identity: Mapping[str, object], svn: int, what: str) -> TcbStatus:
    for level in _objects(identity, "tcbLevels"):
        if svn >= _integer(_object(level, "tcb"), "isvsvn"):
            return _status(level)
    raise ValueError(f"{what} with security version {svn} reaches none of its TCB levels")


def _status(level: Mapping[str, object]) -> TcbStatus:
    advisories = level.get("advisoryIDs", [])
    return TcbStatus(
        status=_text(level, "tcbStatus"),
        advisories=tuple(str(a) for a in advisories) if isinstance(advisories, list) else (),
        date=str(level.get("tcbDate", "")),
    )


def _matches(value: bytes, identity: Mapping[str, object], expected: str, mask: str) -> bool:
    """Whether ``value & mask == expected & mask``, byte by byte; lengths must agree."""
    want, bits = bytes.fromhex(_text(identity, expected)), bytes.fromhex(_text(identity, mask))
    if not len(want) == len(bits) == len(value):
        raise ValueError(f"'{expected}' or '{mask}' has the wrong length")
    return all(v & m == w & m for v, w, m in zip(value, want, bits, strict=True))


def _components(tcb: Mapping[str, object], key: str) -> list[int]:
    found = [_integer(component, "svn") for component in _objects(tcb, key)]
    if len(found) != 16:
        raise ValueError(f"'{key}' has {len(found)} components, not 16")
    return found


def _object(value: Mapping[str, object], key: str) -> Mapping[str, object]:
    found = value.get(key)
    if not isinstance(found, dict):
        raise ValueError(f"it has no object '{key}'")
    return cast("dict[str, object]", found)


def _objects(value: Mapping[str, object], key: str) -> list[Mapping[str, object]]:
    found = value.get(key)
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        raise ValueError(f"it has no list '{key}'")
    return cast("list[Mapping[str, object]]", found)


def _text(value: Mapping[str, object], key: str) -> str:
    found = value.get(key)
    if not isinstance(found, str):
        raise ValueError(f"it has no text '{key}'")
    return found


def _integer(value: Mapping[str, object], key: str) -> int:
    found = value.get(key)
    if not isinstance(found, int):
        raise ValueError(f"it has no number '{key}'")
    return found
