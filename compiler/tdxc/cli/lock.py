"""``tdxc lock``: write the lockfile that frozen bakes are held to."""

from __future__ import annotations

from pathlib import Path

import click

from tdxc.cli.recipe import format_option, open_recipe, recipe_argument


@click.command("lock")
@recipe_argument
@click.option("--lockfile", type=click.Path(path_type=Path), default=Path("build/tdx.lock"), show_default=True,
              help="Where the lockfile is.")  # fmt: skip
@click.option("--check", is_flag=True, help="Write nothing; exit with 4 when the lockfile does not fit the recipe.")
@format_option("text", "json")
def command(recipe: str, lockfile: Path, check: bool, output_format: str) -> None:
    """Lock RECIPE: record its digest and the versions of the tools, for `tdxc build --frozen`."""
    from tdxc import bake
    from tdxc.ir import codec

    image = open_recipe(recipe).image
    if check:
        bake.check_lockfile(image, lockfile)
    else:
        bake.lock_image(image, lockfile)
    digest = f"sha256:{codec.digest(image)}"
    if output_format == "json":
        import json

        click.echo(json.dumps({"lockfile": str(lockfile), "recipe_digest": digest}, indent=2, ensure_ascii=False))
    else:
        click.echo(f"{lockfile}: {'fits the recipe' if check else 'written'}\nrecipe {digest}")
