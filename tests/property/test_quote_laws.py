"""What must hold of any quote, report or collateral file: what is written is read, and no bytes do harm."""

import functools
import json
from typing import Any

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support import quote_pki as pki
from support.event_logs import VECTORS
from support.fuzzing import MEMORY_FLOOR, mutations, only_diagnosed, peak_memory
from tdxc.diagnostics import Code
from tdxc_runtime.measure.quotes import (
    Collateral,
    TdBody,
    check_td_report,
    parse_collateral,
    parse_quote,
    parse_td_report,
    verify_quote,
    write_quote,
    write_td_report,
)
from tdxc_runtime.measure.quotes.collateral import MAX_COLLATERAL_SIZE
from tdxc_runtime.measure.quotes.pck import parse_sgx_extension
from tdxc_runtime.measure.quotes.quote import signed_part

SAMPLES = {"v4": pki.quote(), "v5": pki.quote(version=5)}
if VECTORS.is_dir():
    SAMPLES["real"] = (VECTORS / "go-tdx-guest/tdx_prod_quote_SPR_E4.dat").read_bytes()
COLLATERAL = pki.collateral()


def bits(size: int) -> st.SearchStrategy[bytes]:
    return st.binary(min_size=size, max_size=size)


@st.composite
def bodies(draw: st.DrawFn) -> TdBody:
    newer = draw(st.booleans())
    plain = attrs.fields(TdBody)
    values: dict[str, Any] = {
        field.name: draw(bits(len(getattr(pki.body(), field.name))))
        for field in plain
        if isinstance(getattr(pki.body(), field.name), bytes)
    }
    values["rtmrs"] = tuple(draw(bits(48)) for _ in range(4))
    values["td_attributes"], values["xfam"] = (draw(st.integers(0, 2**64 - 1)) for _ in range(2))
    if newer:
        values["tee_tcb_svn_2"], values["mr_service_td"] = draw(bits(16)), draw(bits(48))
    return attrs.evolve(pki.body(), **values)


@given(bodies(), st.sampled_from((4, 5)))
def test_a_written_quote_is_read_back(body: TdBody, version: int) -> None:
    if version == 4 and body.tee_tcb_svn_2 is not None:
        body = attrs.evolve(body, tee_tcb_svn_2=None, mr_service_td=None)
    signature = parse_quote(SAMPLES["v4"], name="q").signature
    assert signature is not None
    found = parse_quote(write_quote(signed_part(body, version=version), signature), name="q")
    assert found.body == body
    assert found.signature == signature


@given(bodies())
def test_a_written_report_is_read_back(body: TdBody) -> None:
    report = parse_td_report(write_td_report(body), name="r")
    assert report.body == body
    assert all(check.ok for check in check_td_report(report))


def use(data: bytes) -> None:
    """Parse and verify; only the parser may refuse, and only with its diagnostic."""
    with only_diagnosed(Code.E_QUOTE, "q"):
        quote = parse_quote(data, name="q")
        verify_quote(quote, name="q", at=pki.NOW, collateral=parsed_collateral(), root_key=pki.world().root.point)


@functools.cache
def parsed_collateral() -> Collateral:
    return parse_collateral(COLLATERAL, name="c")


@given(st.one_of(st.binary(max_size=2000), bits(1024), bits(48).map(lambda b: b"\x04\0\x02\0\x81\0\0\0" + b * 40)))
def test_arbitrary_bytes_do_no_harm(data: bytes) -> None:
    use(data)
    with only_diagnosed(Code.E_QUOTE, "r"):
        check_td_report(parse_td_report(data, name="r"))
    with only_diagnosed(Code.E_QUOTE, "c"):
        parse_collateral(data, name="c")


@pytest.mark.parametrize("name", sorted(SAMPLES))
@given(st.data())
@settings(max_examples=150, deadline=None)
def test_damaged_quotes_do_no_harm(name: str, data: st.DataObject) -> None:
    use(data.draw(mutations(SAMPLES[name])))


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_a_changed_signed_part_never_passes(data: st.DataObject) -> None:
    sample = bytearray(SAMPLES["v4"])
    position = data.draw(st.integers(8, 631))
    sample[position] ^= data.draw(st.integers(1, 255))
    result = verify_quote(parse_quote(bytes(sample), name="q"), name="q", at=pki.NOW, root_key=pki.world().root.point)
    assert not result.ok


@given(st.data())
@settings(max_examples=100, deadline=None)
def test_damaged_collateral_does_no_harm(data: st.DataObject) -> None:
    quote = parse_quote(SAMPLES["v4"], name="q")
    with only_diagnosed(Code.E_QUOTE, "c"):
        collateral = parse_collateral(data.draw(mutations(COLLATERAL)), name="c")
        verify_quote(quote, name="q", at=pki.NOW, collateral=collateral, root_key=pki.world().root.point)


JSON_VALUES = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=8)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=8), inner, max_size=3)),
    max_leaves=8,
)


@given(st.sampled_from(sorted(pki.tcb_info())), st.sampled_from(sorted(pki.qe_identity())), JSON_VALUES)
@settings(max_examples=150, deadline=None)
def test_signed_objects_of_any_content_do_no_harm(info_key: str, identity_key: str, value: object) -> None:
    """Intel's signature says who wrote it, not that it fits."""
    info, identity = pki.tcb_info(**{info_key: value}), pki.qe_identity(**{identity_key: value})
    quote = parse_quote(SAMPLES["v4"], name="q")
    with only_diagnosed(Code.E_QUOTE, "c"):
        collateral = parse_collateral(pki.collateral(info=info, identity=identity), name="c")
        verify_quote(quote, name="q", at=pki.NOW, collateral=collateral, root_key=pki.world().root.point)


@given(st.one_of(st.binary(max_size=300), mutations(pki.sgx_extension())))
def test_platform_data_of_any_content_does_no_harm(data: bytes) -> None:
    try:
        parse_sgx_extension(data)
    except ValueError as error:
        if isinstance(error, (UnicodeError, json.JSONDecodeError)):
            raise AssertionError("not the parser's own fault") from error


@pytest.mark.parametrize("size", [5000, 60000, 250000])
def test_reading_a_quote_takes_less_than_ten_times_its_size(size: int) -> None:
    chain = pki.chain_pem(pki.world().pck, pki.world().authority, pki.world().root)
    data = pki.quote(pem=chain * (size // len(chain)))
    use(data)
    assert peak_memory(lambda: use(data)) < 10 * len(data) + (MEMORY_FLOOR >> 4)


def test_the_worst_collateral_stays_small() -> None:
    """Decoded JSON can take 25 times its text, which is why so little of it is read."""
    data = pki.collateral(info=pki.tcb_info(tcbLevels=[{}] * 80000))
    assert len(data) < MAX_COLLATERAL_SIZE

    def read() -> None:
        parse_collateral(data, name="c")

    read()
    assert peak_memory(read) < 16 << 20
