"""Alpine, which mkosi cannot install: ``Distribution=custom`` and a script that does.

The base is Alpine's own minirootfs, pinned by SHA-256; apk inside it installs the rest from the recipe's mirror. What
mkosi looks for is put where it looks: modules and kernel in ``/usr/lib/modules`` and the stub of systemd-efistub.

Sources: mkosi(1), ``Distribution=`` ("custom") and "Scripts"; apk(8); Alpine's releases for the digest.
"""

from __future__ import annotations

import re

from tdxc import quoting, records
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import Distribution, Package, ResolvedImage

from tdxc_emitters.mkosi.project import Phase, PhaseScript, origin_of
from tdxc_emitters.mkosi.sources import check_uri
from tdxc_emitters.mkosi.templates import read_template

STUB_PACKAGE = "systemd-efistub"
_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+@=<>~-]*")


@records.frozen
class Minirootfs:
    """A release's root file system archive, by version and SHA-256 (hexadecimal)."""

    version: str
    sha256: str


MINIROOTFS = {
    "3.20": Minirootfs(version="3.20.3", sha256="d4e6fd67dcf75e40c451560ac7265166c2b72a0f38ddc9aae756a7de3d1efa0c")
}


def alpine_scripts(image: ResolvedImage) -> tuple[PhaseScript, ...]:
    """The prepare script of an Alpine image; none for other distributions.

    Raises E_VALUE when the recipe names no mirror, since mkosi has no default one for Alpine.
    """
    base = image.base
    if base.distribution is not Distribution.ALPINE:
        return ()
    if not image.mirror:
        raise DiagnosticError.of(
            Code.E_VALUE,
            f"{base.reference} needs a mirror: mkosi has none of its own for Alpine",
            base.span,
            fix="give mirror= the address of an Alpine mirror, the folder that holds v3.20/",
        )
    archive = MINIROOTFS[base.release]
    values = {
        "mirror": quoting.shell_word(check_uri("mirror", image.mirror, image.span).rstrip("/")),
        "release": f"v{base.release}",
        "archive": f"alpine-minirootfs-{archive.version}-x86_64.tar.gz",
        "sha256": archive.sha256,
        "packages": f"({_words((*image.packages, _stub(image)))})",
        "build_packages": f"({_words(image.build_packages)})",
    }
    head = "".join(f"{name}={value}\n" for name, value in values.items())
    return (
        PhaseScript(
            phase=Phase.PREPARE,
            rank=10,
            what="alpine",
            purpose="Unpack Alpine's minirootfs and install the packages of the image with apk.",
            body=head + read_template("alpine.sh"),
            adds_up=True,
            origin=origin_of(base, "mkosi cannot install Alpine"),
        ),
    )


def _stub(image: ResolvedImage) -> Package:
    return Package(name=STUB_PACKAGE, span=image.span, cause="mkosi takes the EFI stub of the UKI from the image")


def _words(packages: tuple[Package, ...]) -> str:
    names = {package.name: package for package in packages}
    for name, package in names.items():
        if not _PACKAGE.fullmatch(name):
            raise DiagnosticError.of(Code.E_VALUE, f"{name!r} is no package that apk could install", package.span)
    return quoting.shell_words(sorted(names))
