import pytest
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, SourceSpan
from tdxc.grammar import check_option, parse_kconfig, print_option
from tdxc.grammar.kconfig import canonical_value
from tdxc.ir import KconfigOption

FRAGMENT = """\
# a comment
#
# CONFIG_COMMENTED=y
CONFIG_TDX=y
CONFIG_MOD=m
CONFIG_OFF=n
# CONFIG_UNSET is not set

CONFIG_NUMBER=-12
CONFIG_HEX=0xFF00
CONFIG_STRING="a \\"quoted\\" back\\\\slash # not a comment"
CONFIG_EMPTY=""
CONFIG_lower_9=y\t\r
"""


def faults(text: str, file: str = "") -> tuple[Diagnostic, ...]:
    with pytest.raises(DiagnosticError) as raised:
        parse_kconfig(text, SourceSpan(file="recipe.py", line=3, column=1), file=file)
    return raised.value.diagnostics


def test_every_kind_of_line() -> None:
    assert [(o.name, o.value) for o in parse_kconfig(FRAGMENT)] == [
        ("TDX", "y"),
        ("MOD", "m"),
        ("OFF", "n"),
        ("UNSET", "n"),
        ("NUMBER", "-12"),
        ("HEX", "0xff00"),
        ("STRING", '"a \\"quoted\\" back\\\\slash # not a comment"'),
        ("EMPTY", '""'),
        ("lower_9", "y"),
    ]


def test_spans_point_into_the_fragment_file() -> None:
    options = {o.name: o for o in parse_kconfig(FRAGMENT, file="kernel/x.config")}
    assert str(options["STRING"].span) == "kernel/x.config:11:1"


def test_spans_of_inline_text_are_the_recipe_line() -> None:
    span = SourceSpan(file="recipe.py", line=3, column=1)
    assert {o.span for o in parse_kconfig(FRAGMENT, span)} == {span}


@pytest.mark.parametrize(
    ("line", "column", "message"),
    [
        ("CONFIG_X = y", 9, "'=' right after the name"),
        ("CONFIG_X=yes", 10, "'y', 'm', 'n'"),
        ("CONFIG_X=Y", 10, "'y', 'm', 'n'"),
        ("CONFIG_X=", 10, "found the end"),
        ("CONFIG_X=12abc", 10, "found '12abc'"),
        ("CONFIG_X=1.5", 10, "found '1.5'"),
        ("CONFIG_X=0x", 10, "found '0x'"),
        ('CONFIG_X="open', 10, "found '\"open'"),
        ('CONFIG_X="a"b', 10, "found '\"a\"b'"),
        ("CONFIG_X='y'", 10, "found ''y''"),
        ("CONFIG_X=y # why", 11, "expected the end of the line"),
        (" CONFIG_X=y", 1, "'CONFIG_NAME=value'"),
        ("X=y", 1, "'CONFIG_NAME=value'"),
        ("CONFIG_=y", 1, "'CONFIG_NAME=value'"),
        ("CONFIG_X-Y=y", 9, "'=' right after the name"),
        ("CONFIG_X is not set", 9, "'=' right after the name"),
        ("garbage", 1, "'CONFIG_NAME=value'"),
    ],
)
def test_bad_lines_say_where_and_what(line: str, column: int, message: str) -> None:
    (diagnostic,) = faults(f"CONFIG_A=y\n{line}\n", file="x.config")
    assert diagnostic.code is Code.E_SYNTAX
    assert str(diagnostic.span) == f"x.config:2:{column}"
    assert message in diagnostic.message


@pytest.mark.parametrize("line", ["#CONFIG_X is not set", "#  CONFIG_X is  not set", "# CONFIG_X is not set today"])
def test_comment_that_was_meant_to_unset_is_refused(line: str) -> None:
    (diagnostic,) = faults(line, file="x.config")
    assert "only a comment to kconfig" in diagnostic.message
    assert "'# CONFIG_X is not set'" in diagnostic.fix


def test_all_bad_lines_are_reported_at_once() -> None:
    assert [d.span.line for d in faults("bad\nCONFIG_A=y\nworse\n", file="x.config")] == [1, 3]


def test_inline_text_says_its_line_in_words() -> None:
    (diagnostic,) = faults("\n\nbad")
    assert diagnostic.span == SourceSpan(file="recipe.py", line=3, column=1)
    assert "line 3:" in diagnostic.message


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("X=y\nCONFIG_Y", "y"),
        ("", "y"),
        ("A-B", "y"),
        ("A", "yes"),
        ("A", "y\n"),
        ("A", '"x'),
        ("A", '"x\n"'),
        ("A", ""),
    ],
)
def test_options_that_a_config_cannot_hold_are_refused(name: str, value: str) -> None:
    assert check_option(KconfigOption(name=name, value=value))


@pytest.mark.parametrize("value", ["y", "m", "n", "-1", "0xA", '""', '"a\\"b"'])
def test_options_that_a_config_can_hold_pass(value: str) -> None:
    option = KconfigOption(name="A_1", value=value)
    assert check_option(option) == ""
    assert parse_kconfig(print_option(option))[0].value == canonical_value(value)
