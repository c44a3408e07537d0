"""resolve-kernel: which kernel package, which command line, which options are required of it.

A distribution kernel is configured already, so the merged options are requirements: the bake compares them with the
packaged configuration and fails where one does not hold. Facts about packages, as of their sources: trixie's and
bookworm-backports' cloud kernels (6.12) have CONFIG_INTEL_TDX_GUEST=y and CONFIG_TSM_REPORTS=m; bookworm's own (6.1)
has CONFIG_INTEL_TDX_GUEST off and knows no TSM reports; noble's tdx_guest module first came in
linux-modules-extra, which linux-image-generic depends on; Alpine's linux-virt has CONFIG_INTEL_TDX_GUEST off.
"""

from __future__ import annotations

from typing import ClassVar

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticSink, Note
from tdxc.ir import SOURCE_PACKAGE_PREFIX, Kernel, KernelSource, Package, ResolvedImage, ResolvedKernel, Suite
from tdxc.passes.base import PassContext
from tdxc.passes.kernel_cmdline import kernel_cmdline
from tdxc.passes.kernel_fragments import fragment_files, recipe_options, report_contradictions, required_options
from tdxc.passes.kernel_options import merge_options
from tdxc.passes.lower_image import with_packages


@records.frozen
class DistributionKernel:
    """The kernel package that a base gets by default; ``suite`` is the extra suite that has it, empty for its own."""

    package: str
    suite: str = ""
    tdx_guest: bool = True


DISTRIBUTION_KERNELS: dict[str, DistributionKernel] = {
    "debian/trixie": DistributionKernel(package="linux-image-cloud-amd64"),
    "debian/bookworm": DistributionKernel(package="linux-image-cloud-amd64", suite="bookworm-backports"),
    "ubuntu/noble": DistributionKernel(package="linux-image-generic"),
    "alpine/3.20": DistributionKernel(package="linux-virt", tdx_guest=False),
}
"""By the base's reference."""

_KERNELS_WITHOUT_TDX = {"debian/bookworm": frozenset({"linux-image-cloud-amd64", "linux-image-amd64"})}


class ResolveKernel:
    """Choose the kernel package, put the command line together, merge the options."""

    name: ClassVar[str] = "resolve-kernel"
    description: ClassVar[str] = (
        "choose the kernel, order its command line, merge what is required of its configuration"
    )
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset({"resolve-kernel"})

    def run(self, image: ResolvedImage, ctx: PassContext) -> ResolvedImage:
        """Replace the placeholder kernel; adds the kernel's package, and the suite that has it."""
        if asks_for_source(image.authored_kernel):
            return _from_source(image, ctx.sink)
        kernel = image.authored_kernel
        package = _package(image, ctx.sink)
        required, recipe = required_options(image), recipe_options(kernel, ctx.sink)
        report_contradictions(required, recipe, ctx.sink)
        resolved = ResolvedKernel(
            span=kernel.span,
            source=KernelSource.DISTRIBUTION,
            package=package.name,
            cmdline=kernel_cmdline(kernel, ctx.sink),
            options=merge_options(required, recipe),
            fragments=fragment_files(image, source=False),
        )
        image = records.evolve(image, kernel=resolved, suites=_suites(image, package))
        return with_packages(image, package)


def asks_for_source(kernel: Kernel) -> bool:
    """Whether the recipe wants a kernel built from source, in one of the ways to say so."""
    from_package = kernel.package.startswith(SOURCE_PACKAGE_PREFIX)
    return bool(kernel.version or kernel.config_file or kernel.source or kernel.patches or from_package)


def _from_source(image: ResolvedImage, sink: DiagnosticSink) -> ResolvedImage:
    """The image with a kernel that is built, and the build that makes it; no package of the image brings one."""
    from tdxc.passes.kernel_source import resolve_source_kernel  # most images have a finished kernel

    kernel, build = resolve_source_kernel(image, sink)
    builds = image.builds if build is None else (*image.builds, build)
    suites = _suites(image, Package(span=kernel.span, name=kernel.package))
    return records.evolve(image, kernel=kernel, builds=builds, suites=suites)


def _package(image: ResolvedImage, sink: DiagnosticSink) -> Package:
    kernel, reference = image.authored_kernel, image.base.reference
    default = DISTRIBUTION_KERNELS.get(reference)
    if kernel.package:
        if kernel.package in _KERNELS_WITHOUT_TDX.get(reference, ()):
            sink.add(
                Code.E_KCONFIG,
                f"{reference}'s kernel package '{kernel.package}' is built without CONFIG_INTEL_TDX_GUEST",
                kernel.span,
                notes=(Note(message="it also has no CONFIG_TSM_REPORTS, through which a guest asks for quotes"),),
                fix=f"write '{kernel.package}/bookworm-backports', leave package out, or use base debian/trixie",
            )
        return Package(span=kernel.span, name=kernel.package)
    if default is None:
        sink.add(
            Code.E_UNSUPPORTED,
            f"no default kernel package is known for '{reference}'",
            image.base.span,
            fix="name one: Kernel.tdx(package=...)",
        )
        return Package(span=image.base.span, cause="resolve-kernel: unknown base", name="linux-image")
    if not default.tdx_guest:
        sink.add(
            Code.W_DEVELOPMENT,
            f"{reference}'s kernel is built without CONFIG_INTEL_TDX_GUEST: the image boots, but not as a trust domain",
            image.base.span if image.base.span.file else image.span,
            fix="use base debian/trixie for an image that is to run under TDX",
        )
    name = f"{default.package}/{default.suite}" if default.suite else default.package
    return Package(span=kernel.span, cause=f"resolve-kernel: the TDX kernel of {reference}", name=name)


def _suites(image: ResolvedImage, package: Package) -> tuple[Suite, ...]:
    suite = package.name.partition("/")[2]
    if not suite or suite == image.base.release or any(known.name == suite for known in image.suites):
        return image.suites
    if image.authored_kernel.package:
        return image.suites
    cause = f"resolve-kernel: {image.base.reference}'s own kernel has no TDX guest support, this suite's has"
    return (*image.suites, Suite(span=package.span, cause=cause, name=suite))
