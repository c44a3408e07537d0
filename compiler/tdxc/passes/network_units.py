"""Units, boot steps and configuration files of the network, as data."""

from __future__ import annotations

from tdxc.diagnostics import SourceSpan
from tdxc.ir import BootStep, Directive, SandboxNeeds, Section, Unit
from tdxc.passes.nft_ruleset import MAIN_PATH

NETWORKD = "systemd-networkd.service"
WAIT_ONLINE = "systemd-networkd-wait-online.service"
RESOLVED = "systemd-resolved.service"
FIREWALL_UNIT = "nftables-load.service"
UDHCPC_UNIT = "network-udhcpc.service"
UDHCPC_SCRIPT_PATH = "/usr/lib/tdx/network-udhcpc"
NFT = "/usr/sbin/nft"

NETWORKD_CONFIG_PATH = "/etc/systemd/network/90-ethernet.network"
"""The last place, so that any other .network file of the recipe comes first (systemd.network(5))."""

NETWORKD_CONFIG = """\
# Any Ethernet card that is not virtual gets its addresses by DHCP and router advertisements.
# The host answers both, so nothing beyond addresses, routes and name servers is taken from it.
[Match]
Type=ether
Kind=!*

[Network]
DHCP=yes
IPv6AcceptRA=yes
LLMNR=no
MulticastDNS=no

[DHCPv4]
UseHostname=no
UseDomains=no
UseNTP=no
UseTimezone=no

[DHCPv6]
UseHostname=no
UseDomains=no
UseNTP=no

[IPv6AcceptRA]
UseDomains=no
"""

UDHCPC_LINK_PATH = "/etc/systemd/network/10-kernel-names.link"

UDHCPC_LINK = """\
# udhcpc works on the name that the kernel gives a card; renaming it later, as udev does, would cut udhcpc off.
[Match]
OriginalName=*

[Link]
NamePolicy=keep
"""

UDHCPC_SCRIPT = """\
#!/bin/sh
# Bring up the first network card and get its address by DHCP; udhcpc then goes on in the background.
set -eu

ip link set lo up
attempts=100
while :; do
    for device in /sys/class/net/*/device; do
        if [ -e "$device" ]; then
            interface="${device%/device}"
            interface="${interface##*/}"
            ip link set "$interface" up
            exec udhcpc -b -S -p /run/udhcpc.pid -i "$interface"
        fi
    done
    attempts=$((attempts - 1))
    if [ "$attempts" -eq 0 ]; then
        echo "network-udhcpc: no network card after 10 seconds" >&2
        exit 1
    fi
    sleep 0.1
done
"""


def _section(name: str, span: SourceSpan, cause: str, *pairs: tuple[str, str]) -> Section:
    directives = tuple(Directive(span=span, cause=cause, key=key, value=value) for key, value in pairs)
    return Section(span=span, cause=cause, name=name, directives=directives)


def firewall_unit(span: SourceSpan) -> Unit:
    """Loads the ruleset in early boot, before network-pre.target; there is no stop: a loaded ruleset stays."""
    cause = "lower-network: the image has firewall rules"
    return Unit(
        span=span,
        cause=cause,
        name=FIREWALL_UNIT,
        sections=(
            _section(
                "Unit",
                span,
                cause,
                ("Description", "Load the firewall ruleset before any network comes up"),
                ("DefaultDependencies", "no"),
                ("Wants", "network-pre.target"),
                ("Before", "network-pre.target shutdown.target"),
                ("Conflicts", "shutdown.target"),
            ),
            _section(
                "Service",
                span,
                cause,
                ("Type", "oneshot"),
                ("RemainAfterExit", "yes"),
                ("ExecStart", f"{NFT} -f {MAIN_PATH}"),
                ("ExecReload", f"{NFT} -f {MAIN_PATH}"),
            ),
        ),
        wanted_by=("sysinit.target",),
        early=True,
        needs=SandboxNeeds(
            span=span,
            cause=cause,
            capabilities=("CAP_NET_ADMIN",),
            overrides=(Directive(span=span, cause=cause, key="RestrictAddressFamilies", value="AF_NETLINK"),),
        ),
    )


def firewall_step(span: SourceSpan) -> BootStep:
    """The same for BusyBox: the first boot step; when it fails, nothing behind it starts."""
    return BootStep(
        span=span,
        cause="lower-network: the image has firewall rules",
        name="firewall",
        script=f"{NFT} -f {MAIN_PATH}",
        priority=0,
    )


def udhcpc_unit(span: SourceSpan, *, firewall: bool) -> Unit:
    """Runs udhcpc on the first network card; up when it has an address or goes on trying in the background."""
    cause = "lower-network: the network backend is udhcpc"
    require = (("Requires", FIREWALL_UNIT),) if firewall else ()
    return Unit(
        span=span,
        cause=cause,
        name=UDHCPC_UNIT,
        sections=(
            _section(
                "Unit",
                span,
                cause,
                ("Description", "Get the guest's address by DHCP"),
                ("DefaultDependencies", "no"),
                *require,
                ("Wants", "network.target"),
                ("After", f"{FIREWALL_UNIT} network-pre.target sysinit.target"),
                ("Before", "network.target network-online.target shutdown.target"),
                ("Conflicts", "shutdown.target"),
            ),
            _section(
                "Service",
                span,
                cause,
                ("Type", "forking"),
                ("PIDFile", "/run/udhcpc.pid"),
                ("ExecStart", UDHCPC_SCRIPT_PATH),
                ("Restart", "on-failure"),
                ("RestartSec", "1s"),
                ("UMask", "0022"),
            ),
        ),
        wanted_by=("basic.target",),
        early=True,
        needs=SandboxNeeds(
            span=span,
            cause=cause,
            capabilities=("CAP_NET_ADMIN", "CAP_NET_RAW", "CAP_NET_BIND_SERVICE"),
            writes=("/etc", "/run"),
            overrides=(
                Directive(
                    span=span,
                    cause=cause,
                    key="RestrictAddressFamilies",
                    value="AF_UNIX AF_NETLINK AF_PACKET AF_INET AF_INET6",
                ),
            ),
        ),
    )


def udhcpc_step(span: SourceSpan) -> BootStep:
    """The same for BusyBox, behind the firewall's step."""
    return BootStep(
        span=span,
        cause="lower-network: the network backend is udhcpc",
        name="network",
        script=UDHCPC_SCRIPT_PATH,
        priority=0,
    )
