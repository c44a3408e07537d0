"""TD reports (TDREPORT_STRUCT, 1024 bytes): what the TDX module tells a TD about itself, before any quote is made.

A report's MAC can only be checked by the machine that made it. What can be checked anywhere is that the parts agree
with the hashes that the MAC covers.

Source: Intel TDX module ABI, "TDREPORT_STRUCT", "REPORTMACSTRUCT", "TEE_TCB_INFO" and "TDINFO_STRUCT".
"""

from __future__ import annotations

import hashlib

import attrs
from tdxc.diagnostics import Code

from tdxc_runtime.measure.checks import Check
from tdxc_runtime.measure.cursor import Cursor
from tdxc_runtime.measure.quotes.body import TdBody

REPORT_SIZE = 1024
_TCB_INFO = slice(256, 256 + 239)
_TD_INFO = slice(512, 1024)
_REPORT_TYPE_TDX = 0x81


@attrs.frozen(kw_only=True)
class TdReport:
    """A report: its type (type, subtype, version), CPU SVN, the hashes that its MAC covers, and the TD's own fields."""

    report_type: tuple[int, int, int]
    cpu_svn: bytes
    tcb_info_hash: bytes
    td_info_hash: bytes
    mac: bytes
    body: TdBody
    raw: bytes = attrs.field(repr=False)


def is_td_report(data: bytes) -> bool:
    """Whether a file looks like a TD report rather than a quote."""
    return len(data) == REPORT_SIZE and data[:1] == bytes((_REPORT_TYPE_TDX,))


def parse_td_report(data: bytes, *, name: str) -> TdReport:
    """Read a report. E_QUOTE when it is not 1024 bytes or not a TDX report."""
    cursor = Cursor(data, name=name, code=Code.E_QUOTE)
    if len(data) != REPORT_SIZE:
        raise cursor.error(f"a TD report has {REPORT_SIZE} bytes, the file has {len(data)}", at=0)
    if data[0] != _REPORT_TYPE_TDX:
        raise cursor.error(f"report type {data[0]:#x} is not TDX ({_REPORT_TYPE_TDX:#x})", at=0)
    tcb, td = data[_TCB_INFO], data[_TD_INFO]
    is_1_5 = data[2] >= 1
    return TdReport(
        report_type=(data[0], data[1], data[2]),
        cpu_svn=data[16:32],
        tcb_info_hash=data[32:80],
        td_info_hash=data[80:128],
        mac=data[224:256],
        body=TdBody(
            tee_tcb_svn=tcb[8:24],
            mr_seam=tcb[24:72],
            mr_signer_seam=tcb[72:120],
            seam_attributes=tcb[120:128],
            td_attributes=int.from_bytes(td[0:8], "little"),
            xfam=int.from_bytes(td[8:16], "little"),
            mr_td=td[16:64],
            mr_config_id=td[64:112],
            mr_owner=td[112:160],
            mr_owner_config=td[160:208],
            rtmrs=(td[208:256], td[256:304], td[304:352], td[352:400]),
            report_data=data[128:192],
            tee_tcb_svn_2=tcb[128:144] if is_1_5 else None,
            mr_service_td=td[400:448] if is_1_5 else None,
        ),
        raw=data,
    )


def check_td_report(report: TdReport) -> tuple[Check, ...]:
    """Whether TEE_TCB_INFO and TDINFO hash to what the MAC covers."""
    found = []
    for name, part, expected in (
        ("TEE_TCB_INFO", report.raw[_TCB_INFO], report.tcb_info_hash),
        ("TDINFO", report.raw[_TD_INFO], report.td_info_hash),
    ):
        ok = hashlib.sha384(part).digest() == expected
        detail = f"{name} {'hashes' if ok else 'does not hash'} to the value that the report's MAC covers"
        found.append(Check(name=f"report {name} hash", ok=ok, detail=detail))
    return tuple(found)


def write_td_report(body: TdBody, *, cpu_svn: bytes = bytes(16), mac: bytes = bytes(32)) -> bytes:
    """A report with the body's fields and right hashes, for tests; its MAC is whatever is given."""
    is_1_5 = body.tee_tcb_svn_2 is not None
    tcb = bytes(8) + body.tee_tcb_svn + body.mr_seam + body.mr_signer_seam + body.seam_attributes
    tcb = (tcb + (body.tee_tcb_svn_2 or b"")).ljust(239, b"\0")
    td = body.td_attributes.to_bytes(8, "little") + body.xfam.to_bytes(8, "little") + body.mr_td + body.mr_config_id
    td += body.mr_owner + body.mr_owner_config + b"".join(body.rtmrs) + (body.mr_service_td or b"")
    td = td.ljust(512, b"\0")
    head = bytes((_REPORT_TYPE_TDX, 0, int(is_1_5), 0)) + bytes(12) + cpu_svn
    head += hashlib.sha384(tcb).digest() + hashlib.sha384(td).digest() + body.report_data + bytes(32) + mac
    return head + tcb + bytes(17) + td
