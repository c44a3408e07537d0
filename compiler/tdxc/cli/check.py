"""``tdxc check``: everything wrong with a recipe, and no output."""

from __future__ import annotations

import click

from tdxc.cli.recipe import chosen, format_option, open_recipe, profile_option, recipe_argument, report_warnings


@click.command("check")
@recipe_argument
@profile_option
@click.option("--strict", is_flag=True, help="Fail (exit status 4) on warnings too.")
@format_option("text", "json")
@click.pass_context
def command(ctx: click.Context, recipe: str, profiles: tuple[str, ...], strict: bool, output_format: str) -> None:
    """Report all diagnostics of RECIPE in source order, for every profile; write nothing."""
    from tdxc import driver

    loaded = open_recipe(recipe)
    compilation = driver.compile_image(loaded.image, profiles=chosen(profiles))
    report_warnings(compilation.diagnostics)
    if output_format == "text":
        count = len(compilation.diagnostics)
        click.echo(f"{recipe}: no errors, {count} warning{'' if count == 1 else 's'}")
    if strict and compilation.diagnostics:
        ctx.exit(4)
