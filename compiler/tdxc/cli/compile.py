"""``tdxc compile``: a recipe in, a mkosi tree out."""

from __future__ import annotations

from pathlib import Path

import click

from tdxc.cli.recipe import chosen, format_option, open_recipe, profile_option, recipe_argument, report_warnings


@click.command("compile")
@recipe_argument
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), required=True, help="Folder of the mkosi tree.")
@profile_option
@click.option("--mkosi-override", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Layer the mkosi.conf and trees of this folder on top.")  # fmt: skip
@click.option("--force", is_flag=True, help="Discard changes made by hand in the output folder.")
@click.option("--dump-ir-after", "dump_after", metavar="PASS", help="Write the IR after this pass ('all' for each).")
@click.option("--dump-dir", type=click.Path(path_type=Path), default=Path("ir-dump"), show_default=True,
              help="Where --dump-ir-after writes.")  # fmt: skip
@click.option("--time-passes", is_flag=True, help="Print how long each pass took.")
@format_option("text", "json")
def command(
    recipe: str,
    out: Path,
    profiles: tuple[str, ...],
    mkosi_override: Path | None,
    force: bool,
    dump_after: str | None,
    dump_dir: Path,
    time_passes: bool,
    output_format: str,
) -> None:
    """Compile RECIPE into a mkosi tree.

    RECIPE is a Python or YAML file, or FILE:NAME where a Python file defines several images. The tree in the output
    folder is complete or, on any error, as it was before. `mkosi -C OUT build` bakes it.
    """
    from tdxc import driver
    from tdxc.observers import DumpIr, TimePasses

    timing = TimePasses()
    observers = (timing, *((DumpIr(dump_dir, _known_pass(dump_after)),) if dump_after else ()))
    loaded = open_recipe(recipe)
    compilation = driver.compile_image(
        loaded.image, profiles=chosen(profiles), override=mkosi_override, observers=observers
    )
    written = driver.write_compilation(compilation, out, force=force)
    report_warnings(compilation.diagnostics)
    if time_passes:
        click.echo(timing.table(), nl=False, err=True)
    if output_format == "json":
        import json

        summary = {"output": str(out), "recipe_digest": f"sha256:{compilation.recipe_digest}",
                   "written": written.written, "removed": written.removed, "unchanged": written.unchanged}  # fmt: skip
        click.echo(json.dumps(summary, indent=2))
        return
    changes = f"{len(written.written)} written, {len(written.removed)} removed, {written.unchanged} unchanged"
    click.echo(f"{out}: {changes}\nrecipe sha256:{compilation.recipe_digest}")


def _known_pass(name: str) -> str:
    from tdxc.diagnostics import nearest
    from tdxc.driver import pass_names

    if name != "all" and name not in pass_names():
        close = nearest(name, pass_names())
        raise click.BadParameter(
            f"no pass is called '{name}'." + (f" Did you mean '{close}'?" if close else " See `tdxc passes`."),
            param_hint="--dump-ir-after",
        )
    return name
