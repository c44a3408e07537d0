"""``tdxc diff``: what changes, in terms of the recipe."""

from __future__ import annotations

import click

from tdxc.cli.recipe import format_option


@click.command("diff")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--tree", "with_tree", is_flag=True, help="Also print the unified diff of the compiled trees.")
@format_option("text", "json")
@click.pass_context
def command(ctx: click.Context, before: str, after: str, with_tree: bool, output_format: str) -> None:
    """Say what changes from A to B.

    Each is a recipe (recipe.py, recipe.yaml), a recipe at a git revision (HEAD~1:recipe.py), a compiled tree, or a
    measurement manifest. Exit status 0 when nothing changes, 4 otherwise.
    """
    from tdxc import compare

    difference = compare.compare(before, after)
    if output_format == "json":
        import json

        click.echo(json.dumps(difference.data(), indent=2, ensure_ascii=False))
    else:
        click.echo(difference.text(with_tree=with_tree), nl=False)
    if difference.is_empty:
        return
    ctx.exit(4)
