import subprocess
import sys

import pytest
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, SourceSpan
from tdxc.grammar import parse_rule, print_rule
from tdxc.ir import FirewallRule, PortRange, Protocol, Verdict

SPAN = SourceSpan(file="recipe.py", line=7, column=5)


def fault(text: str) -> Diagnostic:
    with pytest.raises(DiagnosticError) as raised:
        parse_rule(text, SPAN)
    (diagnostic,) = raised.value.diagnostics
    assert diagnostic.span == SPAN
    return diagnostic


def test_rule_with_every_part() -> None:
    rule = parse_rule("REJECT udp 53,1000-2000 from 10.0.0.0/8 on eth0", SPAN)
    assert rule == FirewallRule(
        verdict=Verdict.REJECT,
        protocol=Protocol.UDP,
        ports=(PortRange(first=53, last=53), PortRange(first=1000, last=2000)),
        source="10.0.0.0/8",
        interface="eth0",
    )
    assert rule.span == SPAN
    assert rule.ports[0].span == SPAN


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("accept TCP 8545", "ACCEPT tcp 8545"),
        ("  DROP\tall ", "DROP all"),
        ("ACCEPT tcp 80 , 443 , 8000 - 8010", "ACCEPT tcp 80,443,8000-8010"),
        ("ACCEPT udp on eth0 FROM 192.0.2.1", "ACCEPT udp from 192.0.2.1 on eth0"),
        ("ACCEPT icmp from 2001:DB8:0::/32", "ACCEPT icmp from 2001:db8::/32"),
        ("ACCEPT tcp 22 from 192.0.2.1/32", "ACCEPT tcp 22 from 192.0.2.1"),
        ("ACCEPT tcp 22 from ::1/128", "ACCEPT tcp 22 from ::1"),
        ("ACCEPT tcp 0080", "ACCEPT tcp 80"),
        ("ACCEPT all from 10.0.0.0/255.0.0.0", "ACCEPT all from 10.0.0.0/8"),
        ("ACCEPT tcp 7-7", "ACCEPT tcp 7"),
        ("DROP all on veth*", "DROP all on veth*"),
        ("DROP all on from", "DROP all on from"),
    ],
)
def test_spellings_have_one_canonical_form(text: str, canonical: str) -> None:
    assert print_rule(parse_rule(text)) == canonical


@pytest.mark.parametrize(
    ("text", "column", "expected"),
    [
        ("", 1, "'ACCEPT', 'DROP' or 'REJECT'"),
        ("ALLOW tcp 80", 1, "'ACCEPT', 'DROP' or 'REJECT'"),
        ("ACCEPT", 7, "'tcp', 'udp', 'icmp' or 'all'"),
        ("ACCEPT tcpp 80", 8, "'tcp', 'udp', 'icmp' or 'all'"),
        ("ACCEPT all 80", 12, "'from', 'on' or the end of the rule"),
        ("ACCEPT tcp 80,", 15, "a port number"),
        ("ACCEPT tcp 80 90", 15, "the end of the rule"),
        ("ACCEPT tcp http", 12, "a port number"),
        ("ACCEPT tcp 80:90", 12, "a port number"),
        ("ACCEPT tcp -1", 12, "a port number"),
        ("ACCEPT tcp 80 from", 19, "an address or network"),
        ("ACCEPT tcp 80\nDROP all", 14, "'from'"),
        ("ACCEPT tcp \u0661", 12, "a port number"),
        ("ACCEPT tcp 80; flush ruleset", 12, "a port number"),
    ],
)
def test_syntax_errors_say_column_and_what_was_expected(text: str, column: int, expected: str) -> None:
    diagnostic = fault(text)
    assert diagnostic.code is Code.E_SYNTAX
    assert f"column {column}: " in diagnostic.message
    assert expected in diagnostic.message
    assert diagnostic.fix


@pytest.mark.parametrize(
    ("text", "column", "message"),
    [
        ("ACCEPT tcp 0", 12, "'0' is not a port"),
        ("ACCEPT tcp 80,65536", 15, "'65536' is not a port"),
        ("ACCEPT tcp " + "9" * 5000, 12, "is not a port"),
        ("ACCEPT tcp 9-5", 12, "runs backwards"),
        ("ACCEPT tcp from 10.0.0.1/8", 17, "address bits beyond"),
        ("ACCEPT tcp from 10.0.0.300", 17, "is not an IPv4 or IPv6"),
        ("ACCEPT tcp from 10.0.0.0/33", 17, "is not an IPv4 or IPv6"),
        ("ACCEPT tcp from fe80::1%eth0", 17, "is not an IPv4 or IPv6"),
        ("ACCEPT tcp from example.org", 17, "is not an IPv4 or IPv6"),
        ("ACCEPT tcp from 10.0.0.1 from 10.0.0.2", 26, "a second 'from'"),
        ("ACCEPT tcp on a on b", 17, "a second 'on'"),
        ("ACCEPT tcp on eth0;drop", 15, "is not an interface name"),
        ('ACCEPT tcp on "eth0"', 15, "is not an interface name"),
        ("ACCEPT tcp on abcdefghijklmnop", 15, "is not an interface name"),
        ("ACCEPT tcp on abcdefghijklmno*", 15, "is not an interface name"),
        ("ACCEPT tcp on *", 15, "is not an interface name"),
        ("ACCEPT tcp on ..", 15, "is not an interface name"),
        ("ACCEPT tcp on ..*", 15, "is not an interface name"),
        ("ACCEPT tcp on .*", 15, "is not an interface name"),
        ("ACCEPT tcp on a:b", 15, "is not an interface name"),
    ],
)
def test_bad_values_say_column_and_reason(text: str, column: int, message: str) -> None:
    diagnostic = fault(text)
    assert diagnostic.code is Code.E_VALUE
    assert f"column {column}: " in diagnostic.message
    assert message in diagnostic.message


def test_near_miss_is_suggested_and_pointed_at() -> None:
    diagnostic = fault("ACCEPT tcpp 80")
    assert diagnostic.fix == "did you mean 'tcp'?"
    assert diagnostic.notes[0].message == "ACCEPT tcpp 80\n       ^"


def test_messages_stay_short_and_printable() -> None:
    diagnostic = fault("\x1b[31m" + "x" * 10_000)
    assert diagnostic.message.isprintable()
    assert len(diagnostic.message) < 400


def test_plain_rules_do_not_import_lark() -> None:
    code = (
        "import sys; from tdxc.grammar import parse_rule, parse_size, parse_kconfig\n"
        "parse_rule('ACCEPT udp 30303,1-2 from 10.0.0.0/8 on eth0'); parse_rule('DROP all'); parse_size('2G')\n"
        "parse_kconfig('# c\\n\\nCONFIG_X=y\\nCONFIG_N=12\\n# CONFIG_Y is not set\\n')\n"
        "sys.exit('lark' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
