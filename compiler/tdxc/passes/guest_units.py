"""The units of the guest's own services: the delivery of secrets, and quotes over a socket."""

from __future__ import annotations

from tdxc import quoting, records
from tdxc.diagnostics import SourceSpan
from tdxc.ir import (
    Blob,
    Directive,
    File,
    FirewallRuleText,
    Network,
    Node,
    QuoteService,
    ResolvedImage,
    SandboxNeeds,
    Secret,
    SecretDelivery,
    SecretTarget,
    Section,
    Unit,
)
from tdxc.passes.guest_config import CONFIG_PATH, guest_config, serves_quotes
from tdxc.passes.guest_platform import AZURE_VTPM, quote_source
from tdxc.passes.guest_uses import CREDENTIALS_FOLDER, SECRETS_UNIT, with_uses

PROGRAM = "/usr/bin/tdx-guest"
QUOTE_UNIT, QUOTE_SOCKET = "tdxs.service", "tdxs.socket"
_STATE_FOLDER = "/run/tdx-guest"


def with_guest(image: ResolvedImage) -> ResolvedImage:
    """The image with the units and the configuration of what it declares for the inside of the guest."""
    delivery = image.secret_delivery
    if delivery is not None:
        delivery = _with_credentials(delivery, image)
        image = _with_delivery(records.evolve(image, secret_delivery=delivery), delivery)
    if image.quote_service is not None:
        image = _with_units(image, *_quote_units(image.quote_service, image))
    declared = (*image.guest_keys, *image.encrypted_disks, image.secret_delivery, image.quote_service)
    first = next((node for node in declared if node is not None), None)
    if first is None:
        return image
    cause = "lower-guest: what tdx-guest does in this image"
    config = File(span=first.span, cause=cause, path=CONFIG_PATH, content=Blob.of_text(guest_config(image)))
    return records.evolve(image, files=tuple(sorted((*image.files, config), key=lambda file: file.path)))


# Secrets


def _with_credentials(delivery: SecretDelivery, image: ResolvedImage) -> SecretDelivery:
    """Each secret that a service takes as a credential gets a file that only PID 1 reads."""
    asked = {name for unit in image.units if unit.needs for name in unit.needs.secrets}
    secrets = tuple(_with_file(secret) if secret.name in asked else secret for secret in delivery.secrets)
    return records.evolve(delivery, secrets=secrets)


def _with_file(secret: Secret) -> Secret:
    target = SecretTarget(span=secret.span, kind="file", path=f"{CREDENTIALS_FOLDER}/{secret.name}")
    return records.evolve(secret, targets=(*secret.targets, target))


def _with_delivery(image: ResolvedImage, delivery: SecretDelivery) -> ResolvedImage:
    image = records.evolve(with_uses(image, delivery), authored_network=_opened(image, delivery))
    return _with_units(image, _secrets_unit(delivery, image))


def _opened(image: ResolvedImage, delivery: SecretDelivery) -> Network:
    """The network with the delivery's port open, where the recipe has a firewall at all."""
    network = image.authored_network
    if delivery.method != "http_post" or not network.firewall_rules:
        return network
    text = f"ACCEPT tcp {delivery.port}"
    if any(rule.text == text for rule in network.firewall_rules):
        return network
    rule = FirewallRuleText(span=delivery.span, cause="lower-guest: secrets are posted to this port", text=text)
    return records.evolve(network, firewall_rules=(rule, *network.firewall_rules))


def _secrets_unit(delivery: SecretDelivery, image: ResolvedImage) -> Unit:
    """The unit counts as started when all that is required has come."""
    cause = "lower-guest: SecretDelivery is declared"
    paths = {target.path.rpartition("/")[0] for secret in delivery.secrets for target in secret.targets if target.path}
    folders = sorted(path for path in paths if not path.startswith(f"{_STATE_FOLDER}/"))
    is_server = serves_quotes(delivery)
    service = [
        ("Type", "notify"),
        ("NotifyAccess", "main"),
        ("ExecStart", f"{PROGRAM} secrets"),
        ("RemainAfterExit", "yes"),
        ("TimeoutStartSec", "infinity"),
        ("StandardOutput", "journal+console"),
        ("StandardError", "journal+console"),
        *(("ReadWritePaths", quoting.unit_path_word(path, span=delivery.span)) for path in (_STATE_FOLDER, *folders)),
    ]
    if is_server:
        service += _quote_access(image)
    if delivery.method == "env":
        service.append(("ImportCredential", "tdx.secret.*"))
    before: list[tuple[str, str]] = []
    disks = (delivery.source,) if delivery.source.startswith("/dev/") else ()
    if is_server:
        before += _quote_order(image)
    if delivery.method == "http_post":
        before += [("Wants", "network-online.target"), ("After", "network-online.target")]
    elif delivery.method == "vsock":  # no alias lets the kernel find the module by itself when a socket is asked for
        before += [("Wants", "modprobe@vsock.service"), ("After", "modprobe@vsock.service")]
    elif disks:  # a device can be allowed only once it is there
        device = f"{quoting.unit_name_of_path(delivery.source)}.device"
        before += [("Wants", device), ("After", device)]
    return Unit(
        span=delivery.span,
        cause=cause,
        name=SECRETS_UNIT,
        sections=(
            _section(delivery, cause, "Unit", [("Description", "Secrets of the image"), *dict.fromkeys(before)]),
            _section(delivery, cause, "Service", service),
        ),
        needs=SandboxNeeds(
            span=delivery.span,
            cause=cause,
            ports=(delivery.port,) if delivery.method in {"http_post", "vsock"} else (),
            capabilities=("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_FOWNER"),
            devices=_quote_devices(image) if is_server else disks,
        ),
    )


# Quotes


def _quote_units(service: QuoteService, image: ResolvedImage) -> tuple[Unit, Unit]:
    """A socket for the group, and the service behind it, which ends when nobody asks."""
    cause = "lower-guest: Tdxs is declared"
    socket = [
        ("ListenStream", quoting.unit_path(service.socket, span=service.span)),
        ("SocketMode", "0660"),
        ("SocketGroup", quoting.unit_word(service.group, span=service.span)),
    ]
    on_azure = quote_source(image) == AZURE_VTPM
    program = [("ExecStart", f"{PROGRAM} quote serve"), *_quote_access(image)]
    program += _ONLY_AZURES_SERVICE if on_azure else [("PrivateNetwork", "yes")]
    families = Directive(
        span=service.span,
        cause=cause,
        key="RestrictAddressFamilies",
        value="AF_UNIX AF_INET" if on_azure else "AF_UNIX",
    )
    return (
        Unit(
            span=service.span,
            cause=cause,
            name=QUOTE_SOCKET,
            sections=(
                _section(service, cause, "Unit", [("Description", "Socket for quotes of the trust domain")]),
                _section(service, cause, "Socket", socket),
            ),
            wanted_by=("sockets.target",),
        ),
        Unit(
            span=service.span,
            cause=cause,
            name=QUOTE_UNIT,
            early=True,  # boot steps may ask for quotes: who waits for them would never answer
            sections=(
                _section(
                    service,
                    cause,
                    "Unit",
                    [
                        ("Description", "Issues and validates quotes of the trust domain"),
                        ("Requires", QUOTE_SOCKET),
                        ("After", QUOTE_SOCKET),
                        *_quote_order(image),
                    ],
                ),
                _section(service, cause, "Service", program),
            ),
            needs=SandboxNeeds(
                span=service.span,
                cause=cause,
                devices=_quote_devices(image),
                capabilities=("CAP_DAC_OVERRIDE",) if on_azure else (),  # tpm-udev gives the TPM to the user tss
                overrides=(families,),
            ),
        ),
    )


_TPM = "/dev/tpmrm0"

_ONLY_AZURES_SERVICE = [
    ("IPAddressDeny", "any"),
    ("IPAddressAllow", "169.254.169.254"),
    ("SocketBindDeny", "any"),
]
"""A program of the host at this address makes a quote of the report that the virtual TPM gives (Azure Instance Metadata
Service, "Azure confidential VM guest attestation design"). It is asked for that and nothing else is reached."""


def _quote_devices(image: ResolvedImage) -> tuple[str, ...]:
    """Azure's quotes come by its virtual TPM; the kernel's own interface is no device."""
    return (_TPM,) if quote_source(image) == AZURE_VTPM else ()


def _quote_access(image: ResolvedImage) -> list[tuple[str, str]]:
    """The kernel's interface is a tree of files, in which each quote is a folder (configfs-tsm)."""
    return [] if quote_source(image) == AZURE_VTPM else [("ReadWritePaths", "-/sys/kernel/config")]


def _quote_order(image: ResolvedImage) -> list[tuple[str, str]]:
    """On Azure: the network, for the host's part of a quote, and the device: only one that is there can be allowed."""
    if quote_source(image) != AZURE_VTPM:
        return []
    names = ("network-online.target", f"{quoting.unit_name_of_path(_TPM)}.device")
    return [(key, name) for name in names for key in ("Wants", "After")]


# Pieces


def _section(node: Node, cause: str, name: str, pairs: list[tuple[str, str]]) -> Section:
    return Section(span=node.span, cause=cause, name=name, directives=_directives(node.span, cause, pairs))


def _directives(span: SourceSpan, cause: str, pairs: list[tuple[str, str]]) -> tuple[Directive, ...]:
    return tuple(Directive(span=span, cause=cause, key=key, value=value) for key, value in pairs)


def _with_units(image: ResolvedImage, *units: Unit) -> ResolvedImage:
    own = {unit.name for unit in image.units}
    added = (unit for unit in units if unit.name not in own)
    return records.evolve(image, units=tuple(sorted((*image.units, *added), key=lambda unit: unit.name)))
