"""``tdxc lock``: write the lockfile that frozen bakes are held to."""

from __future__ import annotations

from pathlib import Path

import click

from tdxc.cli.recipe import open_recipe, recipe_argument


@click.command("lock")
@recipe_argument
@click.option("--lockfile", type=click.Path(path_type=Path), default=Path("build/tdx.lock"), show_default=True,
              help="The lockfile.")  # fmt: skip
@click.option("--check", is_flag=True, help="Write nothing; exit with 4 when the lockfile does not fit the recipe.")
def command(recipe: str, lockfile: Path, check: bool) -> None:
    """Lock RECIPE: record its digest and the versions of the tools, for `tdxc build --frozen`."""
    from tdxc import bake

    loaded = open_recipe(recipe)
    if check:
        bake.check_lockfile(loaded.image, lockfile)
        click.echo(f"{lockfile}: fits the recipe")
        return
    lock = bake.lock_image(loaded.image, lockfile)
    click.echo(f"{lockfile}: recipe sha256:{lock.recipe_digest}")
