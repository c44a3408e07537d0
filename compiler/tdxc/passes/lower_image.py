"""lower-image: from what a recipe says to one variant of the image with every default explicit.

This is where the phase changes: ``AuthoredImage`` with chosen profiles in, ``ResolvedImage`` out. What needs more than
a default (kernel, firewall, sandbox, order) is left to the passes behind it.
"""

from __future__ import annotations

from typing import Any

from tdxc import records
from tdxc.ir import (
    POLICY_RULES,
    AuthoredImage,
    Base,
    Debloat,
    Distribution,
    Firmware,
    Kernel,
    KernelSource,
    Layer,
    MutableRefPolicy,
    Network,
    NetworkBackend,
    OutputTarget,
    Package,
    Policy,
    RawUnit,
    Reproducibility,
    ResolvedDebloat,
    ResolvedImage,
    ResolvedKernel,
    ResolvedNetwork,
    SandboxNeeds,
    Setting,
    Unit,
    laid_over,
    merge_layers,
)
from tdxc.passes.lower_service import lower_service

DEFAULT_TARGET = "minimal.target"

BASE_PACKAGES: dict[tuple[Distribution, str], tuple[tuple[str, str], ...]] = {
    (Distribution.DEBIAN, "systemd"): (
        ("systemd", "the init system"),
        ("udev", "device nodes, and modules by hardware"),
        ("kmod", "loads kernel modules"),
    ),
    (Distribution.DEBIAN, "busybox"): (("busybox-static", "the init system and the shell"), ("kmod", "loads modules")),
    (Distribution.ALPINE, "busybox"): (
        ("busybox", "the init system and the shell"),
        ("setpriv", "runs services as their users, with their capabilities"),
    ),
}
"""What an image of a distribution with an init system cannot do without, each with its reason."""


def lower_image(image: AuthoredImage, profiles: tuple[str, ...] = ()) -> ResolvedImage:
    """The variant of ``image`` with ``profiles`` (known names, applied in the order of the recipe)."""
    layer = merged_layer(image, profiles)
    return ResolvedImage(
        span=image.span,
        name=image.name,
        base=image.base,
        version=image.version,
        mirror=image.mirror,
        snapshot=image.snapshot,
        profiles=tuple(profile.name for profile in image.profiles if profile.name in profiles),
        suites=layer.suites,
        repositories=layer.repositories,
        kernel=_unresolved_kernel(layer),
        init=_value(layer.init, "systemd"),
        default_target=_value(layer.default_target, DEFAULT_TARGET),
        firmware=layer.firmware or Firmware(span=image.span, value="ovmf"),
        locale=_value(layer.locale, ""),
        docs=_value(layer.docs, "no") == "yes",
        cloud=_value(layer.cloud, ""),
        attestation_backend=_value(layer.attestation_backend, ""),
        authored_kernel=layer.kernel or Kernel(span=image.span),
        authored_network=layer.network or Network(span=image.span),
        network=_network(layer.network, image),
        encryption=layer.encryption,
        ssh=layer.ssh,
        efi_stub=layer.efi_stub,
        secret_delivery=layer.secret_delivery,
        quote_service=layer.quote_service,
        root_password=layer.root_password,
        development=layer.development,
        policy=_policy(layer.policy, image),
        reproducibility=Reproducibility(span=image.span, enabled=image.reproducible, source_date_epoch=0, seed=""),
        debloat=ResolvedDebloat(span=image.span, enabled=False),
        authored_debloat=layer.debloat or Debloat(span=image.span),
        packages=unique_packages(layer.packages + _base_packages(image.base, layer, image)),
        build_packages=unique_packages(layer.build_packages),
        files=tuple(sorted(layer.files, key=lambda file: file.path)),
        directories=tuple(sorted(layer.directories, key=lambda directory: directory.path)),
        symlinks=tuple(sorted(layer.symlinks, key=lambda link: link.path)),
        users=layer.users,
        groups=layer.groups,
        units=tuple(sorted(_units(layer), key=lambda unit: unit.name)),
        drop_ins=layer.drop_ins,
        boot_steps=layer.boot_steps,
        scripts=layer.scripts,
        authored_builds=layer.builds,
        partitions=layer.partitions,
        guest_keys=layer.guest_keys,
        encrypted_disks=layer.encrypted_disks,
        output_targets=_targets(layer, image),
        modules=layer.module_names,
    )


def merged_layer(image: AuthoredImage, profiles: tuple[str, ...]) -> Layer:
    """The image's layer with those of ``profiles`` over it, in the order of the recipe."""
    layer = _ordered(image.layer, image.base)
    for profile in image.profiles:
        if profile.name in profiles:
            layer = merge_layers(layer, _ordered(profile.layer, image.base))
    return layer


def _ordered(layer: Layer, base: Base) -> Layer:
    if len(layer.builds) < 2:
        return layer
    from tdxc.passes.nested_builds import in_nested_order

    return in_nested_order(layer, base)


def unique_packages(packages: tuple[Package, ...]) -> tuple[Package, ...]:
    """Sorted by name, the first mention of each kept (so that the recipe's own line is the origin)."""
    first: dict[str, Package] = {}
    for package in packages:
        first.setdefault(package.name, package)
    return tuple(first[name] for name in sorted(first))


def _value(setting: Setting | None, default: str) -> str:
    return default if setting is None else setting.value


def _unresolved_kernel(layer: Layer) -> ResolvedKernel:
    """A placeholder that resolve-kernel replaces."""
    span = layer.kernel.span if layer.kernel else layer.span
    return ResolvedKernel(span=span, source=KernelSource.DISTRIBUTION, package="", cmdline=())


def _network(network: Network | None, image: AuthoredImage) -> ResolvedNetwork:
    declared = network or Network(span=image.span)
    return ResolvedNetwork(
        span=declared.span,
        vsock=bool(declared.vsock),
        backend=declared.backend or NetworkBackend.NETWORKD,
        resolver=bool(declared.resolver),
    )


def _base_packages(base: Base, layer: Layer, image: AuthoredImage) -> tuple[Package, ...]:
    family = Distribution.DEBIAN if base.distribution is Distribution.UBUNTU else base.distribution
    init = _value(layer.init, "systemd")
    span = layer.init.span if layer.init else image.span
    rows = BASE_PACKAGES.get((family, init), ())
    return tuple(Package(name=name, span=span, cause=f"init system {init}: {reason}") for name, reason in rows)


def _policy(policy: Policy | None, image: AuthoredImage) -> Policy:
    """Rules that no policy speaks of are the loosest, but for changing references: whoever has a policy is warned."""
    default = MutableRefPolicy.WARN if policy else MutableRefPolicy.ALLOW
    loosest: dict[str, Any] = {rule: values[0] for rule, values in POLICY_RULES.items()}
    loosest["mutable_ref_policy"] = default
    below = Policy(span=policy.span if policy else image.span, **loosest)
    return laid_over(below, policy) if policy else below


def _units(layer: Layer) -> list[Unit]:
    return [lower_service(service) for service in layer.services] + [_raw_unit(unit) for unit in layer.units]


def _raw_unit(unit: RawUnit) -> Unit:
    return Unit(
        span=unit.span,
        name=unit.name,
        sections=unit.sections,
        wanted_by=unit.wanted_by if unit.enabled else (),
        enabled=unit.enabled,
        early=unit.early,
        needs=SandboxNeeds(span=unit.span) if unit.name.endswith(".service") else None,
    )


def _targets(layer: Layer, image: AuthoredImage) -> tuple[OutputTarget, ...]:
    declared = {target.name: target for target in reversed(layer.output_targets)}
    if not declared:
        return (OutputTarget(name="qemu", span=image.span, cause="the default output target"),)
    return tuple(declared[name] for name in sorted(declared))


def with_packages(image: ResolvedImage, *packages: Package) -> ResolvedImage:
    """The image with more packages, for passes whose output needs a program."""
    return records.evolve(image, packages=unique_packages(image.packages + packages))
