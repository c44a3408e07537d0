"""Firewall rules as nftables text (nft(8)).

The image keeps a fixed main file and one fragment for each layer, so that a profile adds files and changes none::

    /etc/nftables.conf                table, chain with policy drop, what must always work, then the fragments
    /etc/nftables.d/10-image.nft      the image's own rules, in their order
    /etc/nftables.d/50-PROFILE.nft    a profile's rules
    /etc/nftables.d/90-PROFILE.nft    a profile's last rule, when it takes all packets
    /etc/nftables.d/99-image.nft      the image's last rule, when it takes all packets (``DROP all``)

nft reads the fragments sorted by name (glob(3)), and the first rule that matches decides; so a profile's rules stand
before the final ``DROP all`` of the image.
"""

from __future__ import annotations

from collections.abc import Iterable

from tdxc.grammar import print_rule
from tdxc.ir import FirewallRule, PortRange, Protocol, Verdict
from tdxc.quoting import nft_interface

MAIN_PATH = "/etc/nftables.conf"
FRAGMENT_FOLDER = "/etc/nftables.d"
TABLE = "inet tdx_firewall"

ICMP_AND_ICMPV6 = "meta l4proto { 1, 58 }"
"""By number: nft looks the name of ICMPv6 up in /etc/protocols, which small images lack."""

MAIN = f"""\
# Incoming packets: the first rule that matches decides, and what no rule takes is dropped.
# Loaded in one transaction, which replaces the table if it is there: either all of it holds, or nothing changes.
table {TABLE}
delete table {TABLE}
table {TABLE} {{
    chain input {{
        type filter hook input priority filter; policy drop;
        iifname "lo" accept
        ct state {{ established, related }} accept
        ct state invalid drop
        # Without neighbour discovery and multicast listener queries there is no IPv6 (RFC 4890, section 4.4).
        ip6 hoplimit 255 icmpv6 type {{ nd-neighbor-solicit, nd-neighbor-advert, nd-router-advert, nd-redirect }} accept
        ip6 saddr fe80::/10 ip6 hoplimit 1 icmpv6 type mld-listener-query accept
        # Answers of DHCP servers, which come by broadcast (RFC 2131) or from a link-local address (RFC 8415).
        udp sport 67 udp dport 68 accept
        ip6 saddr fe80::/10 udp sport 547 udp dport 546 accept
    }}
}}
include "{FRAGMENT_FOLDER}/*.nft"
"""


def fragment_text(rules: Iterable[FirewallRule], whose: str) -> str:
    """One fragment: each rule as the recipe means it in a comment, and its nft rules below."""
    lines = [f"# Firewall rules of {whose}."]
    for rule in rules:
        lines.append(f"# {print_rule(rule)}")
        lines += (f"add rule {TABLE} input {text}" for text in nft_rules(rule))
    return "\n".join(lines) + "\n"


def nft_rules(rule: FirewallRule) -> tuple[str, ...]:
    """The rule in nft's words; REJECT of all packets takes two, since TCP is reset and the rest gets an ICMP answer."""
    if rule.verdict is Verdict.REJECT and rule.protocol is Protocol.ALL:
        tcp = _statement(rule, ("meta l4proto tcp",), "reject with tcp reset")
        return (tcp, _statement(rule, (), "reject with icmpx port-unreachable"))
    return (_statement(rule, _protocol(rule), _verdict(rule)),)


def _statement(rule: FirewallRule, protocol: tuple[str, ...], verdict: str) -> str:
    return " ".join((*_interface(rule), *_source(rule), *protocol, verdict))


def _interface(rule: FirewallRule) -> tuple[str, ...]:
    if not rule.interface:
        return ()
    quoted = nft_interface(rule.interface.removesuffix("*"), span=rule.span)
    return (f'iifname {quoted[:-1]}*"' if rule.interface.endswith("*") else f"iifname {quoted}",)


def _source(rule: FirewallRule) -> tuple[str, ...]:
    if not rule.source:
        return ()
    return (f"{'ip6' if ':' in rule.source else 'ip'} saddr {rule.source}",)


def _protocol(rule: FirewallRule) -> tuple[str, ...]:
    match rule.protocol:
        case Protocol.ALL:
            return ()
        case Protocol.ICMP:
            return (ICMP_AND_ICMPV6,)
        case Protocol.TCP | Protocol.UDP:
            if not rule.ports:
                return (f"meta l4proto {rule.protocol.value}",)
            return (f"{rule.protocol.value} dport {_ports(rule.ports)}",)


def _verdict(rule: FirewallRule) -> str:
    if rule.verdict is not Verdict.REJECT:
        return rule.verdict.value
    return "reject with tcp reset" if rule.protocol is Protocol.TCP else "reject with icmpx port-unreachable"


def _ports(ports: tuple[PortRange, ...]) -> str:
    texts = [str(first) if first == last else f"{first}-{last}" for first, last in joined_ports(ports)]
    return texts[0] if len(texts) == 1 else "{ " + ", ".join(texts) + " }"


def joined_ports(ports: Iterable[PortRange]) -> list[tuple[int, int]]:
    """Sorted ranges without overlap, which nft refuses in a set; adjacent ones are joined."""
    joined: list[tuple[int, int]] = []
    for first, last in sorted((p.first, p.last) for p in ports):
        if joined and first <= joined[-1][1] + 1:
            joined[-1] = (joined[-1][0], max(joined[-1][1], last))
        else:
            joined.append((first, last))
    return joined
