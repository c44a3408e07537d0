"""Hypothesis strategies for firewall rules."""

from __future__ import annotations

import ipaddress

from hypothesis import strategies as st
from tdxc.ir import FirewallRule, PortRange, Protocol, Verdict

_LETTERS = "A-Za-z0-9_@+-"
_port = st.integers(min_value=1, max_value=65535)
_ports = st.tuples(_port, _port).map(lambda p: PortRange(first=min(p), last=max(p)))
_ip4 = st.tuples(st.ip_addresses(v=4), st.integers(0, 32)).map(lambda p: ipaddress.ip_network(p, strict=False))
_ip6 = st.tuples(st.ip_addresses(v=6), st.integers(0, 128)).map(lambda p: ipaddress.ip_network(p, strict=False))
_source = st.one_of(_ip4, _ip6).map(lambda n: str(n.network_address) if n.prefixlen == n.max_prefixlen else str(n))
_interface = st.from_regex(rf"[{_LETTERS}][.{_LETTERS}]{{0,14}}|[{_LETTERS}][.{_LETTERS}]{{0,13}}\*", fullmatch=True)


@st.composite
def firewall_rules(draw: st.DrawFn) -> FirewallRule:
    """Any rule in its canonical form."""
    protocol = draw(st.sampled_from(Protocol))
    ported = protocol in {Protocol.TCP, Protocol.UDP}
    return FirewallRule(
        verdict=draw(st.sampled_from(Verdict)),
        protocol=protocol,
        ports=tuple(draw(st.lists(_ports, max_size=5))) if ported else (),
        source=draw(st.one_of(st.just(""), _source)),
        interface=draw(st.one_of(st.just(""), _interface)),
    )
