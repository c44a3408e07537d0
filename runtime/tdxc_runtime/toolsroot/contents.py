"""What the tools root holds: pure data, whose digest names the folder, so that a changed list makes a new root."""

from __future__ import annotations

import hashlib
import json

_FORMAT = 1
"""Raised when the way a root is made changes in a manner that an existing one must not be reused for."""

DEFAULT_SUITE = "trixie"
"""The Debian suite of the tools root: systemd 257, the last whose stub lets the inner kernel be measured."""

EXPECTED_VERSIONS = {"mkosi": "25.3", "systemd": "257"}
"""Versions in the default suite that no update of a stable suite changes (of systemd, the major one)."""

PACKAGES: tuple[str, ...] = (
    # the image builder and what it calls
    "mkosi", "systemd", "systemd-ukify", "systemd-repart", "systemd-boot-efi", "udev",
    "apt", "debian-archive-keyring", "ubuntu-archive-keyring", "ca-certificates", "gpgv", "openssl",
    "kmod", "cpio", "zstd", "xz-utils", "tar", "acl", "attr", "procps",
    "dosfstools", "mtools", "e2fsprogs", "btrfs-progs", "xfsprogs", "erofs-utils", "squashfs-tools", "fdisk",
    "cryptsetup-bin", "python3-cryptography", "mount", "uidmap",
    # checkers of what the compiler emits
    "nftables", "shellcheck",
    # the virtual machine that boots it
    "qemu-system-x86", "qemu-utils", "ovmf", "swtpm", "swtpm-tools",
)  # fmt: skip
"""Debian packages by name; the suite decides their versions (trixie: mkosi 25.3, systemd 257, QEMU 10)."""

LEFT_OUT: tuple[str, ...] = (
    "/usr/share/man/*", "/usr/share/doc/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/lintian/*",
    "/usr/share/bash-completion/*", "/usr/share/zsh/*",
)  # fmt: skip
"""Path patterns that dpkg does not unpack: nobody reads manuals in there."""

SENTINELS: tuple[str, ...] = (
    "usr/bin/mkosi", "usr/bin/ukify", "usr/bin/systemd-analyze", "usr/bin/systemd-repart", "usr/bin/apt-get",
    "usr/bin/dpkg", "usr/sbin/nft", "usr/bin/shellcheck", "usr/bin/zstd", "usr/bin/mcopy", "usr/sbin/mkfs.vfat",
    "usr/bin/kmod", "usr/bin/cpio", "usr/bin/qemu-system-x86_64", "usr/bin/swtpm",
    "usr/share/OVMF/OVMF_CODE_4M.fd", "usr/share/OVMF/OVMF_VARS_4M.fd", "usr/lib/systemd/boot/efi/linuxx64.efi.stub",
    "usr/lib/x86_64-linux-gnu/libc.so.6", "usr/bin/python3", "usr/bin/bash", "var/lib/dpkg/status",
)  # fmt: skip
"""Files whose presence and size are checked each time a root is used."""


def contents_digest(suite: str, architecture: str) -> str:
    """Twelve hexadecimal digits that change with anything that decides what a root holds, its mirror aside."""
    words = json.dumps([_FORMAT, suite, architecture, PACKAGES, LEFT_OUT])
    return hashlib.sha256(words.encode()).hexdigest()[:12]
