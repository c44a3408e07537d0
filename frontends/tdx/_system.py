"""Declarations about the system as a whole: storage, network, access, what to leave out, and what to make."""

from __future__ import annotations

from typing import Literal

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import (
    Blob,
    Debloat,
    EfiStub,
    Encryption,
    FirewallRuleText,
    Network,
    NetworkBackend,
    OutputTarget,
    Repository,
    Ssh,
    Suite,
)
from tdxc.ir import Partition as PartitionNode

from tdx import _values as v
from tdx._declarations import Declarations
from tdx._declare import declares, describes, here
from tdx._source import read_file
from tdx.policy import Policy

_UNIT_SUFFIXES = (".service", ".socket", ".target", ".timer", ".mount", ".path", ".slice", ".scope")


@records.frozen
class Partition:
    """A partition as a recipe describes it; made by ``Image.partition``, used by ``image.partitions``."""

    node: PartitionNode


class SystemDeclarations(Declarations):
    """``image.network``, ``image.debloat`` and their like."""

    @staticmethod
    @describes
    def partition(
        mount_point: v.GuestPath,
        *,
        fs: Literal["ext4", "xfs", "btrfs", "vfat", "squashfs", "erofs"],
        size: v.Size,
        label: v.PartitionLabel = "",
        verity: bool = False,
    ) -> Partition:
        """Describe a partition of the image's disk; ``size`` is in bytes or with K, M, G or T."""
        node = PartitionNode(
            mount_point=mount_point, fs=fs, size_bytes=v.size_bytes(size), label=label, verity=verity, span=here()
        )
        return Partition(node)

    @declares
    def partitions(self, *partitions: Partition) -> None:
        """Declare the partitions of the image's own disk."""
        self._add("partitions", (partition.node for partition in partitions))

    @declares
    def encryption(self, *, type: Literal["luks2"], key_source: Literal["tpm", "random"]) -> None:  # noqa: A002 - the name that recipes use
        """Encrypt the data partitions."""
        self._put("encryption", Encryption(type=type, key_source=key_source, span=self._span))

    @declares
    def network(
        self,
        *,
        vsock: bool | None = None,
        firewall_rules: v.Strings = (),
        backend: Literal["networkd", "udhcpc", "none"] | None = None,
        resolver: bool | None = None,
    ) -> None:
        """Declare how the guest gets its address and what may reach it, such as ``ACCEPT tcp 8545``."""
        node = Network(
            vsock=vsock,
            firewall_rules=tuple(
                FirewallRuleText(text=text, span=self._place("firewall_rules", index))
                for index, text in enumerate(firewall_rules)
            ),
            backend=None if backend is None else NetworkBackend(backend),
            resolver=resolver,
            span=self._span,
        )
        self._merge("network", node)

    @declares
    def ssh(
        self,
        *,
        enabled: bool = True,
        key_delivery: Literal["file", "http"] = "file",
        authorized_keys: v.Strings = (),
        port: v.Port = 22,
    ) -> None:
        """Run an SSH server. For development: whoever has the key can read the trust domain's memory."""
        node = Ssh(
            enabled=enabled,
            key_delivery=key_delivery,
            authorized_keys=tuple(authorized_keys),
            port=port,
            span=self._span,
        )
        self._put("ssh", node)

    @declares
    def debloat(
        self,
        *,
        enabled: bool = True,
        keep: v.Strings = (),
        keep_binaries: v.Strings = (),
        keep_units: v.UnitReferences = (),
        keep_paths: list[v.GuestPath] | tuple[v.GuestPath, ...] = (),
        keep_modules: v.Strings = (),
    ) -> None:
        """Remove what the image does not use; ``keep`` takes paths, units and names of binaries alike."""
        paths = tuple(item for item in keep if item.startswith("/"))
        units = tuple(item for item in keep if item.endswith(_UNIT_SUFFIXES) and item not in paths)
        binaries = tuple(item for item in keep if item not in paths and item not in units)
        node = Debloat(
            enabled=enabled,
            keep_binaries=(*binaries, *keep_binaries),
            keep_units=(*units, *keep_units),
            keep_paths=(*paths, *keep_paths),
            keep_modules=tuple(keep_modules),
            span=self._span,
        )
        self._merge("debloat", node)

    @declares
    def efi_stub(
        self, version: v.Version, *, sha256: v.Sha256 = "", src: v.HostPath | None = None, outside: bool = False
    ) -> None:
        """Pin the systemd-boot-efi package that the UKI's stub comes from; ``sha256`` is of the .deb file.

        The package is ``src``, a .deb file, or that version of it in the package sources (a mirror or snapshot).
        """
        if src is None:
            self._put("efi_stub", EfiStub(version=version, sha256=sha256, span=self._span))
            return
        package = Blob.of(read_file(self._root, src, outside=outside, span=self._place("src")).data)
        if sha256 and sha256 != package.sha256:
            message = f"'{src}' has SHA-256 {package.sha256}, and the recipe pins {sha256}"
            raise DiagnosticError.of(
                Code.E_VALUE, message, self._place("sha256"), fix="pin the file that is meant, or use another file"
            )
        self._put("efi_stub", EfiStub(version=version, sha256=package.sha256, package=package, span=self._span))

    @declares
    def output_targets(self, *targets: Literal["qemu", "azure", "gcp"]) -> None:
        """Name the platforms to make an artifact for."""
        self._add("output_targets", (OutputTarget(name=name, span=self._span) for name in targets))

    @declares
    def suite(self, name: v.SuiteName, *, priority: v.PinPriority = 100) -> None:
        """Add a further suite of the same mirror; at priority 100 only ``package/suite`` installs from it."""
        self._add("suites", [Suite(name=name, priority=priority, span=self._span)])

    @declares
    def repository(
        self,
        name: v.StepName,
        *,
        uri: v.Uri,
        suites: v.SuiteNames,
        key: v.HostPath | None = None,
        components: v.SuiteNames = (),
        outside: bool = False,
    ) -> None:
        """Add an APT source; ``key`` is the file with the public key that signs it."""
        if not suites:
            raise self._fault(Code.E_VALUE, f"repository '{name}' has no suite", "name at least one")
        blob = None
        if key is not None:
            blob = Blob.of(read_file(self._root, key, outside=outside, span=self._place("key")).data)
        node = Repository(
            name=name, uri=uri, suites=tuple(suites), components=tuple(components), key=blob, span=self._span
        )
        self._add("repositories", [node])

    @declares
    def set_policy(self, policy: Policy) -> None:
        """Set the rules for bakes of this image."""
        self._put("policy", policy.node)
