"""From resolved images to projects, and from projects to the tree."""

from __future__ import annotations

import re

from tdxc.diagnostics import Code, DiagnosticError
from tdxc.emission import Emitter
from tdxc.ir import CompiledImage, Distribution, ResolvedImage
from tdxc.tree import FileTree

from tdxc_emitters.mkosi.builds import build_settings, build_trees, owner_rules
from tdxc_emitters.mkosi.cleanup import cleanup_scripts
from tdxc_emitters.mkosi.debloat import debloat_rules, debloat_scripts
from tdxc_emitters.mkosi.delta import delta
from tdxc_emitters.mkosi.kernel_check import kernel_check_scripts
from tdxc_emitters.mkosi.partitions import partition_files
from tdxc_emitters.mkosi.project import MkosiProject, PhaseScript
from tdxc_emitters.mkosi.render import render_project
from tdxc_emitters.mkosi.rootfs import rootfs_rules, rootfs_scripts, rootfs_tree
from tdxc_emitters.mkosi.scripts import recipe_scripts
from tdxc_emitters.mkosi.settings import image_settings
from tdxc_emitters.mkosi.sources import source_files, source_rules, source_scripts
from tdxc_emitters.mkosi.stub import stub_scripts

_PROFILE_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")


def make_project(
    image: ResolvedImage, emitters: tuple[Emitter, ...] = (), *, profiles_build: bool = False
) -> MkosiProject:
    """One variant of the image as a project; ``emitters`` add the files that other formats define.

    ``profiles_build``: a profile of the same tree has builds of its own.
    """
    own = (rootfs_tree(image), source_files(image), partition_files(image))
    files = FileTree().merge(*own, *(emitter.emit(image) for emitter in emitters))
    return MkosiProject(
        name=image.name,
        settings=(*image_settings(image), *build_settings(image, always=profiles_build)),
        scripts=(
            *source_scripts(image),
            *_alpine_scripts(image),
            *stub_scripts(image),
            *rootfs_scripts(image),
            *recipe_scripts(image),
            *kernel_check_scripts(image),
            *debloat_scripts(image),
            *cleanup_scripts(image),
        ),
        rules=(*source_rules(image), *rootfs_rules(image), *owner_rules(image), *debloat_rules(image)),
        files=files,
    )


def _alpine_scripts(image: ResolvedImage) -> tuple[PhaseScript, ...]:
    if image.base.distribution is not Distribution.ALPINE:
        return ()
    from tdxc_emitters.mkosi.alpine import alpine_scripts  # most images are Debian's

    return alpine_scripts(image)


def emit_tree(compiled: CompiledImage, emitters: tuple[Emitter, ...] = ()) -> FileTree:
    """The whole tree: the base (or flat variant) at the top, each further variant as a profile over it."""
    own_builds = any(variant.builds for variant in compiled.variants)
    base = make_project(compiled.image, emitters, profiles_build=own_builds)
    tree = render_project(base).merge(build_trees(compiled))
    for variant in compiled.variants:
        if len(variant.profiles) != 1:
            names = ", ".join(variant.profiles)
            raise DiagnosticError.of(Code.E_INTERNAL, f"a variant of a tree has one profile, not: {names}")
        (profile,) = variant.profiles
        if not _PROFILE_NAME.fullmatch(profile):
            message = f"profile name {profile!r} is not letters, digits and '_.-'"
            raise DiagnosticError.of(Code.E_VALUE, message, variant.span, fix="mkosi splits names at blanks and commas")
        layer = delta(base, make_project(variant, emitters), profile=profile)
        tree = tree.merge(render_project(layer, profile=profile))
    return tree
