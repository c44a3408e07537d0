"""``tdxc explain``: why a thing is as it is. A code needs no recipe; all else is looked up in the compiled one."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import click

from tdxc.cli.recipe import chosen, format_option, open_recipe, profile_option

if TYPE_CHECKING:
    from tdxc.diagnostics import DiagnosticError

_REGISTER = re.compile(r"mrtd|rtmr[0-3]|pcr(?:1?[0-9]|2[0-3])", re.ASCII | re.IGNORECASE)


@click.command("explain")
@click.argument("topic")
@click.argument("recipe", metavar="[RECIPE]", required=False)
@profile_option()
@click.option("--mkosi-override", type=click.Path(path_type=Path, exists=True, file_okay=False),
              help="With the topic `overrides`: the folder to explain.")  # fmt: skip
@format_option("text", "json")
def command(
    topic: str, recipe: str | None, profiles: tuple[str, ...], mkosi_override: Path | None, output_format: str
) -> None:
    """Say why TOPIC is in the image of RECIPE, or is not.

    TOPIC is a unit (app.service), a path in the image (/etc/motd), a package, a user, a boot step, a kernel option
    (CONFIG_TSM_REPORTS), a kernel argument (console) or module (virtio_net.ko), or `debloat` for all that is kept and
    removed, or `overrides` for what --mkosi-override changes. A diagnostic code (E_PATH) needs no RECIPE.

    TOPIC may also be a register (mrtd, rtmr2, pcr11): then RECIPE may be a manifest or the output folder of a bake,
    build/output by default, and the answer is the register's events with what each stems from.
    """
    text = _answer(topic, recipe, profiles, mkosi_override)
    if output_format == "json":
        import json

        text = json.dumps({"topic": topic, "explanation": text}, indent=2, ensure_ascii=False)
    click.echo(text)


def _answer(topic: str, recipe: str | None, profiles: tuple[str, ...], mkosi_override: Path | None) -> str:
    from tdxc.diagnostics import Code

    if topic in Code.__members__:
        from tdxc.diagnostic_texts import TEXTS

        return f"{topic}\n\n{click.wrap_text(TEXTS[Code(topic)], 100)}"
    if _REGISTER.fullmatch(topic):
        return _register(topic, recipe or "build/output")
    if recipe is None:
        raise _unknown(topic, "give the recipe too: tdxc explain TOPIC RECIPE")
    return _overrides(recipe, mkosi_override) if topic == "overrides" else _in_image(topic, recipe, profiles)


def _register(name: str, reference: str) -> str:
    from tdxc_runtime.measure.events import Register

    from tdxc import manifests
    from tdxc.cli.measure import find_artifact

    return manifests.explain_register(manifests.load_manifest(find_artifact(reference)), Register.parse(name))


def _in_image(topic: str, recipe: str, profiles: tuple[str, ...]) -> str:
    from tdxc import driver, explain

    compiled, _warnings = driver.analyse(open_recipe(recipe).image, profiles=chosen(profiles))
    answer = explain.explain(compiled.image, topic)
    if not answer:
        having = next((variant for variant in compiled.variants if explain.explain(variant, topic)), None)
        fix = "`tdxc show units|files|packages|kernel RECIPE` lists what there is"
        raise _unknown(topic, f"a profile has it: --profile {having.profiles[0]}" if having else fix)
    return answer


def _overrides(recipe: str, folder: Path | None) -> str:
    from tdxc import driver
    from tdxc.overrides import explain_override

    if folder is None:
        raise click.UsageError("`explain overrides` needs --mkosi-override DIRECTORY")
    return explain_override(driver.compile_image(open_recipe(recipe).image).tree, folder)


def _unknown(topic: str, fix: str) -> DiagnosticError:
    from tdxc.diagnostics import Code, DiagnosticError, nearest

    if topic.startswith(("E_", "W_")):
        close = nearest(topic, Code.__members__)
        what, fix = "is not a diagnostic code", f"did you mean {close}?" if close else "docs/diagnostics.md lists them"
    else:
        what = "names nothing in the image"
    return DiagnosticError.of(Code.E_REFERENCE, f"'{topic}' {what}", fix=fix)
