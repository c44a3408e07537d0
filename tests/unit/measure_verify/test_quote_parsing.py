import json

import attrs
import pytest
from support.event_logs import needs_vectors, vector
from support.quote_pki import body, quote
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.measure.events import MRTD, RTMR0, RTMR3
from tdxc_runtime.measure.quotes import check_td_report, is_td_report, parse_quote, parse_td_report, write_td_report
from tdxc_runtime.measure.quotes.body import TdBody, write_body

BODY_1_5 = body(tee_tcb_svn_2=b"\x21" * 16, mr_service_td=b"\x22" * 48)


def refused(data: bytes) -> str:
    with pytest.raises(DiagnosticError) as caught:
        parse_quote(data, name="quote")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code is Code.E_QUOTE
    assert diagnostic.span.file == "quote"
    return diagnostic.message


@pytest.mark.parametrize(("version", "td", "size"), [(4, body(), 632), (5, body(), 638), (5, BODY_1_5, 702)])
def test_every_version_and_body_is_read_back(version: int, td: TdBody, size: int) -> None:
    data = quote(td, version=version)
    found = parse_quote(data, name="quote")
    assert (found.version, found.body, len(found.signed)) == (version, td, size)
    assert found.signature is not None
    assert found.signature.certification_type == 5
    assert found.extra == 0


def test_the_fields_lie_where_the_specification_puts_them() -> None:
    """Offsets in the body: Intel TDX DCAP Quoting Library API, section A.3.2."""
    raw = write_body(BODY_1_5)
    assert len(raw) == 648
    for offset, value in (
        *((0, BODY_1_5.tee_tcb_svn), (16, BODY_1_5.mr_seam), (64, BODY_1_5.mr_signer_seam), (112, bytes(8))),
        *((136, BODY_1_5.mr_td), (184, BODY_1_5.mr_config_id), (232, BODY_1_5.mr_owner)),
        *((280, BODY_1_5.mr_owner_config), (328, BODY_1_5.rtmrs[0]), (472, BODY_1_5.rtmrs[3])),
        *((520, BODY_1_5.report_data), (584, b"\x21" * 16), (600, b"\x22" * 48)),
    ):
        assert raw[offset : offset + len(value)] == value
    assert raw[120:128] == (1 << 28).to_bytes(8, "little")


def test_registers_and_attributes_have_names() -> None:
    td = body(td_attributes=1 | 1 << 28 | 1 << 40)
    assert td.registers[MRTD] == b"\x0b" * 48
    assert td.registers[RTMR3] == b"\x13" * 48
    assert td.attribute_names == ("DEBUG", "SEPT_VE_DISABLE", "bit 40")
    assert td.is_debug
    assert td.to_json()["rtmr0"] == "10" * 48
    assert td.to_json()["mr_service_td"] is None


def changed(offset: int, value: bytes, version: int = 4) -> bytes:
    data = bytearray(quote(version=version))
    data[offset : offset + len(value)] = value
    return bytes(data)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "48 bytes of header"),
        (b"\x04", "48 bytes of header"),
        (changed(0, b"\x03"), "version 3"),
        (changed(4, b"\0\0\0\0"), "TEE type 0x0"),
        (changed(48, b"\x01\0", 5), "body type 1"),
        (changed(50, b"\xff\xff\xff\xff", 5), "with 4294967295 bytes"),
        (changed(632, b"\xff\xff\xff\xff"), "needs 4294967295 bytes"),
        (changed(632, b"\0\0\0\0"), "needs 64 bytes where 0 are left"),
        (changed(764, b"\x05\0"), "type 5"),
        (changed(766, b"\0\0\0\0"), "follow the certification data"),
        (changed(766, b"\xff\xff\xff\xff"), "needs 4294967295 bytes"),
        (changed(1218, b"\xff\xff"), "needs 65535 bytes"),
        (b"\x04" * (300 << 10), "more than"),
    ],
)
def test_bad_quotes_are_refused_with_their_place(data: bytes, message: str) -> None:
    assert message in refused(data)


def test_every_truncation_is_refused() -> None:
    data = quote()
    for size in range(0, len(data), 7):
        refused(data[:size])


def test_what_follows_a_quote_is_counted() -> None:
    data = quote()
    assert parse_quote(data + bytes(3000), name="quote").extra == 0
    assert parse_quote(data + b"more", name="quote").extra == 4


def test_an_unknown_key_type_has_no_signature() -> None:
    assert parse_quote(changed(2, b"\x03"), name="quote").signature is None


@needs_vectors
def test_a_real_quote() -> None:
    data = vector("go-tdx-guest/tdx_prod_quote_SPR_E4.dat")
    found = parse_quote(data, name="quote")
    assert (found.version, found.body_type, len(write_body(found.body))) == (4, 2, 584)
    assert found.body.mr_td.hex() == (
        "6363b8043668a3ad953278e10389574d326c6749fb78aa810ecd9336923db86f22fc00b8dcd404bc10d5e119d7215cbb"
    )
    assert found.extra == 39


@needs_vectors
def test_quotes_inside_other_files() -> None:
    report = json.loads(vector("dstack/quote-report.json"))
    found = parse_quote(bytes.fromhex(report["quote"]), name="quote")
    assert found.body.report_data == bytes.fromhex(report["report_data"])


@pytest.mark.parametrize("td", [body(), BODY_1_5])
def test_a_report_is_read_back_and_agrees_with_itself(td: object) -> None:
    assert isinstance(td, type(BODY_1_5))
    data = write_td_report(td, cpu_svn=b"\x31" * 16, mac=b"\x32" * 32)
    assert len(data) == 1024
    assert is_td_report(data)
    assert not is_td_report(quote())
    report = parse_td_report(data, name="report")
    assert report.body == td
    assert (report.cpu_svn, report.mac) == (b"\x31" * 16, b"\x32" * 32)
    assert [check.ok for check in check_td_report(report)] == [True, True]


@pytest.mark.parametrize(("offset", "expected"), [(270, [False, True]), (600, [True, False]), (40, [False, True])])
def test_a_changed_report_does_not_hash_to_what_its_mac_covers(offset: int, expected: list[bool]) -> None:
    data = bytearray(write_td_report(body()))
    data[offset] ^= 1
    assert [check.ok for check in check_td_report(parse_td_report(bytes(data), name="report"))] == expected


def test_registers_of_a_report() -> None:
    report = parse_td_report(write_td_report(attrs.evolve(body(), mr_td=b"\x41" * 48)), name="report")
    assert report.body.registers[MRTD] == b"\x41" * 48
    assert report.body.registers[RTMR0] == b"\x10" * 48


@pytest.mark.parametrize("data", [b"", bytes(1023), bytes(1025), bytes(1024), b"\x0f" + bytes(1023)])
def test_other_files_are_no_reports(data: bytes) -> None:
    with pytest.raises(DiagnosticError) as caught:
        parse_td_report(data, name="report")
    assert caught.value.diagnostics[0].code is Code.E_QUOTE


@needs_vectors
def test_a_file_of_the_right_size_that_is_no_report_is_refused() -> None:
    with pytest.raises(DiagnosticError, match="report type 0xf"):
        parse_td_report(vector("go-tdx-guest/report.dat"), name="report")
