"""Networking: how the guest gets its address, and what may reach it."""

from __future__ import annotations

import enum

from tdxc import records
from tdxc.ir.node import Node


class NetworkBackend(enum.StrEnum):
    """Who configures the interfaces."""

    NETWORKD = "networkd"
    UDHCPC = "udhcpc"
    NONE = "none"


class Verdict(enum.StrEnum):
    """What happens to a packet that a rule matches."""

    ACCEPT = "accept"
    DROP = "drop"
    REJECT = "reject"


class Protocol(enum.StrEnum):
    """What a rule matches; ``ALL`` is any packet."""

    ALL = "all"
    TCP = "tcp"
    UDP = "udp"
    ICMP = "icmp"


@records.frozen(kw_only=True)
class PortRange(Node):
    """Destination ports ``first`` to ``last``, both included."""

    first: int
    last: int


@records.frozen(kw_only=True)
class FirewallRuleText(Node):
    """A rule as the recipe spells it, such as ``ACCEPT udp 30303 from 10.0.0.0/8``.

    ``layer`` names the profile whose rule it is, empty for the image's own; expand-modules sets it, because merged
    layers no longer show it and the ruleset keeps one file for each.
    """

    text: str
    layer: str = ""


@records.frozen(kw_only=True)
class FirewallRule(Node):
    """A parsed rule on incoming packets; empty ``ports`` means any, empty ``source`` means from anywhere."""

    verdict: Verdict
    protocol: Protocol
    ports: tuple[PortRange, ...] = ()
    source: str = ""
    interface: str = ""


@records.frozen(kw_only=True)
class Network(Node):
    """What a recipe declares; None leaves the value of the base layer (or the default) as it is."""

    vsock: bool | None = None
    firewall_rules: tuple[FirewallRuleText, ...] = ()
    backend: NetworkBackend | None = None
    resolver: bool | None = None


@records.frozen(kw_only=True)
class ResolvedNetwork(Node):
    """Every default explicit. ``rules`` is None when the recipe declares no firewall."""

    vsock: bool
    backend: NetworkBackend
    resolver: bool
    rules: tuple[FirewallRule, ...] | None = None


@records.frozen(kw_only=True)
class Ssh(Node):
    """An SSH server; ``key_delivery`` is ``file`` (``authorized_keys`` in the image) or ``http`` (posted at boot)."""

    enabled: bool
    key_delivery: str = "file"
    authorized_keys: tuple[str, ...] = ()
    port: int = 22
