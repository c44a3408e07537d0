"""``tdxc explain``: why a thing is as it is. A code needs no recipe; all else is looked up in the compiled one."""

from __future__ import annotations

import click

from tdxc.cli.recipe import chosen, open_recipe, profile_option


@click.command("explain")
@click.argument("topic")
@click.argument("recipe", metavar="[RECIPE]", required=False)
@profile_option()
@click.option("--mkosi-override", type=click.Path(exists=True, file_okay=False), help="For `explain overrides`.")
def command(topic: str, recipe: str | None, profiles: tuple[str, ...], mkosi_override: str | None) -> None:
    """Say why.

    TOPIC is a diagnostic code (E_PATH), or with RECIPE: a unit (app.service), an absolute path in the image, a package,
    a kernel module or option, something that debloat removes, or one of the words `debloat` and `overrides`.
    """
    from tdxc.diagnostics import Code, DiagnosticError, nearest

    if topic in Code.__members__:
        from tdxc.diagnostic_texts import TEXTS

        click.echo(f"{topic}\n\n{click.wrap_text(TEXTS[Code(topic)], 100)}")
        return
    if recipe is None:
        close = nearest(topic, Code.__members__)
        hint = f"did you mean {close}?" if close else "give the recipe too: tdxc explain TOPIC RECIPE"
        raise DiagnosticError.of(Code.E_REFERENCE, f"'{topic}' is not a diagnostic code", fix=hint)
    from pathlib import Path

    from tdxc import driver, explain

    loaded = open_recipe(recipe)
    if topic == "overrides":
        from tdxc.overrides import explain_override

        click.echo(explain_override(driver.compile_image(loaded.image).tree, Path(mkosi_override or "mkosi.override")))
        return
    compiled, _warnings = driver.analyse(loaded.image, profiles=chosen(profiles))
    answer = explain.explain(compiled.image, topic)
    if not answer:
        raise DiagnosticError.of(
            Code.E_REFERENCE,
            f"nothing in the image is called '{topic}'",
            fix="`tdxc show units|files|packages RECIPE` and `tdxc explain debloat RECIPE` list what there is",
        )
    click.echo(answer)
