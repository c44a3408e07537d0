"""``tdxc passes``: the passes in order, with what each does."""

from __future__ import annotations

import click

from tdxc.cli.recipe import format_option, open_recipe


@click.command("passes")
@click.argument("recipe", metavar="[RECIPE]", required=False)
@format_option("text", "json")
def command(recipe: str | None, output_format: str) -> None:
    """List the passes in the order in which they run; with RECIPE, how long each takes on it."""
    from tdxc import driver
    from tdxc.observers import TimePasses

    timing = TimePasses()
    if recipe:
        driver.analyse(open_recipe(recipe).image, observers=(timing,))
    milliseconds = {name: round(seconds * 1000, 3) for name, seconds in timing.seconds.items()}
    if output_format == "json":
        import json

        rows = [
            {"pass": name, "does": text, "milliseconds": milliseconds.get(name)}
            for name, text in driver.pass_descriptions()
        ]
        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    for name, text in driver.pass_descriptions():
        spent = f"{milliseconds[name]:8.1f} ms  " if name in milliseconds else ""
        click.echo(f"{spent}{name:<18} {text}")
