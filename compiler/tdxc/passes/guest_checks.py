"""What must hold between keys, disks, secrets, their targets and the rest of the image."""

from __future__ import annotations

from collections.abc import Iterator

from tdxc.diagnostics import Code, Diagnostic, Note, SourceSpan, nearest
from tdxc.ir import EncryptedDisk, GuestKey, Node, ResolvedImage, Secret, SecretDelivery, SecretTarget
from tdxc.passes.guest_uses import Parts, parts_of
from tdxc.passes.unit_sections import is_true, last_value, words

_BASES = ("debian/trixie",)
"""Bases whose Go (1.24) builds ``tdx-guest``: bookworm has 1.19 and noble 1.22."""

_MOST_SECRETS = 256
_MOST_TARGETS = 64
_LARGEST_CONFIG = 1 << 20
"""What ``tdx-guest`` takes; a property test holds the two together."""


def check_guest(image: ResolvedImage) -> Iterator[Diagnostic]:
    """All contradictions, each at its own line."""
    yield from _check_base(image)
    yield from _check_init(image)
    yield from _check_keys(image)
    yield from _check_disks(image)
    yield from _check_uses(image)
    if image.secret_delivery is not None:
        yield from _check_delivery(image.secret_delivery, image)
        yield from _check_targets(image.secret_delivery, image)


def check_size(size_bytes: int, image: ResolvedImage) -> Iterator[Diagnostic]:
    """The guest reads its configuration up to a limit, since it takes no file for granted."""
    if size_bytes > _LARGEST_CONFIG:
        message = f"the configuration of tdx-guest has {size_bytes} bytes, and it reads {_LARGEST_CONFIG}"
        fix = "declare fewer secrets, shorter enums and patterns, or fewer targets"
        yield _fault(Code.E_LIMIT, message, image.secret_delivery or image, fix)


def _check_base(image: ResolvedImage) -> Iterator[Diagnostic]:
    declared = (*image.guest_keys, *image.encrypted_disks, image.secret_delivery, image.quote_service)
    first = next((node for node in declared if node is not None), None)
    if first is not None and image.base.reference not in _BASES:
        message = (
            f"keys, disks, secrets and quotes need tdx-guest, which {image.base.reference} has no Go to build with"
        )
        yield _fault(Code.E_UNSUPPORTED, message, first, f"use base {_BASES[0]}")


def _check_init(image: ResolvedImage) -> Iterator[Diagnostic]:
    if image.init == "systemd":
        return
    for node, what in ((image.secret_delivery, "SecretDelivery"), (image.quote_service, "Tdxs")):
        if node is not None:
            message = f"{what} is a service of systemd, but the init is '{image.init}'"
            yield _fault(Code.E_UNSUPPORTED, message, node, "write init = 'systemd'")


def _check_keys(image: ResolvedImage) -> Iterator[Diagnostic]:
    """A key is for disks, or is kept. A sealed one has no other place than the header of its disk."""
    opened = {disk.key for disk in image.encrypted_disks}
    if opened - {key.name for key in image.guest_keys}:
        return  # a disk names none of the keys: that is what is wrong
    for key in image.guest_keys:
        if key.name not in opened and (key.strategy == "tpm" or not key.keep):
            yield _without_disk(key)


def _without_disk(key: GuestKey) -> Diagnostic:
    message = f"KeyGeneration makes the key '{key.name}', and no DiskEncryption of the same image opens a disk with it"
    fix = f"apply DiskEncryption(…, key='{key.name}') beside it: both in the image, or both in the same profile"
    if key.strategy != "tpm":
        fix += "; or keep=True where a service reads the key"
    return _fault(Code.E_REFERENCE, message, key, fix)


def _check_disks(image: ResolvedImage) -> Iterator[Diagnostic]:
    keys = {key.name: key for key in image.guest_keys}
    yield from _repeated("key", "name", image.guest_keys, lambda node: node.name)
    yield from _repeated("encrypted disk", "name", image.encrypted_disks, lambda node: node.name)
    yield from _repeated("encrypted disk at", "mount_at", image.encrypted_disks, lambda node: node.mount_at)
    yield from _repeated(
        "encrypted disk on", "device", image.encrypted_disks, lambda node: node.device or node.strategy
    )
    source = image.secret_delivery.source if image.secret_delivery else ""
    mounted = {partition.mount_point: partition for partition in image.partitions}
    for disk in image.encrypted_disks:
        key = keys.get(disk.key)
        if key is None:
            yield _without_key(disk, list(keys))
        elif key.strategy == "random" and disk.format != "always":
            message = f"the disk '{disk.name}' is opened with the key '{key.name}', which the next boot no longer has"
            fix = "write format='always' for a disk of one boot, or strategy='tpm' for a key that stays"
            yield _fault(Code.E_CONFLICT, message, disk, fix, "the key is made here", key)
        if disk.device and disk.device == source:
            message = f"'{source}' is the disk '{disk.name}', and where the secrets are read from"
            fix = "attach a disk for each, such as /dev/vdb and /dev/vdc"
            yield _fault(Code.E_CONFLICT, message, disk, fix, "it is read here", image.secret_delivery)
        if disk.mount_at in mounted:
            message = f"'{disk.mount_at}' is the mount point of an encrypted disk and of a partition"
            note = "the partition is declared here"
            yield _fault(Code.E_CONFLICT, message, disk, "mount one of them elsewhere", note, mounted[disk.mount_at])


def _without_key(disk: EncryptedDisk, keys: list[str]) -> Diagnostic:
    if not keys:
        message = f"DiskEncryption opens '{disk.name}' with the key '{disk.key}', and no KeyGeneration makes a key"
        return _fault(Code.E_REFERENCE, message, disk, "apply KeyGeneration(strategy='tpm') to the image too")
    close = nearest(disk.key, keys)
    fix = f"did you mean '{close}'?" if close else f"the keys are: {', '.join(keys)}"
    return _fault(Code.E_REFERENCE, f"DiskEncryption opens '{disk.name}' with the unknown key '{disk.key}'", disk, fix)


def _check_uses(image: ResolvedImage) -> Iterator[Diagnostic]:
    """Secrets that services name."""
    delivery = image.secret_delivery
    known = [secret.name for secret in delivery.secrets] if delivery else []
    for unit in image.units:
        for name in unit.needs.secrets if unit.needs else ():
            if name in known:
                continue
            close = nearest(name, known)
            fix = (
                f"did you mean '{close}'?"
                if close
                else f"declare it: delivery.secret('{name}'), and apply the delivery"
            )
            yield _fault(Code.E_REFERENCE, f"'{unit.name}' uses the unknown secret '{name}'", unit, fix)


def _check_delivery(delivery: SecretDelivery, image: ResolvedImage) -> Iterator[Diagnostic]:
    if not delivery.secrets:
        message = "SecretDelivery is applied, and no secret was declared before"
        yield _fault(
            Code.E_VALUE, message, delivery, "declare one with delivery.secret(…) before delivery.apply(image)"
        )
    yield from _repeated("secret", "name", delivery.secrets, lambda node: node.name)
    if len(delivery.secrets) > _MOST_SECRETS:
        message = f"SecretDelivery has {len(delivery.secrets)} secrets; the limit is {_MOST_SECRETS}"
        fix = "put several values into one secret of the kind 'json'"
        yield _fault(Code.E_LIMIT, message, delivery.secrets[_MOST_SECRETS], fix)
    for unit in image.units:
        port = delivery.port if delivery.method == "http_post" else 0
        if port and unit.needs and port in unit.needs.ports:
            message = f"'{unit.name}' and SecretDelivery both listen on port {port}"
            yield _fault(Code.E_CONFLICT, message, unit, "give one of them another port", "it is here", delivery)


def _check_targets(delivery: SecretDelivery, image: ResolvedImage) -> Iterator[Diagnostic]:
    units = parts_of(image)
    services = [parts.name for parts in units if parts.is_whole and parts.name.endswith(".service")]
    given = tuple((parts, folder, what) for parts in units for folder, what in _given_folders(parts))
    first: dict[tuple[str, str], tuple[Secret, SecretTarget]] = {}
    files = {target.path: target for secret in delivery.secrets for target in secret.targets if target.path}
    used = {name for unit in image.units if unit.needs for name in unit.needs.secrets}
    for secret in delivery.secrets:
        if not secret.targets and secret.name not in used:
            message = f"the secret '{secret.name}' goes nowhere: it has no target, and no service uses it"
            yield _fault(Code.E_VALUE, message, secret, "give it a target, or name it in service(secrets=[…])")
        if len(secret.targets) + (secret.name in used) > _MOST_TARGETS:
            message = f"the secret '{secret.name}' has {len(secret.targets)} targets; the limit is {_MOST_TARGETS}"
            if secret.name in used:
                message += ", of which one is for the services that use it"
            yield _fault(Code.E_LIMIT, message, secret, "let programs share a file by its group")
        for target in secret.targets:
            yield from _check_target(secret, target, services)
            yield from _check_folders(target, files)
            yield from _check_places(target, image, given)
            place = (target.path, "") if target.kind == "file" else (target.variable, target.scope)
            if place not in first:
                first[place] = secret, target
                continue
            other, earlier = first[place]
            message = f"the secrets '{other.name}' and '{secret.name}' both go to {_describe(target)}"
            if other is secret:
                message = f"the secret '{secret.name}' goes to {_describe(target)} twice"
            yield _fault(Code.E_CONFLICT, message, target, "give each its own", "the other is here", earlier)


def _check_folders(target: SecretTarget, files: dict[str, SecretTarget]) -> Iterator[Diagnostic]:
    """The folder of a secret's file is no file of another secret."""
    folder = target.path.rpartition("/")[0]
    while folder:
        if folder in files:
            message = f"'{target.path}' is below '{folder}', which is the file of a secret"
            yield _fault(Code.E_CONFLICT, message, target, "give each its own folder", "it is here", files[folder])
        folder = folder.rpartition("/")[0]


def _check_places(
    target: SecretTarget, image: ResolvedImage, given: tuple[tuple[Parts, str, str], ...]
) -> Iterator[Diagnostic]:
    """The file of a secret is nothing else's, and its folder is root's for as long as the machine runs."""
    for key in image.guest_keys:
        if target.path and target.path == key.pipe:
            message = (
                f"'{key.pipe}' is the pipe of the key '{key.name}', which a boot step reads before any secret comes"
            )
            fix = "write the key into the pipe in a service of your own, with early=True"
            yield _fault(Code.E_CONFLICT, message, target, fix, "the key is declared here", key)
    service = image.quote_service
    if service is not None and target.path == service.socket:
        message = f"'{target.path}' is the socket for quotes"
        yield _fault(Code.E_CONFLICT, message, target, "write '/run/secrets/…'", "it is declared here", service)
    for parts, folder, what in given:
        if target.path.startswith(f"{folder}/"):
            message = f"'{target.path}' is in '{folder}', which systemd {what} '{parts.name}'"
            fix = "give the secret a folder of its own, '/run/secrets/…'"
            yield _fault(Code.E_CONFLICT, message, target, fix, "that is declared here", parts.node)


def _given_folders(parts: Parts) -> Iterator[tuple[str, str]]:
    """Folders below /run that systemd gives to the user of a service with all that is in them, or removes behind it.

    These are systemd.exec(5)'s ``RuntimeDirectory=``, which ``service(writes=…)`` becomes as well.
    """
    users = [last_value(unit, "Service", "User") for unit in parts.units]
    dynamic = any(is_true(last_value(unit, "Service", "DynamicUser")) for unit in parts.units)
    is_others = dynamic or any(user not in {"", "root", "0"} for user in users)
    stays = any(is_true(last_value(unit, "Service", "RuntimeDirectoryPreserve")) for unit in parts.units)
    for unit in parts.units:
        for word in words(unit, "Service", "RuntimeDirectory"):
            if is_others or not stays:
                yield (
                    f"/run/{word.partition(':')[0]}",
                    "gives to the user of" if is_others else "removes at each stop of",
                )
        for path in unit.needs.writes if unit.needs and is_others else ():
            if path.startswith("/run/"):
                yield path.rstrip("/"), "gives to the user of"


def _check_target(secret: Secret, target: SecretTarget, services: list[str]) -> Iterator[Diagnostic]:
    if target.kind != "env":
        return
    if secret.kind == "base64":
        message = f"the secret '{secret.name}' is binary (base64), which an environment variable cannot hold"
        yield _fault(Code.E_VALUE, message, target, "use SecretTarget.file(…), or the kind 'string'")
    if target.scope != "global" and target.scope not in services:
        close = nearest(target.scope, services)
        fix = f"did you mean '{close}'?" if close else "write scope='global', or the name of a service of the image"
        message = f"the secret '{secret.name}' goes to the environment of '{target.scope}', which does not exist"
        yield _fault(Code.E_REFERENCE, message, target, fix)


def _describe(target: SecretTarget) -> str:
    return f"'{target.path}'" if target.kind == "file" else f"the variable {target.variable} ({target.scope})"


def _repeated(what: str, argument: str, nodes: tuple[Node, ...], name_of: object) -> Iterator[Diagnostic]:
    first: dict[str, Node] = {}
    for node in nodes:
        name = str(name_of(node)) if callable(name_of) else ""
        before = first.setdefault(name, node)
        if before is not node:
            message = f"{what} '{name}' is declared twice"
            fix = f"give one of them another {argument}=, or leave one out"
            yield _fault(Code.E_CONFLICT, message, node, fix, "it is first here", before)


def _fault(code: Code, message: str, node: Node, fix: str, note: str = "", other: Node | None = None) -> Diagnostic:
    span: SourceSpan = node.span
    notes = (Note(message=note, span=other.span),) if other is not None else ()
    return Diagnostic(code=code, message=message, span=span, notes=notes, fix=fix)
