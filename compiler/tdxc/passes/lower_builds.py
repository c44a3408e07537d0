"""lower-builds: programs to build from source become shell text, an environment of packages, and artifacts.

::

    Build.go("prover", src="prover", output="/usr/bin/prover")
        ->  packages golang-1.24-go, ca-certificates; fetch `go mod download`; compile `go build -trimpath …`
"""

from __future__ import annotations

from typing import ClassVar

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError
from tdxc.ir import Distribution, ResolvedImage
from tdxc.passes.base import PassContext


class LowerBuilds:
    """Decide toolchain, steps and environment of each build; the packages of the image take no part in it."""

    name: ClassVar[str] = "lower-builds"
    description: ClassVar[str] = "decide toolchain, scripts and environment of each build from source"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset({"lower-builds"})

    def run(self, image: ResolvedImage, ctx: PassContext) -> ResolvedImage:
        """The image with ``builds``; one fault does not hide those of the other builds."""
        if not image.authored_builds:
            return image
        if image.base.distribution is Distribution.ALPINE:
            ctx.sink.extend(_unsupported(image))
            return image
        from tdxc.passes.builds import check_variables, lower_build

        found = []
        for build in image.authored_builds:
            ctx.sink.extend(check_variables(build))
            try:
                found.append(lower_build(image.base, build, has_repositories=bool(image.repositories)))
            except DiagnosticError as error:
                ctx.sink.extend(error.diagnostics)
        return records.evolve(image, builds=(*image.builds, *found))


def _unsupported(image: ResolvedImage) -> list[Diagnostic]:
    """Each build of the recipe; of the guest's own program lower-guest says it, where the modules are applied."""
    from tdxc.passes.guest_units import PROGRAM

    has_guest = image.guest_keys or image.encrypted_disks or image.secret_delivery or image.quote_service
    return [
        Diagnostic(
            code=Code.E_UNSUPPORTED,
            message=f"build '{build.name}': there is no build environment for {image.base.reference}, which mkosi"
            " cannot install",
            span=build.span,
            fix="build the program elsewhere and put it into the image with file(), or use a Debian or Ubuntu base",
        )
        for build in image.authored_builds
        if not has_guest or all(artifact.dest != PROGRAM for artifact in build.artifacts)
    ]
