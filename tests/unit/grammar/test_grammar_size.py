import pytest
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan
from tdxc.grammar import format_size, parse_size


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("2G", 2 << 30),
        ("512M", 512 << 20),
        ("1 GiB", 1 << 30),
        ("3kib", 3 << 10),
        ("7B", 7),
        ("1048577", 1048577),
        ("007", 7),
        ("8191T", 8191 << 40),
        ("9223372036854775807", 2**63 - 1),
    ],
)
def test_sizes(text: str, size_bytes: int) -> None:
    assert parse_size(text) == size_bytes


@pytest.mark.parametrize(
    "text", ["", "G", "2GB", "2 GB", "1.5G", "-1", "+1", "2G 3M", "0x10", "1_000", "٣", "2Gi", "2\n"]
)
def test_other_forms_are_syntax_errors(text: str) -> None:
    with pytest.raises(DiagnosticError) as raised:
        parse_size(text, SourceSpan(file="r", line=1, column=2))
    assert raised.value.diagnostics[0].code is Code.E_SYNTAX
    assert str(raised.value.diagnostics[0].span) == "r:1:2"


@pytest.mark.parametrize("text", ["0", "0G", "8388608T", "9223372036854775808", "9" * 10_000])
def test_sizes_that_no_disk_has_are_refused(text: str) -> None:
    with pytest.raises(DiagnosticError) as raised:
        parse_size(text)
    assert raised.value.diagnostics[0].code is Code.E_VALUE


@pytest.mark.parametrize(
    ("size_bytes", "text"), [(1, "1"), (1024, "1K"), (3 << 30, "3G"), (1 << 40, "1T"), (1025, "1025")]
)
def test_format_is_the_shortest_exact_spelling(size_bytes: int, text: str) -> None:
    assert format_size(size_bytes) == text
