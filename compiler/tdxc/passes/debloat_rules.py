"""Data of debloat: what goes from every image, and what each feature of an image keeps of it.

Names are read by the script that removes. Programs: ``programs-of:PACKAGE`` (a pattern) are the programs that a package
brings, ``package:NAME`` is all that it brings, ``unused-package:NAME`` the same unless a package that the recipe names
needs it; absolute paths and patterns go but for what such packages bring. Units: names and patterns. Paths: absolute
paths and patterns, protected by paths alone. Modules: names and patterns.

The list of what goes is the same for every image and profile, and only the list of what stays grows; so a profile can
be laid over a compiled image by adding to the one and never has to take anything from the other.
"""

from __future__ import annotations

from collections.abc import Callable

from tdxc import records
from tdxc.ir import DebloatKind, NetworkBackend, Node, ResolvedImage

Cause = Callable[[ResolvedImage], Node | None]


@records.frozen
class Removal:
    """Things of one kind that go, for one reason."""

    kind: DebloatKind
    names: tuple[str, ...]
    reason: str


_PACKAGE_TOOLS = (
    "adduser", "apt", "apt-utils", "debconf", "debian-archive-keyring", "dpkg", "init-system-helpers", "sensible-utils",
    "sqv", "ubuntu-keyring", "ucf",
)  # fmt: skip
_INITRD_TOOLS = (
    "busybox-initramfs", "dracut-install", "initramfs-tools", "initramfs-tools-bin", "initramfs-tools-core",
    "klibc-utils", "libklibc", "linux-base", "logsave",
)  # fmt: skip

SYSTEMD_REMOVALS: tuple[Removal, ...] = (
    Removal(
        kind=DebloatKind.BINARY,
        names=("programs-of:systemd", "programs-of:systemd-*", "programs-of:udev"),
        reason="programs of systemd that the image does not use",
    ),
    Removal(
        kind=DebloatKind.BINARY,
        names=("/etc/init.d", "/etc/rc?.d"),
        reason="start scripts that systemd does not read",
    ),
    Removal(kind=DebloatKind.UNIT, names=("*",), reason="units that nothing in the image uses"),
    Removal(
        kind=DebloatKind.PATH,
        names=(
            "/etc/systemd/user", "/usr/lib/environment.d", "/usr/lib/systemd/profile.d", "/usr/lib/systemd/user",
            "/usr/lib/systemd/user-*", "/usr/lib/systemd/user.conf.d",
        ),
        reason="systemd's user instances are not used",
    ),
    Removal(
        kind=DebloatKind.PATH,
        names=("/usr/lib/systemd/catalog", "/var/lib/systemd/catalog"),
        reason="explanations of log messages, which nobody reads in the image",
    ),
    Removal(
        kind=DebloatKind.PATH,
        names=("/usr/lib/udev/hwdb*", "/etc/udev/hwdb*"),
        reason="a database of hardware that no virtual machine has",
    ),
    Removal(
        kind=DebloatKind.PATH,
        names=(
            "/etc/credstore*", "/usr/lib/credstore", "/usr/lib/kernel", "/usr/lib/pcrlock.d", "/usr/lib/systemd/boot",
            "/usr/lib/systemd/network/*-container-*", "/usr/lib/systemd/network/*-vm-*",
            "/usr/lib/systemd/ssh_config.d",
        ),
        reason="parts of systemd for hosts and installers",
    ),
)  # fmt: skip
"""Removals where systemd is the init system."""

COMMON_REMOVALS: tuple[Removal, ...] = (
    Removal(
        kind=DebloatKind.BINARY,
        names=tuple(f"package:{name}" for name in _PACKAGE_TOOLS),
        reason="nothing is installed into a measured image",
    ),
    Removal(
        kind=DebloatKind.BINARY,
        names=tuple(f"package:{name}" for name in _INITRD_TOOLS),
        reason="tools that make an initrd; the whole image is one",
    ),
    Removal(
        kind=DebloatKind.BINARY,
        names=("/etc/apt", "/etc/dpkg", "/etc/cron.*", "/etc/update-motd.d"),
        reason="settings of the package manager and of tools for hosts",
    ),
    Removal(
        kind=DebloatKind.BINARY,
        names=("unused-package:perl-base",),
        reason="an interpreter that only tools of the package manager need",
    ),
    Removal(
        kind=DebloatKind.PATH,
        names=("/boot/*", "/efi", "/initrd.img*", "/vmlinuz*", "/usr/lib/modules/*/vmlinuz"),
        reason="the kernel is part of the UKI already",
    ),
    Removal(
        kind=DebloatKind.PATH,
        names=(
            "/usr/share/doc", "/usr/share/doc-base", "/usr/share/info", "/usr/share/man", "/usr/share/gtk-doc",
            "/usr/share/common-licenses",
        ),
        reason="documentation",
    ),
    Removal(
        kind=DebloatKind.PATH,
        names=("/usr/lib/locale", "/usr/share/i18n", "/usr/share/locale", "/usr/lib/*/gconv"),
        reason="languages and character sets other than C and UTF-8",
    ),
    Removal(
        kind=DebloatKind.PATH,
        names=("/usr/share/bash-completion", "/usr/share/fish", "/usr/share/zsh", "/etc/bash_completion.d"),
        reason="completion for interactive shells",
    ),
    Removal(
        kind=DebloatKind.BINARY,
        names=(
            "/etc/initramfs-tools", "/etc/kernel", "/usr/games", "/usr/include", "/usr/lib/mime", "/usr/share/bug",
            "/usr/share/debconf", "/usr/share/dict", "/usr/share/gcc", "/usr/share/gdb", "/usr/share/initramfs-tools",
            "/usr/share/keyrings", "/usr/share/lintian", "/usr/share/menu", "/usr/share/mime", "/usr/share/perl5",
            "/usr/share/pixmaps", "/usr/share/polkit-1", "/usr/src",
        ),
        reason="data for desktops, installers and developers that no package of the recipe brings",
    ),
    Removal(
        kind=DebloatKind.PATH,
        names=("/var/backups/*", "/var/cache/*", "/var/lib/apt", "/var/lib/dpkg", "/var/lib/pam", "/var/log/*"),
        reason="state of the package manager, caches and logs",
    ),
    Removal(kind=DebloatKind.MODULE, names=("*",), reason="kernel modules that nothing in the image uses"),
)  # fmt: skip
"""Removals for every image."""


@records.frozen
class Keeper:
    """A feature and what it keeps. ``cause`` gives the node that asks for it, None where the image lacks it."""

    reason: str
    cause: Cause
    units: tuple[str, ...] = ()
    binaries: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()


def _always(image: ResolvedImage) -> Node | None:
    return image


def _networkd(image: ResolvedImage) -> Node | None:
    return image.network if image.network.backend is NetworkBackend.NETWORKD else None


def _resolver(image: ResolvedImage) -> Node | None:
    return image.network if image.network.resolver else None


def _udev(image: ResolvedImage) -> Node | None:
    """Modules are loaded by hardware, interfaces and disks get their names, rules set owners."""
    rules = next((file for file in image.files if "/udev/rules.d/" in file.path), None)
    storage = image.encryption or next(iter((*image.partitions, *image.encrypted_disks)), None)
    return rules or storage or _networkd(image) or (None if image.kernel.monolithic else image.kernel)


def _modules(image: ResolvedImage) -> Node | None:
    return None if image.kernel.monolithic else image.kernel


def _packaged(*names: str) -> Cause:
    return lambda image: next((p for p in image.packages if package_name(p.name) in names), None)


def _encryption(image: ResolvedImage) -> Node | None:
    return image.encryption or _packaged("cryptsetup", "cryptsetup-bin", "systemd-cryptsetup")(image)


def _disk(image: ResolvedImage) -> Node | None:
    return next(iter(image.partitions), None)


def _verity(image: ResolvedImage) -> Node | None:
    return next((partition for partition in image.partitions if partition.verity), None)


def _mounts(image: ResolvedImage) -> Node | None:
    fstab = next((file for file in image.files if file.path == "/etc/fstab"), None)
    return fstab or _disk(image)


def _steps(image: ResolvedImage) -> Node | None:
    return next(iter(image.ordered_steps), None)


def _setting(name: str) -> Cause:
    return lambda image: image if getattr(image, name) else None


def package_name(text: str) -> str:
    """The bare name in ``name=version`` or ``name/suite``."""
    return text.partition("=")[0].partition("/")[0]


SYSTEMD_KEEPERS: tuple[Keeper, ...] = (
    Keeper(
        reason="boot-up goes through it (bootup(7))",
        cause=_always,
        units=(
            "-.slice", "basic.target", "emergency.target", "local-fs-pre.target", "local-fs.target",
            "network-online.target", "network-pre.target", "network.target", "nss-lookup.target",
            "nss-user-lookup.target", "paths.target", "slices.target", "sockets.target", "swap.target",
            "sysinit.target", "system.slice", "time-set.target", "time-sync.target", "timers.target", "tmp.mount",
        ),
        binaries=("init", "systemd", "systemd-executor", "systemctl", "systemd-cgroups-agent"),
    ),
    Keeper(
        reason="shutting down goes through it",
        cause=_always,
        units=(
            "exit.target", "final.target", "halt.target", "poweroff.target", "reboot.target", "shutdown.target",
            "systemd-halt.service", "systemd-poweroff.service", "systemd-reboot.service", "umount.target",
        ),
        binaries=("systemd-shutdown",),
    ),
    Keeper(
        reason="services log through it",
        cause=_always,
        units=("systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket"),
        binaries=("systemd-journald", "journalctl"),
    ),
    Keeper(
        reason="tmpfiles.d makes directories and sets the mode of /",
        cause=_always,
        units=(
            "systemd-tmpfiles-setup-dev-early.service", "systemd-tmpfiles-setup-dev.service",
            "systemd-tmpfiles-setup.service",
        ),
        binaries=("systemd-tmpfiles",),
    ),
    Keeper(
        reason="sysctl.d sets kernel parameters",
        cause=_always,
        units=("systemd-sysctl.service",),
        binaries=("systemd-sysctl",),
    ),
    Keeper(
        reason="systemd asks for passwords by it on the console",
        cause=_always,
        binaries=("systemd-tty-ask-password-agent",),
    ),
    Keeper(
        reason="kernel modules are loaded by it",
        cause=_modules,
        units=("kmod-static-nodes.service", "modprobe@.service", "systemd-modules-load.service"),
        binaries=("systemd-modules-load",),
    ),
    Keeper(reason="TSM reports are read there", cause=_always, units=("sys-kernel-config.mount",)),
    Keeper(
        reason="udev names devices and loads their modules",
        cause=_udev,
        units=(
            "systemd-udev-settle.service", "systemd-udev-trigger.service", "systemd-udevd-control.socket",
            "systemd-udevd-kernel.socket", "systemd-udevd.service",
        ),
        binaries=("systemd-udevd", "udevadm"),
    ),
    Keeper(
        reason="networkd configures the network",
        cause=_networkd,
        units=(
            "systemd-networkd-wait-online.service", "systemd-networkd-wait-online@.service",
            "systemd-networkd.service", "systemd-networkd.socket",
        ),
        binaries=("systemd-networkd", "systemd-networkd-wait-online"),
    ),
    Keeper(
        reason="the recipe asks for a resolver",
        cause=_resolver,
        units=("systemd-resolved-monitor.socket", "systemd-resolved-varlink.socket", "systemd-resolved.service"),
        binaries=("systemd-resolved", "resolvectl"),
    ),
    Keeper(
        reason="encrypted volumes are opened by it",
        cause=_encryption,
        units=("cryptsetup-pre.target", "cryptsetup.target"),
        binaries=("systemd-cryptenroll", "systemd-cryptsetup", "systemd-cryptsetup-generator"),
    ),
    Keeper(
        reason="the image has partitions of its own",
        cause=_disk,
        units=(
            "initrd-root-fs.target", "remote-fs-pre.target", "remote-fs.target", "systemd-fsck-root.service",
            "systemd-fsck@.service", "systemd-growfs-root.service", "systemd-growfs@.service",
            "systemd-remount-fs.service",
        ),
        binaries=(
            "systemd-fsck", "systemd-gpt-auto-generator", "systemd-growfs", "systemd-makefs", "systemd-remount-fs",
        ),
    ),
    Keeper(reason="/etc/fstab is turned into mounts by it", cause=_mounts, binaries=("systemd-fstab-generator",)),
    Keeper(
        reason="a partition is checked by it",
        cause=_verity,
        units=("veritysetup-pre.target", "veritysetup.target"),
        binaries=("systemd-veritysetup", "systemd-veritysetup-generator"),
    ),
    Keeper(reason="boot steps report their state by it", cause=_steps, binaries=("systemd-notify",)),
)  # fmt: skip
"""What of systemd an image keeps."""

COMMON_KEEPERS: tuple[Keeper, ...] = (
    Keeper(
        reason="the recipe installs a package manager, which needs its tools and its state",
        cause=_packaged("apt", "aptitude", "dpkg"),
        binaries=(*(f"package:{name}" for name in _PACKAGE_TOOLS), "package:perl-base"),
        paths=("/etc/apt", "/etc/dpkg", "/usr/share/keyrings", "/var/lib/apt", "/var/lib/dpkg"),
    ),
    Keeper(
        reason="the recipe asks for documentation",
        cause=_setting("docs"),
        paths=("/usr/share/doc", "/usr/share/doc-base", "/usr/share/info", "/usr/share/man"),
    ),
    Keeper(
        reason="the recipe asks for a locale",
        cause=_setting("locale"),
        paths=("/usr/lib/locale", "/usr/share/i18n", "/usr/share/locale", "/usr/lib/*/gconv"),
    ),
)
"""What settings and packages of the recipe keep under any init system."""

INFRASTRUCTURE = frozenset({"kmod", "libpam-systemd", "systemd", "systemd-boot-efi", "systemd-sysv", "udev"})
"""Packages that are in an image for its boot alone: naming one of them keeps none of its programs and units."""
