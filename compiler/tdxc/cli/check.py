"""``tdxc check``: everything wrong with a recipe, and no output."""

from __future__ import annotations

import click

from tdxc.cli.recipe import chosen, format_option, open_recipe, profile_option, recipe_argument
from tdxc.cli.report import report
from tdxc.diagnostics import Diagnostic, DiagnosticError, Severity

STRICT_STATUS = 4


@click.command("check")
@recipe_argument
@profile_option("Check the image with these profiles, instead of the image and each of them.")
@click.option("--strict", is_flag=True, help="Exit with 4 when there are warnings.")
@format_option("text", "json")
@click.pass_context
def command(ctx: click.Context, recipe: str, profiles: tuple[str, ...], strict: bool, output_format: str) -> None:
    """Report everything wrong with RECIPE, in source order; write nothing.

    Exit status 0 when there are no errors, 4 when they are of the recipe's policy, 1 otherwise. With --format json, one
    object with all diagnostics goes to standard output.
    """
    status, diagnostics = _examine(recipe, profiles)
    errors = sum(diagnostic.severity is Severity.ERROR for diagnostic in diagnostics)
    warnings = len(diagnostics) - errors
    if output_format == "json":
        _print_json(recipe, diagnostics, errors, warnings)
    else:
        report(diagnostics)
        click.echo(f"{recipe}: {_count(errors, 'error')}, {_count(warnings, 'warning')}")
    ctx.exit(status or (STRICT_STATUS if strict and warnings else 0))


def _examine(recipe: str, profiles: tuple[str, ...]) -> tuple[int, tuple[Diagnostic, ...]]:
    """The exit status that the recipe's errors ask for, and all that was found."""
    from tdxc import driver

    try:
        return 0, driver.compile_image(open_recipe(recipe).image, profiles=chosen(profiles)).diagnostics
    except DiagnosticError as error:
        return error.exit_status, error.diagnostics


def _count(number: int, noun: str) -> str:
    return f"{number or 'no'} {noun}{'' if number == 1 else 's'}"


def _print_json(recipe: str, diagnostics: tuple[Diagnostic, ...], errors: int, warnings: int) -> None:
    import json

    from tdxc.render import diagnostic_data

    found = [diagnostic_data(diagnostic) for diagnostic in diagnostics]
    summary = {"recipe": recipe, "errors": errors, "warnings": warnings, "diagnostics": found}
    click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
