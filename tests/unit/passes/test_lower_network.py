import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
from support import firewall
from support.authored import at, authored, resolved, run
from support.firewall import Probe
from tdxc.diagnostics import Code
from tdxc.grammar import parse_rule
from tdxc.ir import (
    Blob,
    File,
    FirewallRuleText,
    Layer,
    Network,
    NetworkBackend,
    ResolvedImage,
    Setting,
)
from tdxc.ir.verify import verify_resolved
from tdxc.passes.expand_modules import ExpandModules
from tdxc.passes.firewall_order import covers
from tdxc.passes.lower_image import lower_image
from tdxc.passes.lower_network import LowerNetwork
from tdxc.passes.network_units import UDHCPC_SCRIPT
from tdxc.passes.nft_ruleset import nft_rules


def network(*rules: str, line: int = 5, **fields: Any) -> Network:
    texts = tuple(FirewallRuleText(span=at(line + i), text=text) for i, text in enumerate(rules))
    return Network(span=at(line), firewall_rules=texts, **fields)


def lowered(*rules: str, **declarations: Any) -> ResolvedImage:
    image, found = run(LowerNetwork(), resolved(network=network(*rules), **declarations))
    assert found == ()
    assert verify_resolved(image) == ()
    return image


def variant(base: Network, chosen: tuple[str, ...], **profiles: Network) -> ResolvedImage:
    layers = {name: Layer(span=at(20), network=declared) for name, declared in profiles.items()}
    image, _ = run(ExpandModules(), authored(network=base, profiles=layers))
    after, found = run(LowerNetwork(), lower_image(image, chosen))
    assert found == ()
    return after


def texts(image: ResolvedImage) -> dict[str, str]:
    return {file.path: file.content.data.decode() for file in image.files}


def rules_of(image: ResolvedImage, path: str) -> list[str]:
    return [line.removeprefix("# ") for line in texts(image)[path].splitlines()[1:] if line.startswith("# ")]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        ("ACCEPT tcp 8545", ["tcp dport 8545 accept"]),
        ("DROP udp 30303 from 10.0.0.0/8", ["ip saddr 10.0.0.0/8 udp dport 30303 drop"]),
        ("ACCEPT tcp 443,80,8000-8010", ["tcp dport { 80, 443, 8000-8010 } accept"]),
        ("ACCEPT tcp 80,80-90,91,85", ["tcp dport 80-91 accept"]),
        ("ACCEPT udp", ["meta l4proto udp accept"]),
        (
            "ACCEPT icmp from 2001:db8::/32 on eth0",
            ['iifname "eth0" ip6 saddr 2001:db8::/32 meta l4proto { 1, 58 } accept'],
        ),
        ("ACCEPT all on wg*", ['iifname "wg*" accept']),
        ("DROP all", ["drop"]),
        ("REJECT tcp 22", ["tcp dport 22 reject with tcp reset"]),
        ("REJECT udp 53", ["udp dport 53 reject with icmpx port-unreachable"]),
        (
            "REJECT all from 10.0.0.1",
            [
                "ip saddr 10.0.0.1 meta l4proto tcp reject with tcp reset",
                "ip saddr 10.0.0.1 reject with icmpx port-unreachable",
            ],
        ),
    ],
)
def test_rules_in_nfts_words(rule: str, expected: list[str]) -> None:
    assert list(nft_rules(parse_rule(rule))) == expected


def test_real_nft_accepts_every_kind_of_rule(tmp_path: Path) -> None:
    sources = ["", " from 10.0.0.0/8", " from 192.0.2.1", " from 2001:db8::/32", " from ::1", " from 0.0.0.0/0"]
    kinds = ["tcp", "tcp 1", "tcp 1,3,5-7,65535", "udp 5-9,7-12", "icmp", "all"]
    rules = [
        f"{verdict} {kind}{source}{interface}"
        for verdict in ("ACCEPT", "DROP", "REJECT")
        for kind in kinds
        for source in sources
        for interface in ("", " on eth0", " on en*", " on a.b-c_d+e@f")
    ]
    image, _ = run(LowerNetwork(), resolved(network=network(*rules)))
    done = firewall.check(firewall.write_etc(image, tmp_path))
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_order_is_kept_and_the_final_rule_is_last() -> None:
    image = lowered("ACCEPT tcp 8545", "DROP udp 53", "ACCEPT udp", "DROP all")
    assert rules_of(image, "/etc/nftables.d/10-image.nft") == ["ACCEPT tcp 8545", "DROP udp 53", "ACCEPT udp"]
    assert rules_of(image, "/etc/nftables.d/99-image.nft") == ["DROP all"]
    assert image.network.rules is not None
    assert [rule.span.line for rule in image.network.rules] == [5, 6, 7, 8]


def test_no_rules_make_no_firewall() -> None:
    image = lowered()
    assert image.network.rules is None
    assert "nftables" not in {p.name for p in image.packages}
    assert not [path for path in texts(image) if "nftables" in path]
    assert not [unit for unit in image.units if "nft" in unit.name]


def test_a_profile_adds_files_and_changes_none() -> None:
    base = network("ACCEPT tcp 8545", "DROP all")
    plain, dev = variant(base, ()), variant(base, ("dev",), dev=network("ACCEPT tcp 22", line=21))
    before, after = texts(plain), texts(dev)
    assert {path: after[path] for path in before} == before
    assert set(after) - set(before) == {"/etc/nftables.d/50-dev.nft"}
    assert dev.network.rules is not None
    assert [rule.span.line for rule in dev.network.rules] == [5, 21, 6]
    assert plain.units == dev.units


def test_two_profiles_compose_to_the_union_of_their_files() -> None:
    base = network("ACCEPT tcp 8545", "DROP all")
    profiles = {"a": network("ACCEPT tcp 1", "REJECT all", line=21), "b": network("ACCEPT tcp 2", line=31)}
    both = texts(variant(base, ("a", "b"), **profiles))
    assert both == texts(variant(base, ("a",), **profiles)) | texts(variant(base, ("b",), **profiles))
    assert sorted(path for path in both if "/nftables.d/" in path) == [
        f"/etc/nftables.d/{name}.nft" for name in ("10-image", "50-a", "50-b", "90-a", "99-image")
    ]


def test_a_profile_alone_can_bring_the_firewall() -> None:
    image = variant(network(), ("dev",), dev=network("ACCEPT tcp 22"))
    assert set(texts(image)) >= {"/etc/nftables.conf", "/etc/nftables.d/50-dev.nft"}


def test_bad_rules_are_all_reported_at_their_lines() -> None:
    _, found = run(LowerNetwork(), resolved(network=network("ACCEPT tcpp 1", "ACCEPT tcp 2", "ACCEPT tcp 99999")))
    assert [(d.code, str(d.span)) for d in found] == [(Code.E_SYNTAX, "recipe.py:5:1"), (Code.E_VALUE, "recipe.py:7:1")]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("DROP all", "ACCEPT tcp 22"),
        ("DROP tcp", "ACCEPT tcp 22"),
        ("DROP tcp 1-100", "ACCEPT tcp 22,30-40"),
        ("DROP all from 10.0.0.0/8", "ACCEPT tcp 22 from 10.1.0.0/16"),
        ("DROP all on e*", "ACCEPT tcp on eth0"),
        ("ACCEPT tcp 20-21,22", "REJECT tcp 21-22 on eth0"),
        ("ACCEPT all from ::/0", "DROP udp from 2001:db8::1"),
    ],
)
def test_a_rule_that_can_never_match_is_an_error_with_both_lines(first: str, second: str) -> None:
    _, (found,) = run(LowerNetwork(), resolved(network=network(first, second)))
    assert (found.code, str(found.span), str(found.notes[0].span)) == (
        Code.E_CONFLICT,
        "recipe.py:6:1",
        "recipe.py:5:1",
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("DROP tcp 22", "ACCEPT tcp"),
        ("DROP tcp 1-100", "ACCEPT tcp 100-101"),
        ("DROP all from 10.0.0.0/8", "ACCEPT tcp 22"),
        ("DROP all from 10.0.0.0/8", "ACCEPT tcp 22 from ::/0"),
        ("DROP all on eth0", "ACCEPT tcp 22 on eth*"),
        ("DROP udp", "ACCEPT tcp"),
        ("ACCEPT tcp 22", "ACCEPT tcp 22"),
        ("ACCEPT all", "ACCEPT tcp 22"),
    ],
)
def test_rules_that_can_match_or_change_nothing_pass(first: str, second: str) -> None:
    assert run(LowerNetwork(), resolved(network=network(first, second)))[1] == ()


def test_a_profiles_rule_hidden_by_the_image_is_told() -> None:
    image, _ = run(
        ExpandModules(),
        authored(network=network("DROP tcp"), profiles={"dev": Layer(network=network("ACCEPT tcp 22", line=21))}),
    )
    _, (found,) = run(LowerNetwork(), lower_image(image, ("dev",)))
    assert (str(found.span), str(found.notes[0].span)) == ("recipe.py:21:1", "recipe.py:5:1")


def test_covering_is_reflexive() -> None:
    for text in ("ACCEPT tcp 1,2-3 from 10.0.0.0/8 on e*", "DROP all", "REJECT icmp from ::1"):
        assert covers(parse_rule(text), parse_rule(text))


# the image around it


def directives(image: ResolvedImage, unit: str, section: str) -> dict[str, str]:
    (found,) = (u for u in image.units if u.name == unit)
    return {d.key: d.value for s in found.sections if s.name == section for d in s.directives}


def test_the_ruleset_is_loaded_early_and_networkd_does_not_start_without_it() -> None:
    image = lowered("DROP all")
    unit = directives(image, "nftables-load.service", "Unit")
    assert unit["DefaultDependencies"] == "no"
    assert "network-pre.target" in unit["Before"]
    assert directives(image, "nftables-load.service", "Service")["ExecStart"] == "/usr/sbin/nft -f /etc/nftables.conf"
    assert "nftables" in {p.name for p in image.packages}
    (drop_in,) = image.drop_ins
    assert drop_in.unit == "systemd-networkd.service"
    assert {(d.key, d.value) for d in drop_in.sections[0].directives} == {
        ("Requires", "nftables-load.service"),
        ("After", "nftables-load.service"),
    }


def test_networkd_is_pulled_in_by_the_target_that_boots() -> None:
    image = lowered(default_target=Setting(span=at(3), value="prod.target"))
    links = {link.path: link.target for link in image.symlinks}
    assert links["/usr/lib/systemd/system/prod.target.wants/systemd-networkd.service"] == "../systemd-networkd.service"
    assert "/etc/systemd/network/90-ethernet.network" in texts(image)


def test_files_of_the_recipe_stand_instead_of_ours() -> None:
    mine = File(span=at(9), path="/etc/systemd/network/90-ethernet.network", content=Blob.of_text("mine"))
    assert texts(lowered(files=(mine,)))[mine.path] == "mine"


def test_udhcpc_with_systemd_requires_the_firewall() -> None:
    image, found = run(LowerNetwork(), resolved(network=network("DROP all", backend=NetworkBackend.UDHCPC)))
    assert found == ()
    assert directives(image, "network-udhcpc.service", "Unit")["Requires"] == "nftables-load.service"
    assert {"udhcpc", "nftables"} <= {p.name for p in image.packages}
    assert "/etc/systemd/network/10-kernel-names.link" in {file.path for file in image.files}
    (script,) = (file for file in image.files if file.path == "/usr/lib/tdx/network-udhcpc")
    assert script.mode == 0o755
    assert verify_resolved(image) == ()


def test_udhcpc_script_passes_shellcheck(tmp_path: Path) -> None:
    script = tmp_path / "network"
    script.write_text(UDHCPC_SCRIPT)
    assert subprocess.run(["shellcheck", script], timeout=60).returncode == 0


def test_busybox_loads_the_firewall_and_then_the_network_as_first_steps() -> None:
    image = lowered("DROP all", init=Setting(span=at(2), value="busybox"))
    assert [step.name for step in image.boot_steps] == ["firewall", "network"]
    assert image.network.backend is NetworkBackend.UDHCPC
    assert image.units == ()


@pytest.mark.parametrize(
    ("init", "fields", "code"),
    [
        ("busybox", {"backend": NetworkBackend.NETWORKD}, Code.E_CONFLICT),
        ("busybox", {"resolver": True}, Code.E_CONFLICT),
        ("/sbin/mine", {"backend": NetworkBackend.UDHCPC}, Code.E_CONFLICT),
    ],
)
def test_what_the_init_system_cannot_do_is_told(init: str, fields: dict[str, Any], code: Code) -> None:
    declared = attrs.evolve(network(), **fields)
    _, found = run(LowerNetwork(), resolved(network=declared, init=Setting(span=at(2), value=init)))
    assert [(d.code, str(d.span)) for d in found] == [(code, "recipe.py:5:1")]


def test_an_init_of_its_own_has_to_load_the_firewall_itself() -> None:
    init = Setting(span=at(2), value="/sbin/mine")
    _, found = run(LowerNetwork(), resolved(network=network("DROP all"), init=init))
    assert [d.code for d in found] == [Code.E_UNSUPPORTED]
    image, found = run(LowerNetwork(), resolved(init=init))
    assert (found, image.network.backend) == ((), NetworkBackend.NONE)


def test_resolver_brings_its_package_and_link() -> None:
    image, _ = run(LowerNetwork(), resolved(network=network(resolver=True)))
    assert "systemd-resolved" in {p.name for p in image.packages}
    assert [link.path for link in image.symlinks if link.path.endswith("minimal.target.wants/systemd-resolved.service")]


# real packets


def test_real_packets_meet_the_rules(tmp_path: Path) -> None:
    """First match, established and loopback always, neighbour discovery works, the rest is dropped."""
    image = lowered(
        "REJECT tcp 7001 from 192.0.2.3",
        "ACCEPT tcp 7001-7002",
        "ACCEPT udp 7003",
        "REJECT tcp 7004",
        "REJECT udp 7005",
        "ACCEPT tcp 7006 on other*",
        "ACCEPT tcp 7007 on eth*",
        "ACCEPT tcp 7008 from 2001:db8::/64",
    )
    expected = {
        Probe("192.0.2.2", "tcp", 7001): "open",
        Probe("192.0.2.3", "tcp", 7001): "refused",
        Probe("2001:db8::2", "tcp", 7002): "open",
        Probe("192.0.2.2", "udp", 7003): "open",
        Probe("2001:db8::2", "udp", 7003): "open",
        Probe("192.0.2.2", "tcp", 7004): "refused",
        Probe("192.0.2.2", "udp", 7005): "refused",
        Probe("192.0.2.2", "tcp", 7006): "silent",
        Probe("192.0.2.2", "tcp", 7007): "open",
        Probe("192.0.2.2", "tcp", 7008): "silent",
        Probe("2001:db8::2", "tcp", 7008): "open",
        Probe("192.0.2.2", "tcp", 7009): "silent",
        Probe("2001:db8::2", "udp", 7010): "silent",
    }
    found = firewall.reach(firewall.write_etc(image, tmp_path), list(expected))
    assert dict(zip(expected, found, strict=True)) == expected


def test_a_profile_opens_a_port_before_the_images_final_drop(tmp_path: Path) -> None:
    base = network("ACCEPT tcp 7001", "DROP all")
    image = variant(base, ("dev",), dev=network("ACCEPT tcp 7002", line=21))
    probes = [Probe("192.0.2.2", "tcp", port) for port in (7001, 7002, 7003)]
    assert firewall.reach(firewall.write_etc(image, tmp_path), probes) == ["open", "open", "silent"]


def test_a_bad_fragment_loads_nothing_at_all(tmp_path: Path) -> None:
    """Which is why the network requires the unit: an image without its ruleset stays without network."""
    etc = firewall.write_etc(lowered("ACCEPT tcp 7001"), tmp_path)
    (etc / "nftables.d" / "60-bad.nft").write_text("add rule inet tdx_firewall input nonsense\n")
    script = f"mount --bind {etc} /etc; nft -f /etc/nftables.conf 2>/dev/null; echo $?; nft list ruleset"
    done = subprocess.run([*firewall.UNSHARE, "sh", "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "1\n"
