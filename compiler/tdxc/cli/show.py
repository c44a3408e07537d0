"""``tdxc show``: one stage or aspect of a recipe, as text for people or JSON for tools."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from tdxc.cli.recipe import chosen, format_option, open_recipe, profile_option
from tdxc.ir import ResolvedImage, ResolvedKernel

ASPECTS = ("ir", "authored", "passes", "packages", "units", "boot", "kernel", "firewall", "files", "firmware", "size")


@click.command("show")
@click.argument("aspect", metavar="ASPECT", type=click.Choice(ASPECTS))
@click.argument("recipe", metavar="RECIPE")
@profile_option()
@click.option("--svg", type=click.Path(path_type=Path, dir_okay=False), help="With `boot`: also draw the graph here.")
@format_option("text", "json")
def command(aspect: str, recipe: str, profiles: tuple[str, ...], svg: Path | None, output_format: str) -> None:
    """Show one ASPECT of RECIPE.

    ASPECT is `packages`, `units`, `boot` (the order in which units start), `kernel`, `firewall` or `files`, each with
    the reason for it; `authored` or `ir` for the whole image before or after the passes; `passes`; `firmware`, with a
    firmware file in place of RECIPE; or `size`, with the output folder of a bake in place of it.
    """
    if svg is not None and aspect != "boot":
        raise click.UsageError("--svg goes with `show boot`")
    if aspect == "firmware":
        from tdxc.cli.firmware import show_firmware

        show_firmware(Path(recipe), output_format)
    elif aspect == "size":
        _print_rows(_sizes(Path(recipe)), output_format)
    elif aspect == "authored":
        _print_ir(open_recipe(recipe).image, output_format)
    else:
        _show_resolved(aspect, recipe, chosen(profiles), svg, output_format)


def _show_resolved(
    aspect: str, recipe: str, profiles: tuple[str, ...] | None, svg: Path | None, output_format: str
) -> None:
    from tdxc import driver

    image = driver.analyse(open_recipe(recipe).image, profiles=profiles)[0].image
    if svg is not None:
        from tdxc_emitters.systemd.graph import boot_graph_svg

        from tdxc.writer import write_whole

        write_whole(svg, boot_graph_svg(image))
    if aspect == "ir":
        _print_ir(image, output_format)
    elif aspect == "passes":
        _print_rows([{"pass": name, "does": text} for name, text in driver.pass_descriptions()], output_format)
    else:
        _print_rows(_ROWS[aspect](image), output_format)


def _print_ir(image: Any, output_format: str) -> None:
    from tdxc.ir import codec
    from tdxc.ir.printer import print_ir

    click.echo(codec.dumps(image) if output_format == "json" else print_ir(image), nl=False)


def _print_rows(rows: list[dict[str, str]], output_format: str) -> None:
    if output_format == "json":
        import json

        click.echo(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        click.echo("(none)")
        return
    keys = list(rows[0])
    widths = {key: max(len(row[key]) for row in rows) for key in keys}
    for row in rows:
        click.echo("  ".join(row[key].ljust(widths[key]) for key in keys).rstrip())


def _sizes(output: Path) -> list[dict[str, str]]:
    """What takes the space of a baked image: the UKI's parts, then the initrd's folders before compression."""
    from tdxc_runtime.initrd import read_cpio, size_by_folder, unpacked

    from tdxc.diagnostics import Code, DiagnosticError

    parts = [path for suffix in (".efi", ".vmlinuz", ".initrd") for path in sorted(output.glob(f"*{suffix}"))]
    initrd = next((path for path in parts if path.suffix == ".initrd"), None)
    if initrd is None:
        raise DiagnosticError.of(
            Code.E_ARTIFACT,
            f"'{output}' holds no initrd",
            fix="bake first: tdxc build RECIPE -o DIR, then show size DIR",
        )
    sizes = [(path.name, path.stat().st_size) for path in parts]
    sizes += size_by_folder(read_cpio(memoryview(unpacked(initrd)), name=initrd.name))
    return [{"MB": f"{size / 1e6:8.2f}", "what": name} for name, size in sizes if size >= _SHOWN_BYTES]


_SHOWN_BYTES = 10_000


def _packages(image: ResolvedImage) -> list[dict[str, str]]:
    from tdxc.explain import because

    rows = [{"package": p.name, "for": "image", "why": because(p)} for p in image.packages]
    return rows + [{"package": p.name, "for": "build", "why": because(p)} for p in image.build_packages]


def _units(image: ResolvedImage) -> list[dict[str, str]]:
    from tdxc.explain import because

    return [{"unit": u.name, "started by": ", ".join(u.wanted_by) or "-", "why": because(u)} for u in image.units]


def _boot(image: ResolvedImage) -> list[dict[str, str]]:
    from tdxc.passes.order_units import boot_order

    return [
        {"#": str(number), "what": row.name, "waits for": ", ".join(row.after) or "-"}
        for number, row in enumerate(boot_order(image), 1)
    ]


def _kernel(image: ResolvedImage) -> list[dict[str, str]]:
    from tdxc.explain import because

    kernel = image.kernel
    rows = [{"what": "package", "value": kernel.package, "why": because(kernel)}] if kernel.package else []
    rows += [{"what": "version", "value": kernel.version, "why": "built from source"}] if kernel.version else []
    rows += [{"what": "argument", "value": a.text, "why": because(a)} for a in kernel.cmdline]
    options = sorted((*kernel.options, *kernel.base_options), key=lambda option: option.name)
    rows += [{"what": f"CONFIG_{o.name}", "value": o.value, "why": because(o)} for o in options]
    return rows + _hardening(kernel)


def _hardening(kernel: ResolvedKernel) -> list[dict[str, str]]:
    """Recommendations that are not met by a kernel from source, and how many are; of another kernel we know nothing."""
    from tdxc.ir import KernelSource

    if kernel.source is not KernelSource.SOURCE:
        why = "as the distribution configures it; of a kernel from source, known recommendations are listed here"
        return [{"what": "hardening", "value": "", "why": why}]
    from tdxc.passes.kernel_hardening import hardening_verdicts, summary

    verdicts = hardening_verdicts(kernel)
    rows = [{"what": "hardening", "value": "", "why": f"of {len(verdicts)} known recommendations: {summary(verdicts)}"}]
    for recommendation, state, reason in verdicts:
        if state != "met":
            wanted = f"{recommendation.value} {state}"
            why = f"{reason} ({recommendation.source})"
            rows.append({"what": f"hardening: CONFIG_{recommendation.option}", "value": wanted, "why": why})
    return rows


def _firewall(image: ResolvedImage) -> list[dict[str, str]]:
    return [
        {
            "verdict": rule.verdict.value,
            "protocol": rule.protocol.value,
            "ports": ", ".join(f"{p.first}" if p.first == p.last else f"{p.first}-{p.last}" for p in rule.ports)
            or "any",
            "from": rule.source or "anywhere",
            "where": str(rule.span),
        }
        for rule in image.network.rules or ()
    ]


def _files(image: ResolvedImage) -> list[dict[str, str]]:
    from tdxc.explain import because

    rows = [(f.path, f"{f.mode:04o} {f.owner}:{f.group}", because(f)) for f in image.files]
    rows += [(d.path + "/", f"{d.mode:04o} {d.owner}:{d.group}", because(d)) for d in image.directories]
    rows += [(link.path, f"-> {link.target}", because(link)) for link in image.symlinks]
    return [{"path": path, "mode": mode, "why": why} for path, mode, why in sorted(rows)]


_ROWS: dict[str, Callable[[ResolvedImage], list[dict[str, str]]]] = {
    "packages": _packages,
    "units": _units,
    "boot": _boot,
    "kernel": _kernel,
    "firewall": _firewall,
    "files": _files,
}
