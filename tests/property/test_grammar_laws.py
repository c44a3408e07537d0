"""What must hold of the grammars for any input."""

from __future__ import annotations

from contextlib import suppress

from hypothesis import given, settings
from hypothesis import strategies as st
from support.firewall_rules import firewall_rules
from tdxc.diagnostics import DiagnosticError
from tdxc.grammar import firewall as firewall_module
from tdxc.grammar import format_size, parse_kconfig, parse_rule, parse_size, print_option, print_rule
from tdxc.grammar.ini import IniDialect, parse_ini
from tdxc.grammar.kconfig import canonical_value
from tdxc.ir import FirewallRule, KconfigOption

words = st.sampled_from(
    (
        *("ACCEPT", "drop", "REJECT", "tcp", "UDP", "icmp", "all", "from", "on", "80", "1-2", "80,90", ",", "-"),
        *("10.0.0.0/8", "::1", "eth0", "x*", "0", "99999", "é", "#", "\t", "\n"),
    )
)


@given(firewall_rules())
def test_a_printed_rule_parses_to_itself(rule: FirewallRule) -> None:
    assert parse_rule(print_rule(rule)) == rule


@given(firewall_rules())
def test_the_plain_path_and_the_grammar_agree(rule: FirewallRule) -> None:
    text = print_rule(rule)
    plain = firewall_module._plain_words(text)
    assert plain is not None
    assert plain == firewall_module._parsed_words(text)


@given(st.one_of(st.text(), st.lists(words).map(" ".join), st.lists(words).map("".join)))
def test_any_rule_text_is_parsed_or_diagnosed(text: str) -> None:
    with suppress(DiagnosticError):
        rule = parse_rule(text)
        assert parse_rule(print_rule(rule)) == rule


option_value = st.one_of(
    st.sampled_from("ymn"),
    st.integers().map(str),
    st.integers(min_value=0).map(hex),
    st.text(st.characters(exclude_characters="\n\0", exclude_categories=["Cs"])).map(
        lambda t: '"' + t.replace("\\", "\\\\").replace('"', '\\"') + '"',
    ),
)
option = st.builds(
    KconfigOption,
    name=st.from_regex(r"[A-Za-z0-9_]{1,20}", fullmatch=True),
    value=option_value,
)


@given(st.lists(option))
def test_printed_options_parse_to_themselves(options: list[KconfigOption]) -> None:
    text = "".join(print_option(o) + "\n" for o in options)
    assert list(parse_kconfig(text)) == options


@given(option_value)
def test_canonical_value_is_idempotent(value: str) -> None:
    assert canonical_value(canonical_value(value)) == canonical_value(value)


@given(st.one_of(st.text(), st.text(alphabet='# CONFIG_X=ymnist0\n"\\')))
def test_any_fragment_is_parsed_or_diagnosed(text: str) -> None:
    with suppress(DiagnosticError):
        parsed = parse_kconfig(text)
        assert parse_kconfig("".join(print_option(o) + "\n" for o in parsed)) == parsed


@given(st.integers(min_value=1, max_value=2**63 - 1))
def test_a_formatted_size_parses_to_itself(size_bytes: int) -> None:
    assert parse_size(format_size(size_bytes)) == size_bytes


@given(st.text(alphabet="0123456789 KMGTiBb.-"))
def test_any_size_text_is_parsed_or_diagnosed(text: str) -> None:
    with suppress(DiagnosticError):
        assert parse_size(text) > 0


ini_value = st.from_regex(r"[A-Za-z0-9/=][A-Za-z0-9/=;\[\]. -]{0,20}", fullmatch=True).map(str.strip)
ini_file = st.lists(
    st.tuples(
        st.from_regex(r"[A-Za-z][A-Za-z-]{0,10}", fullmatch=True),
        st.lists(st.tuples(st.from_regex(r"[A-Za-z][A-Za-z0-9]{0,10}", fullmatch=True), ini_value)),
    ),
)


@given(ini_file, st.sampled_from(IniDialect))
def test_ini_keeps_everything_in_order(sections: list[tuple[str, list[tuple[str, str]]]], dialect: IniDialect) -> None:
    text = "".join(f"[{name}]\n" + "".join(f"{k}={v}\n" for k, v in entries) for name, entries in sections)
    parsed = [(s.name, [(e.key, e.value) for e in s.entries]) for s in parse_ini(text, dialect).sections]
    assert parsed == sections


@settings(max_examples=200)
@given(st.text(alphabet="[]A=x#;\\ \t\r\n"), st.sampled_from(IniDialect))
def test_any_ini_text_is_parsed_or_diagnosed(text: str, dialect: IniDialect) -> None:
    with suppress(DiagnosticError):
        parse_ini(text, dialect)
