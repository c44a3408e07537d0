"""The order of firewall rules over layers, and rules that can never match."""

from __future__ import annotations

import fnmatch
import ipaddress
from collections.abc import Iterable, Iterator

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, DiagnosticSink, Note
from tdxc.grammar import parse_rule, print_rule
from tdxc.ir import FirewallRule, FirewallRuleText, Protocol
from tdxc.passes.nft_ruleset import joined_ports

IMAGE_LAYER = ""


@records.frozen
class RuleGroup:
    """The rules that one fragment holds: of which layer, and whether it is that layer's rule for all that is left."""

    layer: str
    final: bool
    rules: tuple[FirewallRule, ...]


def parse_rules(texts: Iterable[FirewallRuleText], sink: DiagnosticSink) -> dict[str, tuple[FirewallRule, ...]]:
    """The rules of each layer, in their order; bad ones are reported and left out."""
    layers: dict[str, tuple[FirewallRule, ...]] = {}
    for text in texts:
        try:
            rule = parse_rule(text.text, text.span)
        except DiagnosticError as error:
            sink.extend(error.diagnostics)
            continue
        layers[text.layer] = (*layers.get(text.layer, ()), rule)
    return layers


def ordered_groups(layers: dict[str, tuple[FirewallRule, ...]]) -> tuple[RuleGroup, ...]:
    """Groups in the order in which packets meet them: the image, profiles by name, then the final rules backwards."""
    first: list[RuleGroup] = []
    final: list[RuleGroup] = []
    for layer in sorted(layers):
        rules = layers[layer]
        body, last = (rules[:-1], rules[-1:]) if takes_all(rules[-1]) else (rules, ())
        if body:
            first.append(RuleGroup(layer=layer, final=False, rules=body))
        if last:
            final.append(RuleGroup(layer=layer, final=True, rules=last))
    final.sort(key=lambda group: (group.layer == IMAGE_LAYER, group.layer))
    return (*first, *final)


def takes_all(rule: FirewallRule) -> bool:
    """Whether no packet goes past the rule."""
    return rule.protocol is Protocol.ALL and not rule.source and not rule.interface


def dead_rules(groups: Iterable[RuleGroup]) -> Iterator[Diagnostic]:
    """Rules that an earlier rule with another verdict hides. A layer's final rule may be hidden by another's."""
    earlier: list[FirewallRule] = []
    for group in groups:
        for rule in group.rules:
            hiding = next((before for before in earlier if covers(before, rule)), None)
            if hiding is not None and hiding.verdict is not rule.verdict and not group.final:
                yield Diagnostic(
                    code=Code.E_CONFLICT,
                    message=f"firewall rule '{print_rule(rule)}' can never match",
                    span=rule.span,
                    notes=(Note(message=f"'{print_rule(hiding)}' takes all its packets before", span=hiding.span),),
                    fix="put the narrower rule first, or leave one of them out",
                )
            earlier.append(rule)


def covers(wide: FirewallRule, narrow: FirewallRule) -> bool:
    """Whether every packet that ``narrow`` matches is matched by ``wide`` too."""
    return (
        wide.protocol in {Protocol.ALL, narrow.protocol}
        and _covers_ports(wide, narrow)
        and _covers_source(wide.source, narrow.source)
        and _covers_interface(wide.interface, narrow.interface)
    )


def _covers_ports(wide: FirewallRule, narrow: FirewallRule) -> bool:
    if not wide.ports:
        return True
    ranges = joined_ports(wide.ports)
    return bool(narrow.ports) and all(
        any(first <= ports.first and ports.last <= last for first, last in ranges) for ports in narrow.ports
    )


def _covers_source(wide: str, narrow: str) -> bool:
    if not wide:
        return True
    if not narrow:
        return False
    outer, inner = ipaddress.ip_network(wide), ipaddress.ip_network(narrow)
    first, last = int(inner.network_address), int(inner.broadcast_address)
    return (
        outer.version == inner.version and int(outer.network_address) <= first and last <= int(outer.broadcast_address)
    )


def _covers_interface(wide: str, narrow: str) -> bool:
    """Names hold no other pattern character than a final ``*``, which as text is matched by any wider pattern."""
    return not wide or (bool(narrow) and fnmatch.fnmatchcase(narrow, wide))
