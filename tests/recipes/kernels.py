"""A kernel for everything that an image can use, so that every fragment of ours takes part; it is never booted."""

from tdx import Image, Kernel

everything = Image("everything", base="debian/trixie")
everything.output_targets("qemu", "azure", "gcp")
everything.install("cryptsetup-bin", "podman", "iptables", "conntrack")
everything.network(vsock=True, firewall_rules=["ACCEPT icmp", "DROP all"])
everything.partitions(
    Image.partition("/", fs="ext4", size="1G"),
    Image.partition("/a", fs="xfs", size="1G"),
    Image.partition("/b", fs="btrfs", size="1G"),
    Image.partition("/c", fs="vfat", size="1G"),
    Image.partition("/d", fs="squashfs", size="1G"),
    Image.partition("/e", fs="erofs", size="1G"),
)
everything.kernel = Kernel.tdx(
    version="6.12",
    # the first two cannot be, the third is another word for one of a choice; all else has to survive
    config={"SND_HDA_INTEL": True, "NO_SUCH_OPTION": True, "KERNEL_GZIP": True},
)
