"""What an image's features need of its kernel: modules to keep and options to require, as data with reasons.

Modules are named as ``lsmod`` does (with underscores). Their dependencies are not listed: the bake follows
``modules.dep``; and it skips a name that is built in or unknown, since the options, which are checked against the
packaged configuration, say whether the feature is there at all.
"""

from __future__ import annotations

from collections.abc import Callable

from tdxc import records
from tdxc.ir import DebloatKind, Distribution, KeepDecision, KernelSource, NetworkBackend, Node, ResolvedImage

FILE_SYSTEM_MODULES: dict[str, tuple[str, ...]] = {
    "ext4": ("ext4",),
    "xfs": ("xfs",),
    "btrfs": ("btrfs",),
    "vfat": ("vfat", "nls_cp437", "nls_ascii", "nls_iso8859_1"),
    "squashfs": ("squashfs",),
    "erofs": ("erofs",),
}
"""File systems that partitions may have. vfat loads its code pages by name (fs/fat/inode.c), hence the nls modules."""

Cause = Callable[[ResolvedImage], Node | None]


@records.frozen
class KernelFeature:
    """One reason to want modules. ``cause`` gives the node that asks for it, None when the image does not.

    ``fragment`` names the file under ``tdxc/kconfig/`` with the options that go with it; empty for none.
    """

    name: str
    reason: str
    cause: Cause
    modules: tuple[str, ...] = ()
    fragment: str = ""


def _always(image: ResolvedImage) -> Node | None:
    return image


def _tdx(image: ResolvedImage) -> Node | None:
    """Alpine's kernels are built without CONFIG_INTEL_TDX_GUEST; resolve-kernel warns about that."""
    return None if image.base.distribution is Distribution.ALPINE else image


def _network(image: ResolvedImage) -> Node | None:
    return None if image.network.backend is NetworkBackend.NONE else image.network


def _vsock(image: ResolvedImage) -> Node | None:
    return image.network if image.network.vsock else None


def _firewall(image: ResolvedImage) -> Node | None:
    return next(iter(image.authored_network.firewall_rules), None)


def _package(*names: str) -> Cause:
    def cause(image: ResolvedImage) -> Node | None:
        return next((p for p in image.packages if p.name.partition("/")[0].partition("=")[0] in names), None)

    return cause


def _encryption(image: ResolvedImage) -> Node | None:
    return image.encryption or _package("cryptsetup", "cryptsetup-bin", "systemd-cryptsetup")(image)


def _verity(image: ResolvedImage) -> Node | None:
    return next((partition for partition in image.partitions if partition.verity), None)


def _file_system(fs: str) -> Cause:
    def cause(image: ResolvedImage) -> Node | None:
        partition = next((partition for partition in image.partitions if partition.fs == fs), None)
        return partition or next((disk for disk in image.encrypted_disks if disk.fs == fs), None)

    return cause


def _platform(name: str) -> Cause:
    def cause(image: ResolvedImage) -> Node | None:
        target = next((target for target in image.output_targets if target.name == name), None)
        return target or (image if image.cloud == name else None)

    return cause


KERNEL_FEATURES: tuple[KernelFeature, ...] = (
    KernelFeature(name="boot", reason="the UKI boots by it", cause=_always, fragment="boot"),
    KernelFeature(
        name="tdx",
        reason="the guest makes TDX quotes through it",
        cause=_tdx,
        modules=("tdx_guest", "tsm", "configfs"),
        fragment="tdx",
    ),
    KernelFeature(
        name="virtio",
        reason="devices of QEMU and of clouds that follow it",
        cause=_always,
        modules=("virtio_pci", "virtio_blk", "virtio_scsi", "sd_mod", "virtio_console", "virtio_rng"),
        fragment="virtio",
    ),
    KernelFeature(
        name="tpm",
        reason="the virtual TPM of QEMU, Azure and Google",
        cause=_always,
        modules=("tpm_tis", "tpm_crb"),
        fragment="tpm",
    ),
    KernelFeature(name="hardening", reason="the image's defences rely on it", cause=_always, fragment="hardening"),
    KernelFeature(
        name="network",
        reason="the image configures a network",
        cause=_network,
        modules=("virtio_net", "af_packet", "ipv6"),
    ),
    KernelFeature(
        name="vsock",
        reason="the recipe asks for vsock",
        cause=_vsock,
        modules=("vsock", "vmw_vsock_virtio_transport"),
        fragment="vsock",
    ),
    KernelFeature(
        name="firewall",
        reason="the firewall ruleset uses it",
        cause=_firewall,
        modules=("nf_tables", "nf_conntrack", "nft_ct", "nft_reject_inet"),
        fragment="firewall",
    ),
    KernelFeature(
        name="iptables",
        reason="the package iptables loads its rules through it",
        cause=_package("iptables", "iptables-persistent"),
        modules=(
            *("nf_tables", "nft_compat", "nft_ct", "nft_chain_nat", "ip_tables", "ip6_tables", "iptable_filter"),
            *("iptable_nat", "ip6table_filter", "xt_tcpudp", "xt_conntrack", "xt_multiport", "xt_comment"),
            *("xt_addrtype", "xt_owner", "xt_limit", "xt_REDIRECT", "xt_MASQUERADE", "ipt_REJECT", "ip6t_REJECT"),
        ),
    ),
    KernelFeature(
        name="conntrack",
        reason="the package conntrack reads the connection table through it",
        cause=_package("conntrack"),
        modules=("nf_conntrack", "nf_conntrack_netlink"),
    ),
    KernelFeature(
        name="containers",
        reason="rootless networking and overlay file systems of container tools",
        cause=_package("podman", "docker.io", "containerd", "passt", "slirp4netns", "fuse-overlayfs"),
        modules=("overlay", "fuse", "tun", "veth", "bridge", "br_netfilter"),
    ),
    KernelFeature(
        name="dm-crypt",
        reason="encrypted volumes are opened through it",
        cause=_encryption,
        modules=("dm_mod", "dm_crypt", "dm_integrity", "xts", "aesni_intel", "algif_skcipher", "algif_hash"),
        fragment="dm-crypt",
    ),
    KernelFeature(
        name="dm-verity",
        reason="a partition is checked through it",
        cause=_verity,
        modules=("dm_mod", "dm_verity"),
        fragment="dm-verity",
    ),
    *(
        KernelFeature(
            name=f"fs-{fs}",
            reason=f"a partition has the file system {fs}",
            cause=_file_system(fs),
            modules=modules,
            fragment=f"fs-{fs}",
        )
        for fs, modules in FILE_SYSTEM_MODULES.items()
    ),
    KernelFeature(
        name="azure",
        reason="devices of Hyper-V, which Azure's TDs see",
        cause=_platform("azure"),
        modules=("hv_vmbus", "hv_netvsc", "hv_storvsc", "hv_utils", "hv_balloon", "pci_hyperv", "sd_mod", "mana"),
        fragment="azure",
    ),
    KernelFeature(
        name="azure-vsock",
        reason="vsock on Hyper-V",
        cause=lambda image: _platform("azure")(image) and _vsock(image),
        modules=("hv_sock",),
    ),
    KernelFeature(
        name="gcp",
        reason="Google's network card and NVMe disks",
        cause=_platform("gcp"),
        modules=("gve", "nvme"),
        fragment="gcp",
    ),
)
"""In the order of the fragments' numbers in the tree."""


def wanted_features(image: ResolvedImage) -> tuple[tuple[KernelFeature, Node], ...]:
    """The features that the image uses, each with the node that asks for it."""
    found = ((feature, feature.cause(image)) for feature in KERNEL_FEATURES)
    return tuple((feature, node) for feature, node in found if node is not None)


def wanted_modules(image: ResolvedImage) -> tuple[KeepDecision, ...]:
    """The kernel modules to keep, sorted by name, each with the first reason; none for a monolithic kernel.

    One that is configured by the recipe's options alone has the modules that they ask for, whose names only its build
    knows: all stay.
    """
    if image.kernel.monolithic:
        return ()
    authored = image.authored_kernel
    if image.kernel.source is KernelSource.SOURCE and authored.config_file is None:
        reason = "the kernel is built with the modules that the recipe asks for"
        cause = f"resolve-kernel: {reason}"
        return (KeepDecision(span=authored.span, cause=cause, kind=DebloatKind.MODULE, name="*", reason=reason),)
    decisions: dict[str, KeepDecision] = {}
    for feature, node in wanted_features(image):
        for module in feature.modules:
            decision = KeepDecision(
                span=node.span,
                cause=f"kernel feature '{feature.name}': {feature.reason}",
                kind=DebloatKind.MODULE,
                name=module,
                reason=feature.reason,
            )
            decisions.setdefault(module, decision)
    return tuple(decisions[name] for name in sorted(decisions))
