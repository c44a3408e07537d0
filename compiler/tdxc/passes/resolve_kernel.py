"""resolve-kernel: which kernel package, which command line, which options are required of it.

A distribution kernel is configured already, so the merged options are requirements: the bake compares them with the
packaged configuration and fails where one does not hold. Facts about packages, as of their sources: trixie's and
bookworm-backports' cloud kernels (6.12) have CONFIG_INTEL_TDX_GUEST=y and CONFIG_TSM_REPORTS=m; bookworm's own (6.1)
has CONFIG_INTEL_TDX_GUEST off and knows no TSM reports; noble's tdx_guest module first came in
linux-modules-extra, which linux-image-generic depends on; Alpine's linux-virt has CONFIG_INTEL_TDX_GUEST off.
"""

from __future__ import annotations

from typing import ClassVar, NamedTuple

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError, DiagnosticSink, Note
from tdxc.grammar import check_option, parse_kconfig, print_option
from tdxc.ir import (
    KconfigFragment,
    KconfigOption,
    Kernel,
    KernelSource,
    Package,
    ResolvedImage,
    ResolvedKernel,
    Suite,
)
from tdxc.passes.base import PassContext
from tdxc.passes.kernel_cmdline import kernel_cmdline
from tdxc.passes.kernel_modules import KERNEL_FEATURES, wanted_features
from tdxc.passes.kernel_options import contradictions, fragment_options, fragment_text, merge_options, satisfies
from tdxc.passes.lower_image import with_packages

RECIPE_OPTIONS = "99-recipe"
"""Name of the fragment that holds the options of ``config=``."""

FIRST_OWN, FIRST_GIVEN = 10, 60
"""Numbers of the fragments: ours have fixed ones, so that a profile that adds one renames none; the recipe's follow."""


class DistributionKernel(NamedTuple):
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
        kernel = image.authored_kernel
        _refuse_source_build(kernel, ctx.sink)
        package = _package(image, ctx.sink)
        options, fragments = _options(image, ctx.sink)
        resolved = ResolvedKernel(
            span=kernel.span,
            source=KernelSource.DISTRIBUTION,
            package=package.name,
            cmdline=kernel_cmdline(kernel, ctx.sink),
            options=options,
            fragments=fragments,
        )
        image = records.evolve(image, kernel=resolved, suites=_suites(image, package))
        return with_packages(image, package)


def _refuse_source_build(kernel: Kernel, sink: DiagnosticSink) -> None:
    asked = "version=" if kernel.version else "config_file=" if kernel.config_file else ""
    if asked:
        sink.add(
            Code.E_UNSUPPORTED,
            f"{asked} asks for a kernel built from source, which this version cannot do",
            kernel.span,
            notes=(Note(message="the distribution's kernel is used, and checked for what the image needs"),),
            fix=f"leave {asked} out; use package= for another kernel of the distribution, config= for requirements",
        )


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


def _options(
    image: ResolvedImage, sink: DiagnosticSink
) -> tuple[tuple[KconfigOption, ...], tuple[KconfigFragment, ...]]:
    """The merged options, and the fragments they come from in the order of their numbers."""
    features = [(feature, node) for feature, node in wanted_features(image) if feature.fragment]
    builtin = [
        records.evolve(option, span=node.span, cause=f"kernel feature '{feature.name}': {feature.reason}")
        for feature, node in features
        for option in fragment_options(feature.fragment)
    ]
    recipe = _recipe_options(image.authored_kernel, sink)
    _report(builtin, recipe, sink)
    numbers = {feature: number for number, feature in enumerate(KERNEL_FEATURES, start=FIRST_OWN)}
    fragments = [
        KconfigFragment(
            span=node.span,
            cause=f"resolve-kernel: {feature.reason}",
            name=f"{numbers[feature]}-{feature.fragment}",
            text=fragment_text(feature.fragment),
        )
        for feature, node in features
    ]
    kernel = image.authored_kernel
    for number, fragment in enumerate(kernel.fragments, start=FIRST_GIVEN):
        fragments.append(records.evolve(fragment, name=f"{number}-{fragment.name}"))
    if kernel.config:
        text = "".join(f"{print_option(option)}\n" for option in merge_options(kernel.config))
        cause = "the options of config="
        fragments.append(KconfigFragment(span=kernel.span, cause=cause, name=RECIPE_OPTIONS, text=text))
    return merge_options(builtin, recipe), tuple(fragments)


def _recipe_options(kernel: Kernel, sink: DiagnosticSink) -> list[KconfigOption]:
    options: list[KconfigOption] = []
    for fragment in kernel.fragments:
        try:
            options += parse_kconfig(fragment.text, fragment.span, file=fragment.source)
        except DiagnosticError as error:
            sink.extend(error.diagnostics)
    for option in kernel.config:
        if fault := check_option(option):
            sink.add(Code.E_KCONFIG, fault, option.span, fix='write values as .config does: y, m, n, 12, 0x1f, "text"')
        else:
            options.append(option)
    return options


def _report(builtin: list[KconfigOption], recipe: list[KconfigOption], sink: DiagnosticSink) -> None:
    for found in contradictions(recipe):
        sink.add(
            Code.E_KCONFIG,
            f"'{print_option(found.second)}' contradicts '{print_option(found.first)}'",
            found.second.span,
            notes=(Note(message=f"the other line: '{print_option(found.first)}'", span=found.first.span),),
            fix="keep one of the two",
        )
    required = {option.name: option for option in builtin}
    for option in recipe:
        need = required.get(option.name)
        if need is not None and not satisfies(need.value, option.value):
            sink.add(
                Code.E_KCONFIG,
                f"'{print_option(option)}' contradicts what the image needs: '{print_option(need)}'",
                option.span,
                notes=(Note(message=need.cause, span=need.span),),
                fix=f"leave CONFIG_{option.name} out, or what needs it",
            )
