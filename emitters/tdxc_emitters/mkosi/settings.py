"""The settings of mkosi.conf for one variant of an image.

What is left out matters as much: no ``Mirror=`` (25.3 takes the archive's address, 27.1 the host's), no ``Bootable=``
for a UKI (``no`` lets Debian's kernel package build an initrd that nobody wants), no ``MakeInitrd=`` (it would write
``/etc/initrd-release``, and systemd would take the image for an initrd), no ``SandboxTrees=`` or ``ExtraTrees=`` (mkosi
finds the folders by name, and would list them twice).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tdxc import quoting
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import Distribution, Node, Package, ResolvedImage
from tdxc.tree import Origin

from tdxc_emitters.mkosi.partitions import command_line, mkfs_options
from tdxc_emitters.mkosi.project import MkosiSetting, origin_of

MINIMUM_VERSION = "25.3"
OUTPUT_FOLDER = "mkosi.output"

STUB_PACKAGE = "systemd-boot-efi"
"""Debian's and Ubuntu's package with systemd-stub, which mkosi takes from the image for the UKI."""

_UBUNTU_COMPONENTS = ("universe",)
"""Where Ubuntu has systemd-boot-efi; ``main`` is always there."""

_COMPRESSION = ("zstd", "19")
"""zstd's output does not depend on the number of threads, xz's does; 19 is the highest level without ``--ultra``."""


def image_settings(image: ResolvedImage) -> tuple[MkosiSetting, ...]:
    """All settings but those that name scripts, in the order of the file."""
    return (
        _scalar("Config", "MinimumVersion", MINIMUM_VERSION, Origin(span=image.span, cause="oldest mkosi tried")),
        *_distribution(image),
        *_output(image),
        *_content(image),
        _scalar("Build", "WithNetwork", "no", Origin(span=image.span, cause="scripts of a build have no network")),
        *_environment(image),
    )


def wanted_packages(image: ResolvedImage) -> tuple[Package, ...]:
    """The image's packages and what mkosi itself needs in it, sorted; none for Alpine, which mkosi cannot install."""
    if image.base.distribution is Distribution.ALPINE:
        return ()
    packages = {package.name: package for package in image.packages}
    if image.efi_stub is None and not any(_bare_name(name) == STUB_PACKAGE for name in packages):
        cause = "mkosi takes the EFI stub of the UKI from the image"
        packages[STUB_PACKAGE] = Package(name=STUB_PACKAGE, span=image.span, cause=cause)
    return tuple(packages[name] for name in sorted(packages))


def _bare_name(package: str) -> str:
    return package.partition("=")[0].partition("/")[0]


def _distribution(image: ResolvedImage) -> Iterator[MkosiSetting]:
    base, origin = image.base, origin_of(image.base, "the base of the image")
    if base.distribution is Distribution.ALPINE:
        yield _scalar("Distribution", "Distribution", "custom", origin)
    else:
        yield _scalar("Distribution", "Distribution", base.distribution.value, origin)
        yield _scalar("Distribution", "Release", quoting.mkosi_value(base.release, span=base.span), origin)
    yield _scalar("Distribution", "Architecture", base.architecture.value, origin)
    if base.distribution is Distribution.UBUNTU:
        cause = Origin(span=base.span, cause=f"{STUB_PACKAGE} is in universe")
        yield MkosiSetting(
            section="Distribution", key="Repositories", values=_UBUNTU_COMPONENTS, is_list=True, origin=cause
        )


def _output(image: ResolvedImage) -> Iterator[MkosiSetting]:
    origin = Origin(span=image.span, cause="the image's name")
    name = quoting.mkosi_value(image.name, span=image.span, what="image name")
    if "/" in name or name in {".", ".."}:
        raise DiagnosticError.of(
            Code.E_VALUE,
            f"image name {image.name!r} cannot be the name of a file",
            image.span,
            fix="leave out the slash",
        )
    disk = bool(image.partitions)
    first = origin_of(image.partitions[0], "the image declares partitions") if disk else None
    cause = first or Origin(span=image.span, cause="without partitions the whole image is one UKI")
    yield _scalar("Output", "Format", "disk" if disk else "uki", cause)
    yield _scalar("Output", "ImageId", name, origin)
    if image.version:
        version = quoting.mkosi_value(image.version, span=image.span, what="image version")
        yield _scalar("Output", "ImageVersion", version, Origin(span=image.span, cause="the image's version"))
    yield _scalar("Output", "Output", name, origin)
    yield _scalar("Output", "OutputDirectory", OUTPUT_FOLDER, origin)
    yield _scalar("Output", "ManifestFormat", "json", Origin(span=image.span, cause="the list of installed packages"))
    if not disk:
        algorithm, level = _COMPRESSION
        reason = Origin(span=image.span, cause="zstd compresses alike on every machine")
        yield _scalar("Output", "CompressOutput", algorithm, reason)
        yield _scalar("Output", "CompressLevel", level, reason)
    if image.reproducibility.seed:
        yield _scalar(
            "Output", "Seed", image.reproducibility.seed, origin_of(image.reproducibility, "identifiers of the image")
        )


def _content(image: ResolvedImage) -> Iterator[MkosiSetting]:
    origin = Origin(span=image.span, cause="the image's settings")
    if image.partitions:
        yield _scalar("Content", "Bootable", "yes", origin)
        yield _scalar("Content", "Bootloader", "uki", origin)
    yield from _list("Packages", wanted_packages(image))
    if image.base.distribution is not Distribution.ALPINE:
        yield from _list("BuildPackages", image.build_packages)
    yield _scalar("Content", "WithDocs", "yes" if image.docs else "no", origin)
    yield _scalar("Content", "WithRecommends", "no", origin)
    cause = Origin(span=image.span, cause="debloat reads dpkg's database, and removes it last")
    yield _scalar("Content", "CleanPackageMetadata", "no", cause)
    if image.locale:
        yield _scalar("Content", "Locale", quoting.mkosi_value(image.locale, span=image.span, what="locale"), origin)
    words = tuple(
        quoting.mkosi_value(word.text, span=word.span, what="kernel argument") for word in command_line(image)
    )
    if words:
        yield MkosiSetting(
            section="Content",
            key="KernelCommandLine",
            values=words,
            is_list=True,
            keeps_order=True,
            origin=origin_of(image.kernel, "the kernel's command line"),
        )
    reproducibility = image.reproducibility
    if reproducibility.enabled:
        epoch = str(reproducibility.source_date_epoch)
        yield _scalar("Content", "SourceDateEpoch", epoch, origin_of(reproducibility, "no time enters the image"))


def _environment(image: ResolvedImage) -> Iterator[MkosiSetting]:
    for name, value in mkfs_options(image):
        word = quoting.mkosi_environment(name, value)
        origin = origin_of(image.partitions[0], "mke2fs would choose a hash seed of its own in each build")
        yield MkosiSetting(section="Build", key="Environment", values=(word,), is_list=True, origin=origin)


def _list(key: str, packages: Iterable[Package]) -> Iterator[MkosiSetting]:
    found = tuple(packages)
    if found:
        values = tuple(quoting.mkosi_item(package.name, ",", span=package.span, what="package") for package in found)
        yield MkosiSetting(section="Content", key=key, values=values, is_list=True, origin=_origin(found[0]))


def _origin(node: Node) -> Origin:
    return origin_of(node)


def _scalar(section: str, key: str, value: str, origin: Origin) -> MkosiSetting:
    return MkosiSetting(section=section, key=key, values=(value,), origin=origin)
