"""``tdxc passes``: the passes in order, with what each does."""

from __future__ import annotations

import click


@click.command("passes")
@click.argument("recipe", metavar="[RECIPE]", required=False)
def command(recipe: str | None) -> None:
    """List the passes in the order in which they run; with RECIPE, how long each takes on it."""
    from tdxc import driver
    from tdxc.observers import TimePasses

    timing = TimePasses()
    if recipe:
        from tdxc.cli.recipe import open_recipe

        driver.analyse(open_recipe(recipe).image, observers=(timing,))
    for name, description in driver.pass_descriptions():
        spent = f"{timing.seconds[name] * 1000:8.1f} ms  " if name in timing.seconds else ""
        click.echo(f"{spent}{name:<18} {description}")
