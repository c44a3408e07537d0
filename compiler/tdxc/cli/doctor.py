"""``tdxc doctor``: what of this machine works, and the exact fix for what does not."""

from __future__ import annotations

import click

from tdxc.cli.recipe import format_option

_MARKS = {"ok": ("ok", "green"), "warn": ("warning", "yellow"), "fail": ("missing", "red")}


@click.command("doctor")
@format_option("text", "json")
@click.pass_context
def command(ctx: click.Context, output_format: str) -> None:
    """Check what bakes and boots need. Exit status 3 when something is missing that a bake cannot do without."""
    from tdxc_runtime.doctor import examine

    findings = examine()
    if output_format == "json":
        import json

        rows = [{"name": f.name, "status": f.status.value, "detail": f.detail, "fix": f.fix or None} for f in findings]
        click.echo(json.dumps(rows, indent=2))
    else:
        for finding in findings:
            word, colour = _MARKS[finding.status.value]
            click.echo(f"{click.style(f'{word:<8}', fg=colour)} {finding.name:<18} {finding.detail}")
            if finding.fix and finding.status.value != "ok":
                click.echo(f"{'':<28}fix: {finding.fix}")
    if any(finding.status.value == "fail" for finding in findings):
        ctx.exit(3)
