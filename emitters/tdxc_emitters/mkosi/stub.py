"""A pinned EFI stub: exactly the package version that the recipe names, checked, in place of the distribution's.

The stub decides what the firmware measures (systemd-stub 257 by default). mkosi takes it from the image, so the
script puts it there before anything else is built; nothing of the build host is used or changed. The package is a file
that the recipe brings, or that version in one of the package sources: for an old one that means a snapshot that had it.
"""

from __future__ import annotations

import re

from tdxc import quoting
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import Distribution, EfiStub, ResolvedImage
from tdxc.tree import FileTree, TreeFile

from tdxc_emitters.mkosi.project import Phase, PhaseScript, origin_of
from tdxc_emitters.mkosi.templates import read_template

_VERSION = re.compile(r"[0-9][A-Za-z0-9.+~:-]*")
_SHA256 = re.compile(r"[0-9a-f]{64}")

PACKAGE_PATH = "efi-stub/systemd-boot-efi.deb"
"""Where the recipe's own package lies in its layer of the tree."""


def stub_scripts(image: ResolvedImage) -> tuple[PhaseScript, ...]:
    """The prepare script that fetches and checks the stub; none where the distribution's own is taken."""
    stub = image.efi_stub
    if stub is None:
        return ()
    if image.base.distribution is Distribution.ALPINE:
        raise DiagnosticError.of(Code.E_UNSUPPORTED, "an EFI stub can be pinned on Debian and Ubuntu only", stub.span)
    if not _VERSION.fullmatch(stub.version):
        raise DiagnosticError.of(Code.E_VALUE, f"{stub.version!r} is not the version of a package", stub.span)
    if stub.sha256 and not _SHA256.fullmatch(stub.sha256):
        raise DiagnosticError.of(
            Code.E_VALUE, f"{stub.sha256!r} is not a SHA-256 in 64 lower-case hexadecimal digits", stub.span
        )
    package = _package(stub)
    values = f"version={quoting.shell_word(stub.version)}\nsha256={stub.sha256}\n"
    values += f'package="$layer/{PACKAGE_PATH}"\n' if package.entries else "package=''\n"
    return (
        PhaseScript(
            phase=Phase.PREPARE,
            rank=10,
            what="efi-stub",
            purpose=f"Put systemd-stub of systemd-boot-efi {stub.version} into the image.",
            body=values + read_template("efi_stub.sh"),
            attachments=package,
            origin=origin_of(stub, "the EFI stub is pinned"),
        ),
    )


def _package(stub: EfiStub) -> FileTree:
    """The .deb file of the recipe, below the layer that pins it; none where apt gets it."""
    if stub.package is None:
        return FileTree()
    return FileTree({PACKAGE_PATH: TreeFile(data=stub.package.data, origin=origin_of(stub, "the package of the stub"))})
