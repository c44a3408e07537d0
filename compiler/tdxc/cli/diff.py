"""``tdxc diff``: what changes, in terms of the recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tdxc.cli.recipe import folder_of, format_option
from tdxc.cli.report import set_recipe_root

if TYPE_CHECKING:
    from tdxc.compare import Difference, Side
    from tdxc.manifests import ManifestDifference

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
    tree. Or both are measurements: a manifest (`tdxc measure --format json`) or the output folder of a bake; these are
    compared event by event. Exit status 0 when nothing changes, 4 otherwise.
    """
    difference: Difference | ManifestDifference
    if _are_measurements(before, after):
        from tdxc import manifests

        difference = manifests.compare_manifests(*(manifests.load_manifest(Path(name)) for name in (before, after)))
        text = difference.text()
    else:
        from tdxc import compare

        difference = compare.difference(_side(before), _side(after))
        text = difference.text(with_tree=with_tree)
    if output_format == "json":
        import json

        click.echo(json.dumps(difference.data(), indent=2, ensure_ascii=False))
    else:
        click.echo(text, nl=False)
    ctx.exit(0 if difference.is_empty else CHANGED_STATUS)


def _are_measurements(*names: str) -> bool:
    """Whether both sides are measurements; E_REFERENCE when just one of them is."""
    from tdxc.diagnostics import Code, DiagnosticError

    # Told apart without the module that reads them: a diff of recipes imports nothing of the runtime.
    measured = [name for name in names if _is_measurement(Path(name))]
    if len(measured) == 1:
        other = next(name for name in names if name not in measured)
        raise DiagnosticError.of(
            Code.E_REFERENCE,
            f"'{measured[0]}' is a measurement and '{other}' is not",
            fix=f"bake '{other}' and name its output folder, or compare two recipes",
        )
    return bool(measured)


def _is_measurement(path: Path) -> bool:
    return (path.is_file() and path.suffix == ".json") or (path / "image.json").is_file()


def _side(reference: str) -> Side:
    from tdxc.compare import load_side

    set_recipe_root(folder_of(reference))
    return load_side(reference)
