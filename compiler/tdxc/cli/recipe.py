"""What commands on a recipe share: its argument, its options, loading it, and reporting warnings."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tdxc.cli.report import report, set_recipe_root
from tdxc.diagnostics import Diagnostic

if TYPE_CHECKING:
    from tdx._load import LoadedRecipe

    from tdxc.ir import AuthoredImage

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

recipe_argument = click.argument("recipe", metavar="RECIPE")


def profile_option(text: str = "Take the image with these profiles.") -> Decorator:
    """``--profile a,b``, repeatable; ``text`` is its help."""
    return click.option("--profile", "profiles", metavar="NAME[,NAME]", multiple=True, callback=_split_names, help=text)


def format_option(*formats: str) -> Decorator:
    """``--format``; the first one is the default."""
    return click.option(
        "--format",
        "output_format",
        type=click.Choice(formats),
        default=formats[0],
        show_default=True,
        help="Form of the output and of diagnostics.",
    )


def open_recipe(reference: str) -> LoadedRecipe:
    """Load a recipe for a command; diagnostics from now on show lines of its folder."""
    from tdxc import driver

    set_recipe_root(folder_of(reference))
    return driver.load_recipe(reference)


def names_recipe(name: str) -> bool:
    """Whether an argument that may also be an artifact is a recipe, by its name."""
    path = Path(name)
    return path.suffix in {".py", ".yaml", ".yml"} or path.name.partition(":")[0] == "TDXfile" or ".py:" in name


def is_last_bake(image: AuthoredImage, output: Path) -> bool:
    """Whether an output folder holds a bake of the recipe as it is now."""
    from tdxc.baked import read_bake
    from tdxc.ir import codec

    return read_bake(output).recipe_digest == codec.digest(image)


def folder_of(reference: str) -> Path:
    """The folder of ``recipe.py`` or ``recipe.py:name``."""
    path = Path(reference)
    if not path.exists() and ":" in reference:
        path = Path(reference.rpartition(":")[0])
    return path.parent


def chosen(profiles: tuple[str, ...]) -> tuple[str, ...] | None:
    """None (all profiles as deltas) when the option was not given."""
    return profiles or None


def report_warnings(diagnostics: Iterable[Diagnostic], output_format: str) -> None:
    """Print what a successful compile has to say, in the form of the command's ``--format``."""
    report(diagnostics, as_json=output_format == "json")


def _split_names(_ctx: click.Context, _option: click.Parameter, values: tuple[str, ...]) -> tuple[str, ...]:
    names = [name.strip() for value in values for name in value.split(",")]
    return tuple(dict.fromkeys(name for name in names if name))
