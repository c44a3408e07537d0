"""Kernels of profiles: a profile whose features need other options than the image's gets a build of its own.

A tree has one build of a name, and mkosi lays a profile's files over those of the image. Both kernels are of one
release, so the profile's takes the place of the image's, file by file.
"""

from __future__ import annotations

from tdxc import records
from tdxc.ir import BuildLanguage, CompiledImage, ResolvedBuild, ResolvedImage


def with_own_kernels(compiled: CompiledImage) -> CompiledImage:
    """The same variants, with kernels that differ from the image's under the name ``kernel-PROFILE``, beside it."""
    base = kernel_build(compiled.image)
    if base is None:
        return compiled
    variants = tuple(_with_own_kernel(compiled.image, base, variant) for variant in compiled.variants)
    return records.evolve(compiled, variants=variants)


def kernel_build(image: ResolvedImage) -> ResolvedBuild | None:
    """The build of the image's kernel; None for a packaged one."""
    return next((build for build in image.builds if build.language is BuildLanguage.KERNEL), None)


def _with_own_kernel(image: ResolvedImage, base: ResolvedBuild, variant: ResolvedImage) -> ResolvedImage:
    own = kernel_build(variant)
    if own is None or own == base or _release(image) != _release(variant):
        return variant
    renamed = records.evolve(own, name=f"{own.name}-{'-'.join(variant.profiles)}")
    builds = [(base, renamed) if build is own else (build,) for build in variant.builds]
    return records.evolve(variant, builds=tuple(build for pair in builds for build in pair))


def _release(image: ResolvedImage) -> tuple[str, str, tuple[str, ...]]:
    """What the name of the folder of a kernel's files comes from."""
    kernel = image.kernel
    suffix = (o.value for o in (*kernel.base_options, *kernel.options) if o.name == "LOCALVERSION")
    return kernel.version, kernel.package, tuple(suffix)
