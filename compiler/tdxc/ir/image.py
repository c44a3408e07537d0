"""The two roots of the IR: ``AuthoredImage`` (what a recipe says) and ``ResolvedImage`` (what passes make of it)."""

from __future__ import annotations

from typing import Any

from tdxc import records
from tdxc.ir.base import Base, Repository, Suite
from tdxc.ir.blob import Blob
from tdxc.ir.boot import BootStep, BootUnit, OrderedStep
from tdxc.ir.build import Build, EfiStub, ResolvedBuild, Script
from tdxc.ir.debloat import Debloat, ResolvedDebloat
from tdxc.ir.guest import EncryptedDisk, GuestKey, QuoteService, SecretDelivery
from tdxc.ir.kernel import Kernel, ResolvedKernel
from tdxc.ir.network import Network, ResolvedNetwork, Ssh
from tdxc.ir.node import Node
from tdxc.ir.policy import Policy, stricter
from tdxc.ir.rootfs import Directory, File, Group, Package, Symlink, Template, User
from tdxc.ir.storage import Encryption, Partition
from tdxc.ir.units import DropIn, RawUnit, Service, Unit


@records.frozen(kw_only=True)
class Setting(Node):
    """A scalar setting of the image with the line that set it."""

    value: str


@records.frozen(kw_only=True)
class Firmware(Node):
    """What the virtual machine starts with: ``ovmf``, or the name of a file of the recipe's and its bytes.

    No part of the image, which is the same under each firmware; registers of firmware rest on it.
    """

    value: str
    content: Blob | None = None


@records.frozen(kw_only=True)
class OutputTarget(Node):
    """A platform to make an artifact for: ``qemu``, ``azure`` or ``gcp``."""

    name: str


@records.frozen(kw_only=True)
class Layer(Node):
    """A bag of declarations: the image itself, a profile's delta, or what a module adds.

    Tuples add up when layers are merged; scalars are None where the layer does not set them. ``modules`` empties into
    the other fields in expand-modules, which leaves ``module_names`` behind.
    """

    kernel: Kernel | None = None
    init: Setting | None = None
    default_target: Setting | None = None
    firmware: Firmware | None = None
    locale: Setting | None = None
    docs: Setting | None = None
    cloud: Setting | None = None
    attestation_backend: Setting | None = None
    network: Network | None = None
    encryption: Encryption | None = None
    ssh: Ssh | None = None
    debloat: Debloat | None = None
    efi_stub: EfiStub | None = None
    policy: Policy | None = None
    secret_delivery: SecretDelivery | None = None
    quote_service: QuoteService | None = None
    root_password: Setting | None = None
    development: Setting | None = None
    suites: tuple[Suite, ...] = ()
    repositories: tuple[Repository, ...] = ()
    packages: tuple[Package, ...] = ()
    build_packages: tuple[Package, ...] = ()
    files: tuple[File, ...] = ()
    templates: tuple[Template, ...] = ()
    directories: tuple[Directory, ...] = ()
    symlinks: tuple[Symlink, ...] = ()
    users: tuple[User, ...] = ()
    groups: tuple[Group, ...] = ()
    services: tuple[Service, ...] = ()
    units: tuple[RawUnit, ...] = ()
    drop_ins: tuple[DropIn, ...] = ()
    boot_steps: tuple[BootStep, ...] = ()
    scripts: tuple[Script, ...] = ()
    builds: tuple[Build, ...] = ()
    partitions: tuple[Partition, ...] = ()
    guest_keys: tuple[GuestKey, ...] = ()
    encrypted_disks: tuple[EncryptedDisk, ...] = ()
    output_targets: tuple[OutputTarget, ...] = ()
    modules: tuple[ModuleUse, ...] = ()
    module_names: tuple[str, ...] = ()


@records.frozen(kw_only=True)
class ModuleUse(Node):
    """A module applied to a layer: its class name and everything it declared, until expand-modules flattens it."""

    name: str
    layer: Layer


@records.frozen(kw_only=True)
class Profile(Node):
    """A named delta over the image."""

    name: str
    layer: Layer


@records.frozen(kw_only=True)
class AuthoredImage(Node):
    """What a recipe says. ``mirror`` and ``snapshot`` are empty when the recipe declares none."""

    name: str
    base: Base
    version: str = ""
    reproducible: bool = True
    mirror: str = ""
    snapshot: str = ""
    layer: Layer
    profiles: tuple[Profile, ...] = ()


@records.frozen(kw_only=True)
class Reproducibility(Node):
    """Inputs that make two builds equal: ``source_date_epoch`` in seconds since 1970, ``seed`` a UUID for mkosi."""

    enabled: bool
    source_date_epoch: int
    seed: str


@records.frozen(kw_only=True)
class ResolvedImage(Node):
    """One variant of the image (base, or base with profiles) with every default explicit and every order decided.

    Emitters accept nothing else. Packages are sorted; files, directories and symlinks are sorted by path and unique;
    users and groups have their ids; units are sorted by name; steps are in boot order; scripts keep recipe order.
    """

    name: str
    base: Base
    version: str = ""
    mirror: str = ""
    snapshot: str = ""
    profiles: tuple[str, ...] = ()
    suites: tuple[Suite, ...] = ()
    repositories: tuple[Repository, ...] = ()
    kernel: ResolvedKernel
    init: str
    default_target: str
    firmware: Firmware
    locale: str
    docs: bool
    cloud: str = ""
    attestation_backend: str = ""
    network: ResolvedNetwork
    encryption: Encryption | None = None
    ssh: Ssh | None = None
    efi_stub: EfiStub | None = None
    secret_delivery: SecretDelivery | None = None
    quote_service: QuoteService | None = None
    root_password: Setting | None = None
    development: Setting | None = None
    policy: Policy
    reproducibility: Reproducibility
    debloat: ResolvedDebloat
    authored_debloat: Debloat
    authored_kernel: Kernel
    authored_network: Network
    packages: tuple[Package, ...] = ()
    build_packages: tuple[Package, ...] = ()
    files: tuple[File, ...] = ()
    directories: tuple[Directory, ...] = ()
    symlinks: tuple[Symlink, ...] = ()
    users: tuple[User, ...] = ()
    groups: tuple[Group, ...] = ()
    units: tuple[Unit, ...] = ()
    drop_ins: tuple[DropIn, ...] = ()
    boot_steps: tuple[BootStep, ...] = ()
    ordered_steps: tuple[OrderedStep, ...] = ()
    boot_order: tuple[BootUnit, ...] = ()
    scripts: tuple[Script, ...] = ()
    authored_builds: tuple[Build, ...] = ()
    builds: tuple[ResolvedBuild, ...] = ()
    partitions: tuple[Partition, ...] = ()
    guest_keys: tuple[GuestKey, ...] = ()
    encrypted_disks: tuple[EncryptedDisk, ...] = ()
    output_targets: tuple[OutputTarget, ...] = ()
    modules: tuple[str, ...] = ()


@records.frozen(kw_only=True)
class CompiledImage(Node):
    """What the emitters write: the base image and, for a tree with profiles, one full variant per profile."""

    image: ResolvedImage
    variants: tuple[ResolvedImage, ...] = ()


def merge_layers(base: Layer, delta: Layer) -> Layer:
    """Lay ``delta`` over ``base``: tuples are concatenated, declarations that both set are merged, scalars replaced.

    Of two policies the stricter rules hold.
    """
    merged: dict[str, Any] = {}
    for field in records.fields_of(Layer):
        if not field.eq:
            continue
        below, above = getattr(base, field.name), getattr(delta, field.name)
        merged[field.name] = _merge_value(below, above)
    return records.evolve(base, **merged)


def _merge_value(below: Any, above: Any) -> Any:
    if isinstance(below, tuple):
        return below + above
    if above is None or below is None:
        return below if above is None else above
    if isinstance(above, Policy):
        return stricter(below, above)
    if isinstance(above, Network | Debloat):
        fields = {
            f.name: _merge_value(getattr(below, f.name), getattr(above, f.name))
            for f in records.fields_of(type(above))
            if f.eq
        }
        return records.evolve(above, **fields)
    return above
