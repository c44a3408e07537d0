"""One build, from what the recipe says to shell text and packages."""

from __future__ import annotations

from collections.abc import Callable

from tdxc import records
from tdxc.ir import Base, Build, BuildLanguage, Package, ResolvedBuild
from tdxc.passes.builds.c import c
from tdxc.passes.builds.languages import dotnet, go, rust, script
from tdxc.passes.builds.projects import check_project
from tdxc.passes.builds.recipe import Recipe, merged_environment, path_of, placed_artifacts
from tdxc.passes.builds.toolchains import choose_toolchain, fetch_packages

_RECIPES: dict[BuildLanguage, Callable[[Build], Recipe]] = {
    BuildLanguage.GO: go,
    BuildLanguage.RUST: rust,
    BuildLanguage.DOTNET: dotnet,
    BuildLanguage.C: c,
    BuildLanguage.SCRIPT: script,
}


def lower_build(base: Base, build: Build, *, has_repositories: bool = False) -> ResolvedBuild:
    """The build with its scripts and packages; ``has_repositories``: whether others than the distribution's are asked.

    Raises DiagnosticError: E_VALUE for a toolchain that is not to be had, E_BUILD for a local source that is
    no project of its language or has no lock file, E_PATH for artifacts outside of the build's folder.
    """
    offer = choose_toolchain(base, build, has_repositories=has_repositories)
    check_project(build)
    recipe = _RECIPES[build.language](build)
    recipe = records.evolve(recipe, environment=(*recipe.environment, *offer.environment))
    names = {*offer.packages, *recipe.packages, *build.build_deps, *fetch_packages(build)}
    cause = f"environment of build '{build.name}'"
    return ResolvedBuild(
        span=build.span,
        name=build.name,
        language=build.language,
        source=build.source,
        toolchain=build.toolchain,
        artifacts=placed_artifacts(build, recipe),
        packages=tuple(Package(name=name, span=build.span, cause=cause) for name in sorted(names)),
        environment=merged_environment(build, recipe, path_of(build, offer.folder)),
        patches=build.patches,
        version_command=recipe.version_command if build.toolchain.version else "",
        fetch=recipe.fetch,
        compile=recipe.compile,
        test=build.test.strip("\n"),
        network=build.network,
    )
