import pytest
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.grammar.ini import IniDialect, parse_ini

MKOSI, SYSTEMD = IniDialect.MKOSI, IniDialect.SYSTEMD


def entries(text: str, dialect: IniDialect) -> list[tuple[str, str, str, int]]:
    return [(s.name, e.key, e.value, e.line) for s in parse_ini(text, dialect).sections for e in s.entries]


@pytest.mark.parametrize("dialect", list(IniDialect))
def test_order_and_repetition_are_kept(dialect: IniDialect) -> None:
    text = "# first\n\n[B]\nKey=1\nKey=2\n[A]\nX = y \n[B]\nKey=\n"
    assert entries(text, dialect) == [
        ("B", "Key", "1", 4),
        ("B", "Key", "2", 5),
        ("A", "X", "y", 7),
        ("B", "Key", "", 9),
    ]
    assert parse_ini(text, dialect).values("B", "Key") == ("1", "2", "")


def test_mkosi_continues_on_indented_lines_and_cuts_comments() -> None:
    text = "[Content]\nPackages=\n    a\n\n  # why b\n\tb # tail\nX=1 # one\nY=a;b\n"
    assert entries(text, MKOSI) == [
        ("Content", "Packages", "\na\nb", 2),
        ("Content", "X", "1", 7),
        ("Content", "Y", "a;b", 8),
    ]


def test_systemd_continues_after_a_backslash_and_keeps_hashes_in_values() -> None:
    text = "[Service]\nExecStart=/bin/a \\\n# why\n  -b \\\n; or\n  -c#d\nE=\\x41\\\\\nF=end\\\n"
    assert entries(text, SYSTEMD) == [
        ("Service", "ExecStart", "/bin/a  -b  -c#d", 2),
        ("Service", "E", "\\x41\\ F=end", 7),
    ]


@pytest.mark.parametrize("dialect", list(IniDialect))
@pytest.mark.parametrize("text", ["", "\n", "# only\n", "\r\n\r\n", "[A]", "[A]\r\nB=c\r\n", "[A]\nB=[x]=y"])
def test_edge_forms_are_accepted(text: str, dialect: IniDialect) -> None:
    assert len(parse_ini(text, dialect).sections) == text.count("[A]")


@pytest.mark.parametrize("dialect", list(IniDialect))
@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("Key=1\n", "f.conf:1:1"),
        ("[A\nKey=1\n", "f.conf:1:3"),
        ("[]\n", "f.conf:1:2"),
        ("[A]\nKey\n", "f.conf:2:1"),
        ("[A]\n=1\n", "f.conf:2:1"),
        ("[A] trailing\n", "f.conf:1:3"),
        ("[A]B=c\n", "f.conf:1:3"),
        ("[A]\nB=c\nstray words\n", "f.conf:3:1"),
    ],
)
def test_errors_point_at_line_and_column(text: str, place: str, dialect: IniDialect) -> None:
    with pytest.raises(DiagnosticError) as raised:
        parse_ini(text, dialect, file="f.conf")
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.code is Code.E_SYNTAX
    assert str(diagnostic.span) == place


@pytest.mark.parametrize("dialect", list(IniDialect))
def test_hostile_text_is_read_in_linear_time(dialect: IniDialect) -> None:
    text = "[A]\n" + "K=" + " \\\n" * 20_000 + "#" * 100_000 + "\n" + "\n" * 50_000
    parse_ini(text, dialect)
