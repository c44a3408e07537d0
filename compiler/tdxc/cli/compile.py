"""``tdxc compile``: a recipe in, a mkosi tree out."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tdxc.cli.recipe import chosen, format_option, open_recipe, profile_option, recipe_argument, report_warnings

if TYPE_CHECKING:
    from tdxc.ir import AuthoredImage
    from tdxc.pipeline import Observer


@click.command("compile")
@recipe_argument
@click.option("-o", "--output", "out", type=click.Path(path_type=Path), required=True, help="Folder of the mkosi tree.")
@profile_option("Compile the image with these profiles, instead of the image and each of them.")
@click.option("--mkosi-override", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="Layer the mkosi.conf and trees of this folder on top.")  # fmt: skip
@click.option("--force", is_flag=True, help="Discard changes made by hand in the output folder.")
@click.option(
    "--dump-ir-after",
    "dump_after",
    metavar="PASS",
    help="Also write the IR after this pass, or 'all'; see `tdxc passes`.",
)
@click.option("--dump-dir", type=click.Path(path_type=Path), default=Path("ir-dump"), show_default=True,
              help="Where --dump-ir-after writes.")  # fmt: skip
@click.option("--time-passes", is_flag=True, help="Also print how long each pass took.")
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
    loaded = open_recipe(recipe)
    observers: list[Observer] = []
    if dump_after:
        from tdxc.observers import DumpIr

        observers.append(DumpIr(dump_dir, _known_pass(dump_after)))
    if time_passes:
        from tdxc.observers import TimePasses

        observers.append(timing := TimePasses())
    compile_to(
        loaded.image, out, chosen(profiles), mkosi_override,
        force=force, output_format=output_format, observers=tuple(observers),
    )  # fmt: skip
    if time_passes:
        click.echo(timing.table(), nl=False, err=True)


def compile_to(
    image: AuthoredImage,
    out: Path,
    profiles: tuple[str, ...] | None,
    override: Path | None,
    *,
    force: bool,
    output_format: str,
    observers: tuple[Observer, ...] = (),
) -> None:
    """Compile, write and say what was done; raises DiagnosticError as the driver does."""
    from tdxc import driver

    compilation = driver.compile_image(image, profiles=profiles, override=override, observers=observers)
    written = driver.write_compilation(compilation, out, force=force)
    report_warnings(compilation.diagnostics, output_format)
    if output_format == "json":
        import json

        summary = {"output": str(out), "recipe_digest": f"sha256:{compilation.recipe_digest}",
                   "written": written.written, "removed": written.removed, "unchanged": written.unchanged}  # fmt: skip
        click.echo(json.dumps(summary, indent=2, ensure_ascii=False))
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
