"""``tdxc diff``: what changes, in terms of the recipe."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from tdxc.cli.recipe import folder_of, format_option
from tdxc.cli.report import set_recipe_root

if TYPE_CHECKING:
    from tdxc.compare import Side

CHANGED_STATUS = 4


@click.command("diff")
@click.argument("before", metavar="A")
@click.argument("after", metavar="B")
@click.option("--tree", "with_tree", is_flag=True, help="Also print the unified diff of the compiled trees.")
@format_option("text", "json")
@click.pass_context
def command(ctx: click.Context, before: str, after: str, with_tree: bool, output_format: str) -> None:
    """Say what changes from A to B.

    Each of A and B is a recipe (recipe.py, recipe.yaml), a recipe at a git revision (HEAD~1:recipe.py), or a compiled
    tree. Exit status 0 when nothing changes, 4 otherwise.
    """
    from tdxc import compare

    difference = compare.difference(_side(before), _side(after))
    if output_format == "json":
        import json

        click.echo(json.dumps(difference.data(), indent=2, ensure_ascii=False))
    else:
        click.echo(difference.text(with_tree=with_tree), nl=False)
    ctx.exit(0 if difference.is_empty else CHANGED_STATUS)


def _side(reference: str) -> Side:
    from tdxc.compare import load_side

    set_recipe_root(folder_of(reference))
    return load_side(reference)
