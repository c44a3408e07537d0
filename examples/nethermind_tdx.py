"""The base layer of an Ethereum prover image: a pinned archive, backports, a pinned EFI stub, kernel and debloat.

What the prover itself needs (programs from source, keys, disks, quotes) comes on top of this.
"""

from tdx import Image, Kernel
from tdx.backends import LocalLinuxBackend
from tdx.modules import Tdxs
from tdx.policy import Policy

img = Image(
    "nethermind-tdx",
    base="debian/trixie",
    reproducible=True,
    snapshot="20251113T083151Z",
    backend=LocalLinuxBackend(),
)
img.output_targets("qemu")
img.suite("trixie-backports")
img.suite("sid", priority=50)
img.efi_stub("257.9-1~deb13u1")

img.kernel = Kernel.tdx(
    cmdline="console=ttyS0,115200n8 mitigations=auto,nosmt spec_store_bypass_disable=on nospectre_v2",
)
img.debloat(enabled=True, keep=["systemd-tty-ask-password-agent"])

img.install(
    "busybox",
    "ca-certificates",
    "conntrack",
    "cryptsetup",
    "curl",
    "e2fsprogs",
    "iproute2",
    "jq",
    "kmod",
    "logrotate",
    "openssl",
    "procps",
    "prometheus-node-exporter",
    "util-linux",
)
img.build_packages("build-essential", "git", "golang", "pkg-config")

img.group("eth")
img.group("tdx")
img.user("nethermind-surge", system=True, groups=["eth", "tdx"], home="/home/nethermind-surge", shell="/bin/false")  # noqa: S604 - a login shell
img.user("taiko-client", system=True, groups=["eth"], home="/home/taiko-client", shell="/bin/false")  # noqa: S604 - a login shell
img.user("raiko", system=True, groups=["tdx"], home="/home/raiko", shell="/bin/false")  # noqa: S604 - a login shell

img.file("/etc/sysctl.d/90-network.conf", content="net.ipv4.ip_forward = 0\nnet.ipv4.conf.all.rp_filter = 1\n")
img.file(
    "/usr/lib/udev/rules.d/90-tdx-guest.rules",
    content='SUBSYSTEM=="misc", KERNEL=="tdx_guest", GROUP="tdx", MODE="0660"\n',
)
Tdxs(group="tdx").apply(img)
img.network(
    vsock=True,
    firewall_rules=["ACCEPT icmp", "ACCEPT tcp 8545", "ACCEPT tcp 30303", "ACCEPT udp 30303", "DROP all"],
)

img.set_policy(
    Policy(require_frozen_lock=True, mutable_ref_policy="error", require_integrity=False, network_mode="online"),
)
