"""Firewall rules as recipes spell them: ``ACCEPT tcp 8545``, ``DROP all``.

A rule is ``VERDICT PROTOCOL [PORTS] [from SOURCE] [on INTERFACE]``: the verdict is ACCEPT, DROP or REJECT, the protocol
tcp, udp, icmp (ICMP and ICMPv6) or all; ports are destination ports, a list of numbers and ranges such as
``80,443,8000-8010``; the source is an IPv4 or IPv6 address or network; the interface may end in ``*``. Words are
recognised in any case.
"""

from __future__ import annotations

import ipaddress
import re
from typing import TYPE_CHECKING

from tdxc import records
from tdxc.diagnostics import UNKNOWN_SPAN, Code, DiagnosticError, Note, SourceSpan, nearest
from tdxc.grammar.syntax import Grammar, SyntaxFault, quote
from tdxc.ir import FirewallRule, PortRange, Protocol, Verdict

if TYPE_CHECKING:
    from lark import Token, Tree

LAST_PORT = 65535
INTERFACE_NAME = re.compile(r"(?!\.\.?\*?\Z)(?:[A-Za-z0-9_.@+-]{1,15}|[A-Za-z0-9_.@+-]{1,14}\*)")
"""Linux allows 15 bytes but no '/', ':' or blank (dev_valid_name in net/core/dev.c); a last '*' is nft's wildcard."""

_SHAPE = "ACCEPT|DROP|REJECT, then tcp|udp|icmp|all, then ports, 'from ADDRESS' and 'on INTERFACE' as needed"
_KEYWORDS = ("ACCEPT", "DROP", "REJECT", "tcp", "udp", "icmp", "all", "from", "on")
_GRAMMAR = Grammar(
    files=("firewall.lark",),
    words={
        "VERDICT": ("'ACCEPT'", "'DROP'", "'REJECT'"),
        "PORTED": ("'tcp'", "'udp'"),
        "PORTLESS": ("'icmp'", "'all'"),
        "PORT": ("a port number",),
        "DASH": ("'-'",),
        "COMMA": ("','",),
        "FROM": ("'from'",),
        "ON": ("'on'",),
        "SOURCE": ("an address or network",),
        "INTERFACE": ("an interface name",),
        "$END": ("the end of the rule",),
    },
)
_PLAIN = re.compile(
    r"(?P<verdict>ACCEPT|DROP|REJECT) "
    r"(?:(?P<ported>tcp|udp)(?: (?P<ports>[0-9]+(?:-[0-9]+)?(?:,[0-9]+(?:-[0-9]+)?)*))?|(?P<portless>icmp|all))"
    r"(?: from (?P<source>\S+))?(?: on (?P<interface>\S+))?"
)


@records.frozen(kw_only=True)
class _Words:
    """The parts of a rule before their values are looked at, with the column of each value."""

    verdict: str
    protocol: str
    ports: tuple[tuple[str, str, int], ...] = ()
    source: tuple[str, int] | None = None
    interface: tuple[str, int] | None = None


class _BadValue(Exception):  # noqa: N818 - internal signal
    def __init__(self, column: int, message: str, fix: str = "") -> None:
        self.column, self.message, self.fix = column, message, fix
        super().__init__(message)


def parse_rule(text: str, span: SourceSpan = UNKNOWN_SPAN) -> FirewallRule:
    """Parse one rule. Raises E_SYNTAX for its form, E_VALUE for a port, address or interface that cannot be."""
    try:
        return _rule(_plain_words(text) or _parsed_words(text), span)
    except SyntaxFault as fault:
        guess = nearest(fault.found.strip("'"), _KEYWORDS)
        raise DiagnosticError.of(
            Code.E_SYNTAX,
            f"firewall rule {quote(text)}: column {fault.column}: {fault}",
            span,
            notes=_pointer(text, fault.column),
            fix=f"did you mean {guess!r}?" if guess else f"write {_SHAPE}",
        ) from fault
    except _BadValue as bad:
        raise DiagnosticError.of(
            Code.E_VALUE,
            f"firewall rule {quote(text)}: column {bad.column}: {bad.message}",
            span,
            notes=_pointer(text, bad.column),
            fix=bad.fix,
        ) from bad


def print_rule(rule: FirewallRule) -> str:
    """The canonical spelling; parsing it gives the same rule."""
    words = [rule.verdict.value.upper(), rule.protocol.value]
    if rule.ports:
        words.append(",".join(_print_range(p) for p in rule.ports))
    if rule.source:
        words += ["from", rule.source]
    if rule.interface:
        words += ["on", rule.interface]
    return " ".join(words)


def _print_range(ports: PortRange) -> str:
    return str(ports.first) if ports.first == ports.last else f"{ports.first}-{ports.last}"


def _pointer(text: str, column: int) -> tuple[Note, ...]:
    if not text.isprintable():
        return ()
    return (Note(message=f"{text}\n{' ' * (column - 1)}^"),)


def _plain_words(text: str) -> _Words | None:
    match = _PLAIN.fullmatch(text)
    if match is None:
        return None
    ports: list[tuple[str, str, int]] = []
    column = match.start("ports") + 1
    for item in (match["ports"] or "").split(",") if match["ports"] else ():
        first, _, last = item.partition("-")
        ports.append((first, last or first, column))
        column += len(item) + 1
    return _Words(
        verdict=match["verdict"],
        protocol=match["ported"] or match["portless"],
        ports=tuple(ports),
        source=(match["source"], match.start("source") + 1) if match["source"] else None,
        interface=(match["interface"], match.start("interface") + 1) if match["interface"] else None,
    )


def _parsed_words(text: str) -> _Words:
    tree = _GRAMMAR.parse(text)
    words = _Words(verdict="", protocol="")
    for child in tree.children:
        words = _with_child(words, child)
    return words


def _with_child(words: _Words, child: Token | Tree[Token]) -> _Words:
    if isinstance(child, str):
        return records.evolve(words, verdict=str(child))
    if child.data == "match":
        ports = tuple(_range(r) for p in child.children if not isinstance(p, str) for r in p.find_data("range"))
        return records.evolve(words, protocol=str(child.children[0]), ports=ports)
    keyword, value = (token for token in child.children if isinstance(token, str))
    name = str(child.data)
    if getattr(words, name) is not None:
        raise _BadValue(keyword.column or 1, f"a second {str(keyword).lower()!r}; a rule has at most one")
    at = (str(value), value.column or 1)
    return records.evolve(words, source=at) if name == "source" else records.evolve(words, interface=at)


def _range(tree: Tree[Token]) -> tuple[str, str, int]:
    ports = [token for token in tree.children if isinstance(token, str) and token.type == "PORT"]
    return str(ports[0]), str(ports[-1]), ports[0].column or 1


def _rule(words: _Words, span: SourceSpan) -> FirewallRule:
    return FirewallRule(
        span=span,
        verdict=Verdict(words.verdict.lower()),
        protocol=Protocol(words.protocol.lower()),
        ports=tuple(_port_range(first, last, column, span) for first, last, column in words.ports),
        source=_source(*words.source) if words.source else "",
        interface=_interface(*words.interface) if words.interface else "",
    )


def _port_range(first: str, last: str, column: int, span: SourceSpan) -> PortRange:
    for port in (first, last):
        if len(port.lstrip("0")) > len(str(LAST_PORT)) or not 1 <= int(port) <= LAST_PORT:
            raise _BadValue(column, f"{quote(port)} is not a port: ports are 1 to {LAST_PORT}")
    if int(first) > int(last):
        raise _BadValue(column, f"the range {first}-{last} runs backwards", f"write {last}-{first}")
    return PortRange(span=span, first=int(first), last=int(last))


def _source(text: str, column: int) -> str:
    try:
        network = ipaddress.ip_network(text, strict=False)
        if "%" in text:
            raise ValueError
    except ValueError:
        raise _BadValue(
            column,
            f"{quote(text)} is not an IPv4 or IPv6 address or network",
            "write an address such as 192.0.2.1, or a network such as 10.0.0.0/8 or 2001:db8::/32",
        ) from None
    address = text.partition("/")[0]
    if ipaddress.ip_address(address) != network.network_address:
        raise _BadValue(column, f"{quote(text)} has address bits beyond its prefix length", f"write {network}")
    return str(network.network_address) if network.prefixlen == network.max_prefixlen else str(network)


def _interface(text: str, column: int) -> str:
    if not INTERFACE_NAME.fullmatch(text):
        raise _BadValue(
            column,
            f"{quote(text)} is not an interface name",
            "write at most 15 of the characters A-Z a-z 0-9 _ . @ + -, or a prefix that ends in '*'",
        )
    return text
