"""``tdxc build``: compile a recipe and bake its image."""

from __future__ import annotations

from pathlib import Path

import click

from tdxc.cli.progress import Steps
from tdxc.cli.recipe import chosen, format_option, open_recipe, profile_option, recipe_argument, report_warnings


@click.command("build")
@recipe_argument
@click.option("-o", "--output", type=click.Path(path_type=Path), default=Path("build/output"), show_default=True,
              help="Folder of the artifacts; complete afterwards, or as it was.")  # fmt: skip
@click.option("--tree", type=click.Path(path_type=Path), default=Path("build/mkosi"), show_default=True,
              help="Folder of the compiled mkosi tree.")  # fmt: skip
@click.option("--emit-mkosi", type=click.Path(path_type=Path), help="Write the mkosi tree here and stop.")
@click.option("--mkosi-override", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Layer the mkosi.conf and trees of this folder on top.")  # fmt: skip
@profile_option
@click.option("--frozen", is_flag=True, help="Refuse when the recipe is not the one in the lockfile.")
@click.option("--lockfile", type=click.Path(path_type=Path), default=Path("build/tdx.lock"), show_default=True,
              help="The lockfile for --frozen.")  # fmt: skip
@click.option("--offline", is_flag=True, help="Use only packages that are in the cache.")
@click.option("--mirror", default="", metavar="URL", help="Package mirror for recipes that declare none.")
@click.option(
    "--backend", type=click.Choice(["local", "nix", "lima"]), help="Where mkosi runs; the recipe's by default."
)
@click.option("--log", type=click.Path(path_type=Path, dir_okay=False), help="Keep the whole log in this file.")
@click.option("-v", "--verbose", is_flag=True, help="Print every line of mkosi's output.")
@click.option("--force", is_flag=True, help="Discard changes made by hand in the compiled tree.")
@format_option("text", "json")
def command(
    recipe: str, output: Path, tree: Path, emit_mkosi: Path | None, mkosi_override: Path | None,
    profiles: tuple[str, ...], frozen: bool, lockfile: Path, offline: bool, mirror: str, backend: str | None,
    log: Path | None, verbose: bool, force: bool, output_format: str,
) -> None:  # fmt: skip
    """Compile RECIPE and bake its image with mkosi.

    With --profile, the image is baked with these profiles. Nothing is left behind by a bake that fails or is
    interrupted.
    """
    from tdxc import driver

    loaded = open_recipe(recipe)
    if emit_mkosi is not None:
        compilation = driver.compile_image(loaded.image, profiles=chosen(profiles), override=mkosi_override)
        driver.write_compilation(compilation, emit_mkosi, force=force)
        report_warnings(compilation.diagnostics)
        click.echo(f"{emit_mkosi}: {len(compilation.tree)} files; `mkosi -C {emit_mkosi} build` bakes them")
        return
    from tdxc_runtime.backends import backend_for

    from tdxc.bake import BakeOptions, bake_image

    with Steps(verbose=verbose) as steps:
        options = BakeOptions(
            profiles=profiles, tree=tree, output=output, lockfile=lockfile, frozen=frozen, offline=offline,
            force=force, mirror=mirror, override=mkosi_override, log=log, progress=steps.step, on_line=steps.line,
        )  # fmt: skip
        result = bake_image(loaded.image, options, backend_for(backend or loaded.backend))
    report_warnings(result.diagnostics)
    if output_format == "json":
        import json

        files = [{"path": str(a.path), "kind": a.kind.value, "size": a.size_bytes, "sha256": a.sha256}
                 for a in result.artifacts]  # fmt: skip
        click.echo(json.dumps({"image": result.image, "profiles": list(profiles), "artifacts": files,
                               "log": str(result.log)}, indent=2))  # fmt: skip
        return
    for artifact in result.artifacts:
        click.echo(f"{artifact.size_bytes / 1e6:9.1f} MB  {artifact.kind.value:<17} {artifact.path}")
    click.echo(f"log: {result.log}")
