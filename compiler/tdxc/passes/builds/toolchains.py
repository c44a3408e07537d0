"""Which toolchains the distributions have, and what the environment of a build consists of.

Sources: the package lists of Debian 12 and 13 and of Ubuntu 24.04 (golang-defaults, rustc, gcc-defaults, dotnet);
go.dev/doc/toolchain, dotnet/core "Linux package dependencies".
"""

from __future__ import annotations

from collections.abc import Mapping

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import Base, Build, BuildLanguage


@records.frozen
class Offer:
    """A toolchain of a distribution: the beginning of its version, its packages, and the folder of its programs.

    ``environment`` is what it has to be told of the distribution.
    """

    version: str
    packages: tuple[str, ...]
    folder: str = ""
    environment: tuple[tuple[str, str], ...] = ()


TITLES = {
    BuildLanguage.GO: "Go",
    BuildLanguage.RUST: "Rust",
    BuildLanguage.DOTNET: ".NET SDK",
    BuildLanguage.C: "GCC",
    BuildLanguage.SCRIPT: "the toolchain",
    BuildLanguage.KERNEL: "GCC",
}
"""What a toolchain is called in messages."""

ARGUMENTS = {
    BuildLanguage.GO: "go_version",
    BuildLanguage.RUST: "toolchain",
    BuildLanguage.DOTNET: "sdk_version",
    BuildLanguage.C: "version",
}
"""The argument of the DSL that asks for a version."""


def _go(*versions: str) -> tuple[Offer, ...]:
    return tuple(Offer(version, (f"golang-{version}-go",), f"/usr/lib/go-{version}/bin") for version in versions)


def _gcc(*versions: str) -> tuple[Offer, ...]:
    return tuple(Offer(version, (f"gcc-{version}", f"g++-{version}")) for version in versions)


OFFERS: Mapping[str, Mapping[BuildLanguage, tuple[Offer, ...]]] = {
    "debian/bookworm": {
        BuildLanguage.GO: _go("1.19"),
        BuildLanguage.RUST: (Offer("1.63", ("cargo", "rustc")),),
        BuildLanguage.C: _gcc("12", "11"),
    },
    "debian/trixie": {
        BuildLanguage.GO: _go("1.24"),
        BuildLanguage.RUST: (Offer("1.85", ("cargo", "rustc")),),
        BuildLanguage.C: _gcc("14", "13", "12"),
    },
    "ubuntu/noble": {
        BuildLanguage.GO: _go("1.22", "1.21"),
        BuildLanguage.RUST: (Offer("1.75", ("cargo", "rustc")),),
        BuildLanguage.DOTNET: (Offer("8.0", ("dotnet-sdk-8.0",)),),
        BuildLanguage.C: _gcc("13", "14", "12"),
    },
}
"""By base and language, the distribution's default first."""

_DOTNET_LIBRARIES = ("libssl3", "libstdc++6", "zlib1g")
_DOTNET_LIBRARIES_T64 = ("libssl3t64", "libstdc++6", "zlib1g")
_DOTNET_BASES = {
    "debian/bookworm": ("72", _DOTNET_LIBRARIES),
    "debian/trixie": ("76", _DOTNET_LIBRARIES_T64),
    "ubuntu/noble": ("74", _DOTNET_LIBRARIES_T64),
}
"""What Microsoft's own archives of the SDK need of the distribution: the version of ICU, and further libraries."""

_UNPACKERS = {".xz": "xz-utils", ".txz": "xz-utils", ".zst": "zstd", ".bz2": "bzip2", ".tbz2": "bzip2"}


def choose_toolchain(base: Base, build: Build, *, has_repositories: bool) -> Offer:
    """The packages of the toolchain that a build asks for, and where its programs are; none of a tarball's own.

    Raises DiagnosticError (E_VALUE) when the distribution has no such version and the build brings no tarball.
    """
    if build.language is BuildLanguage.SCRIPT:
        return Offer("", ())
    if build.toolchain.url:
        return _around_tarball(base, build)
    asked = build.toolchain.version
    offers = OFFERS.get(base.reference, {}).get(build.language, ())
    for offer in offers:
        if not asked or is_version(asked, offer.version) or is_version(offer.version, asked):
            return offer
    if has_repositories and build.language is BuildLanguage.DOTNET and asked:
        return Offer(asked, (f"dotnet-sdk-{'.'.join(asked.split('.')[:2])}",))
    raise _not_offered(base, build, offers)


def _around_tarball(base: Base, build: Build) -> Offer:
    """What the distribution has to give to a toolchain that comes as an archive."""
    version = build.toolchain.version
    if build.language is BuildLanguage.RUST:
        return Offer(version, ("gcc", "libc6-dev"))
    if build.language is BuildLanguage.DOTNET and base.reference in _DOTNET_BASES:
        icu, libraries = _DOTNET_BASES[base.reference]
        # an older runtime looks only for the versions of ICU that it knows (dotnet/runtime, pal_icushim.c)
        return Offer(version, (f"libicu{icu}", *libraries), environment=(("CLR_ICU_VERSION_OVERRIDE", icu),))
    return Offer(version, ())


def is_version(found: str, asked: str) -> bool:
    """Whether ``found`` is ``asked`` or a refinement of it: 1.24.4 is 1.24, and 1.240 is not."""
    return found == asked or found.startswith((f"{asked}.", f"{asked}-"))


def fetch_packages(build: Build) -> tuple[str, ...]:
    """What getting hold of sources, toolchain and dependencies needs, beside what every root has."""
    found = {"patch"} if build.patches else set()
    for url in (build.source.tarball, build.toolchain.url):
        if url:
            found |= {"ca-certificates", "curl", *_unpackers(url)}
    if build.source.git:
        found |= {"ca-certificates", "git"}
    if build.network or build.language in {BuildLanguage.GO, BuildLanguage.RUST, BuildLanguage.DOTNET}:
        found.add("ca-certificates")
    return tuple(sorted(found))


def _unpackers(url: str) -> set[str]:
    """The packages that tar needs for an archive; all of them where its address does not end in what it is."""
    name = url.partition("#")[0].partition("?")[0]
    if name.endswith((".tar", ".tgz", ".gz")):
        return set()
    return {package for suffix, package in _UNPACKERS.items() if name.endswith(suffix)} or {*_UNPACKERS.values()}


def _not_offered(base: Base, build: Build, offers: tuple[Offer, ...]) -> DiagnosticError:
    title, asked = TITLES[build.language], build.toolchain.version
    versions = ", ".join(offer.version for offer in offers)
    has = f"has {title} {versions}" if versions else f"has no {title}"
    wanted = f"{title} {asked}" if asked else f"a {title}"
    tarball = "toolchain=tarball(URL, sha256=…) with an archive of it"
    fix = f"give {tarball}"
    if build.language is BuildLanguage.DOTNET and not offers:
        fix += ", or declare a repository that has dotnet-sdk packages: image.repository(…)"
    if versions:
        fix = f"ask for {ARGUMENTS[build.language]}='{offers[0].version}', or {fix}"
    return DiagnosticError.of(
        Code.E_VALUE,
        f"build '{build.name}' wants {wanted}, and {base.reference} {has}",
        build.toolchain.span,
        fix=fix,
    )
