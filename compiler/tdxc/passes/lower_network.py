"""lower-network: firewall rules become an nftables ruleset that is loaded before any network comes up; interfaces get
their addresses from systemd-networkd or udhcpc.

Without the ruleset there shall be no network: what configures the interfaces requires the unit that loads it.
"""

from __future__ import annotations

from typing import ClassVar

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticSink, SourceSpan
from tdxc.ir import (
    Blob,
    Directive,
    DropIn,
    File,
    FirewallRule,
    NetworkBackend,
    Package,
    ResolvedImage,
    Section,
    Symlink,
    Unit,
)
from tdxc.passes.base import PassContext
from tdxc.passes.firewall_order import IMAGE_LAYER, RuleGroup, dead_rules, ordered_groups, parse_rules
from tdxc.passes.lower_image import with_packages
from tdxc.passes.network_units import (
    FIREWALL_UNIT,
    NETWORKD,
    NETWORKD_CONFIG,
    NETWORKD_CONFIG_PATH,
    RESOLVED,
    UDHCPC_LINK,
    UDHCPC_LINK_PATH,
    UDHCPC_SCRIPT,
    UDHCPC_SCRIPT_PATH,
    WAIT_ONLINE,
    firewall_step,
    firewall_unit,
    udhcpc_step,
    udhcpc_unit,
)
from tdxc.passes.nft_ruleset import FRAGMENT_FOLDER, MAIN, MAIN_PATH, fragment_text

SYSTEMD = "systemd"
BUSYBOX = "busybox"
UNITS_FOLDER = "/usr/lib/systemd/system"


class LowerNetwork:
    """Make the firewall and the network configuration explicit files, packages and units."""

    name: ClassVar[str] = "lower-network"
    description: ClassVar[str] = "firewall rules to an nftables ruleset; networkd, udhcpc, resolver to files and units"
    requires: ClassVar[frozenset[str]] = frozenset({"resolve-kernel"})
    establishes: ClassVar[frozenset[str]] = frozenset({"lower-network"})

    def run(self, image: ResolvedImage, ctx: PassContext) -> ResolvedImage:
        """The image with its network; reports every bad rule, and what its init system cannot do."""
        image = _with_backend(image, ctx.sink)
        groups = ordered_groups(parse_rules(image.authored_network.firewall_rules, ctx.sink))
        ctx.sink.extend(dead_rules(groups))
        if groups:
            image = _with_firewall(image, groups, ctx.sink)
        match image.network.backend:
            case NetworkBackend.NETWORKD:
                image = _with_networkd(image)
            case NetworkBackend.UDHCPC:
                image = _with_udhcpc(image)
            case NetworkBackend.NONE:
                pass
        return _with_resolver(image, ctx.sink)


def _with_backend(image: ResolvedImage, sink: DiagnosticSink) -> ResolvedImage:
    """networkd belongs to systemd; without it the default is udhcpc, or nothing under an init of the recipe's own."""
    asked = image.authored_network.backend
    if image.init == SYSTEMD:
        return image
    if asked is NetworkBackend.NETWORKD or (asked is NetworkBackend.UDHCPC and image.init != BUSYBOX):
        sink.add(
            Code.E_CONFLICT,
            f"the network backend '{asked.value}' needs another init system than '{image.init}'",
            image.network.span,
            fix="use backend 'none' and let the init bring the network up"
            if image.init != BUSYBOX
            else "use backend 'udhcpc'",
        )
    backend = asked or (NetworkBackend.UDHCPC if image.init == BUSYBOX else NetworkBackend.NONE)
    return records.evolve(image, network=records.evolve(image.network, backend=backend))


# firewall


def _with_firewall(image: ResolvedImage, groups: tuple[RuleGroup, ...], sink: DiagnosticSink) -> ResolvedImage:
    rules = tuple(rule for group in groups for rule in group.rules)
    span = rules[0].span
    files = [_file(MAIN_PATH, MAIN, span, "lower-network: the image has firewall rules")]
    files += (_fragment(group) for group in groups)
    image = records.evolve(image, network=records.evolve(image.network, rules=rules), files=_files(image, *files))
    image = with_packages(image, _package("nftables", span, "loads the firewall ruleset"))
    if image.init == SYSTEMD:
        return _with_units(image, firewall_unit(span))
    if image.init == BUSYBOX:
        return records.evolve(image, boot_steps=(firewall_step(span), *image.boot_steps))
    sink.add(
        Code.E_UNSUPPORTED,
        f"firewall rules are loaded by systemd or BusyBox; '{image.init}' is neither",
        span,
        fix=f"write the ruleset as a file, and run 'nft -f' on it in '{image.init}'",
    )
    return image


def _fragment(group: RuleGroup) -> File:
    whose = "the image" if group.layer == IMAGE_LAYER else f"profile '{group.layer}'"
    number = {(True, False): 10, (False, False): 50, (False, True): 90, (True, True): 99}
    place = number[group.layer == IMAGE_LAYER, group.final]
    path = f"{FRAGMENT_FOLDER}/{place}-{group.layer or 'image'}.nft"
    return _file(path, fragment_text(group.rules, whose), _span(group.rules), f"lower-network: rules of {whose}")


def _span(rules: tuple[FirewallRule, ...]) -> SourceSpan:
    return rules[0].span


# addresses and names


def _with_networkd(image: ResolvedImage) -> ResolvedImage:
    span = image.network.span
    config = _file(NETWORKD_CONFIG_PATH, NETWORKD_CONFIG, span, "lower-network: addresses by systemd-networkd")
    links = (
        _link(f"{image.default_target}.wants", NETWORKD, span),
        _link("network-online.target.wants", WAIT_ONLINE, span),
    )
    image = records.evolve(image, files=_files(image, config), symlinks=_symlinks(image, *links))
    if image.network.rules is None:
        return image
    cause = "lower-network: no network without the firewall"
    directives = tuple(Directive(span=span, cause=cause, key=key, value=FIREWALL_UNIT) for key in ("Requires", "After"))
    section = Section(span=span, cause=cause, name="Unit", directives=directives)
    drop_in = DropIn(span=span, cause=cause, unit=NETWORKD, name="10-firewall", sections=(section,))
    return records.evolve(image, drop_ins=(*image.drop_ins, drop_in))


def _with_udhcpc(image: ResolvedImage) -> ResolvedImage:
    span = image.network.span
    script = _file(UDHCPC_SCRIPT_PATH, UDHCPC_SCRIPT, span, "lower-network: addresses by udhcpc", mode=0o755)
    image = records.evolve(image, files=_files(image, script))
    if image.base.distribution.value != "alpine":
        image = with_packages(
            image,
            _package("udhcpc", span, "asks for the guest's address"),
            _package("iproute2", span, "brings the interface up"),
        )
    if image.init == SYSTEMD:
        link = _file(UDHCPC_LINK_PATH, UDHCPC_LINK, span, "lower-network: udhcpc needs names that do not change")
        image = records.evolve(image, files=_files(image, link))
        return _with_units(image, udhcpc_unit(span, firewall=image.network.rules is not None))
    place = 1 if image.network.rules is not None else 0
    steps = (*image.boot_steps[:place], udhcpc_step(span), *image.boot_steps[place:])
    return records.evolve(image, boot_steps=steps)


def _with_resolver(image: ResolvedImage, sink: DiagnosticSink) -> ResolvedImage:
    if not image.network.resolver:
        return image
    span = image.network.span
    if image.init != SYSTEMD:
        sink.add(
            Code.E_CONFLICT,
            f"the resolver is systemd-resolved, which needs systemd; the init is '{image.init}'",
            span,
            fix="leave resolver out: udhcpc writes /etc/resolv.conf itself",
        )
        return image
    image = with_packages(image, _package("systemd-resolved", span, "the recipe asks for a resolver"))
    return records.evolve(image, symlinks=_symlinks(image, _link(f"{image.default_target}.wants", RESOLVED, span)))


# pieces


def _package(name: str, span: SourceSpan, reason: str) -> Package:
    return Package(span=span, cause=f"lower-network: {reason}", name=name)


def _file(path: str, text: str, span: SourceSpan, cause: str, *, mode: int = 0o644) -> File:
    return File(span=span, cause=cause, path=path, content=Blob.of_text(text), mode=mode)


def _link(folder: str, unit: str, span: SourceSpan) -> Symlink:
    cause = f"lower-network: {unit} is part of the image's network"
    return Symlink(span=span, cause=cause, path=f"{UNITS_FOLDER}/{folder}/{unit}", target=f"../{unit}")


def _files(image: ResolvedImage, *files: File) -> tuple[File, ...]:
    """The image's files and those of ``files`` that the recipe does not bring itself, sorted by path."""
    own = {file.path for file in image.files}
    return tuple(sorted((*image.files, *(f for f in files if f.path not in own)), key=lambda file: file.path))


def _symlinks(image: ResolvedImage, *links: Symlink) -> tuple[Symlink, ...]:
    own = {link.path for link in image.symlinks}
    return tuple(sorted((*image.symlinks, *(x for x in links if x.path not in own)), key=lambda link: link.path))


def _with_units(image: ResolvedImage, *units: Unit) -> ResolvedImage:
    own = {unit.name for unit in image.units}
    added = (unit for unit in units if unit.name not in own)
    return records.evolve(image, units=tuple(sorted((*image.units, *added), key=lambda unit: unit.name)))
