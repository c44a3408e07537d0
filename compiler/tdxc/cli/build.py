"""``tdxc build``: compile a recipe and bake its image."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tdxc.cli.compile import compile_to
from tdxc.cli.progress import Steps
from tdxc.cli.recipe import chosen, format_option, open_recipe, profile_option, recipe_argument, report_warnings

if TYPE_CHECKING:
    from tdx._load import LoadedRecipe

    from tdxc.bake import BakeResult


@click.command("build")
@recipe_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("build/output"), show_default=True,
              help="Folder of the artifacts; complete afterwards, or as it was.")  # fmt: skip
@click.option("--tree", type=click.Path(path_type=Path), default=Path("build/mkosi"), show_default=True,
              help="Folder of the compiled mkosi tree.")  # fmt: skip
@click.option("--emit-mkosi", type=click.Path(path_type=Path), help="Write the mkosi tree here and stop.")
@click.option("--mkosi-override", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Layer the mkosi.conf and trees of this folder on top.")  # fmt: skip
@profile_option("Bake the image with these profiles; without it, the image alone.")
@click.option("--frozen", is_flag=True, help="Refuse when the recipe is not the one in the lockfile.")
@click.option("--lockfile", type=click.Path(path_type=Path), default=Path("build/tdx.lock"), show_default=True,
              help="The lockfile for --frozen.")  # fmt: skip
@click.option("--offline", is_flag=True, help="Use only packages that are in the cache.")
@click.option("--mirror", default="", metavar="URL", help="Package mirror for recipes that declare none.")
@click.option(
    "--backend", type=click.Choice(["local", "nix", "lima"]), help="Where mkosi runs; the recipe's by default."
)
@click.option("--log", type=click.Path(path_type=Path, dir_okay=False), help="Keep the whole log in this file.")
@click.option("--debug-shell", metavar="NAME", default="",
              help="Bake nothing; open a shell in the environment of this source build.")  # fmt: skip
@click.option("-v", "--verbose", is_flag=True, help="Print every line of mkosi's output.")
@click.option("--force", is_flag=True, help="Discard changes made by hand in the compiled tree.")
@format_option("text", "json")
def command(
    recipe: str, output: Path, tree: Path, emit_mkosi: Path | None, mkosi_override: Path | None,
    profiles: tuple[str, ...], frozen: bool, lockfile: Path, offline: bool, mirror: str, backend: str | None,
    log: Path | None, debug_shell: str, verbose: bool, force: bool, output_format: str,
) -> None:  # fmt: skip
    """Compile RECIPE and bake its image with mkosi.

    A bake that fails or is interrupted leaves nothing behind. `tdxc doctor` says what a machine still needs to bake.
    """
    loaded = open_recipe(recipe)
    if emit_mkosi is not None:
        compile_to(loaded.image, emit_mkosi, chosen(profiles), mkosi_override, force=force, output_format=output_format)
        return
    from tdxc_runtime.backends import backend_for

    from tdxc.bake import BakeOptions, bake_image, debug_build

    # a spinner would write over the shell
    with Steps(verbose=verbose or bool(debug_shell)) as steps:
        options = BakeOptions(
            profiles=profiles, tree=tree, output=output, lockfile=lockfile, frozen=frozen, offline=offline,
            force=force, mirror=mirror, override=mkosi_override, log=log, progress=steps.step, on_line=steps.line,
            recipe=recipe, ask_password=_ask_password,
        )  # fmt: skip
        if debug_shell:
            debug_build(loaded.image, options, debug_shell, backend_for(backend or loaded.backend))
            return
        result = bake_image(loaded.image, options, backend_for(backend or loaded.backend))
    _tell(result, output_format)
    if output_format == "json":
        _print_json(result)
        return
    for artifact in result.artifacts:
        click.echo(f"{artifact.size_bytes / 1e6:9.1f} MB  {artifact.kind.value:<17} {artifact.path}")
    click.echo(f"log: {result.log}")


def bake_by_default(loaded: LoadedRecipe, recipe: str) -> Path:
    """What `tdxc build RECIPE` does without options; gives the output folder. For `tdxc run RECIPE`."""
    from tdxc_runtime.backends import backend_for

    from tdxc.bake import BakeOptions, bake_image

    with Steps() as steps:
        options = BakeOptions(recipe=recipe, progress=steps.step, on_line=steps.line, ask_password=_ask_password)
        result = bake_image(loaded.image, options, backend_for(loaded.backend))
    _tell(result, "text")
    return result.folder


def _tell(result: BakeResult, output_format: str) -> None:
    """Warnings, and the password that is shown this once."""
    report_warnings(result.diagnostics, output_format)
    if result.root_password:
        click.echo(f"root's password in this image, shown this once: {result.root_password}", err=True)


def _ask_password() -> str:
    """Asked for twice, without an echo; empty where nobody is there."""
    if not sys.stdin.isatty():
        return ""
    password: str = click.prompt("Root's password", hide_input=True, confirmation_prompt=True, err=True)
    return password


def _print_json(result: BakeResult) -> None:
    import json

    artifacts = [
        {
            "path": str(artifact.path),
            "kind": artifact.kind.value,
            "size": artifact.size_bytes,
            "sha256": artifact.sha256,
        }
        for artifact in result.artifacts
    ]
    builds = [
        {"name": build.name, "key": build.key or None, "network": build.network} for build in result.output.builds
    ]
    summary = {
        "image": result.image,
        "profiles": result.profiles,
        "recipe_digest": f"sha256:{result.recipe_digest}",
        "artifacts": artifacts,
        "builds": builds,
        "log": str(result.log),
    }
    click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
