import pytest
from support.event_logs import needs_vectors, vector
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.measure.logs import CcelTable, is_ccel_table, parse_ccel_table, write_ccel_table

TABLE = CcelTable(revision=1, oem_id=b"INTEL ", cc_type=2, cc_subtype=0, area_length=65536, area_address=0x7D649000)


def refused(data: bytes) -> str:
    with pytest.raises(DiagnosticError) as caught:
        parse_ccel_table(data, name="CCEL")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code is Code.E_EVENTLOG
    assert diagnostic.span.file == "CCEL"
    return diagnostic.message


@needs_vectors
def test_the_table_of_a_real_td() -> None:
    table = parse_ccel_table(vector("go-eventlog/CCEL.bin"), name="CCEL")
    assert (table.cc_type, table.area_length, table.oem_id) == (2, 65536, b"INTEL ")
    assert sum(vector("go-eventlog/CCEL.bin")) & 0xFF == 0


def test_what_is_written_is_read_back() -> None:
    data = write_ccel_table(TABLE)
    assert len(data) == 56
    assert is_ccel_table(data)
    assert parse_ccel_table(data, name="CCEL") == TABLE


def test_every_changed_byte_is_noticed() -> None:
    data = write_ccel_table(TABLE)
    for position in range(len(data)):
        broken = bytearray(data)
        broken[position] ^= 0x01
        refused(bytes(broken))


@pytest.mark.parametrize("size", [0, 3, 4, 7, 35, 36, 55])
def test_a_short_table_is_refused(size: int) -> None:
    refused(write_ccel_table(TABLE)[:size])


def test_a_table_for_another_technology_is_refused() -> None:
    import attrs

    assert "type 1" in refused(write_ccel_table(attrs.evolve(TABLE, cc_type=1)))


def test_a_length_beyond_the_file_is_refused() -> None:
    data = bytearray(write_ccel_table(TABLE))
    data[4:8] = (2**32 - 1).to_bytes(4, "little")
    assert "4294967295" in refused(bytes(data))
