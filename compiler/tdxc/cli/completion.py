"""``tdxc completion``: what a shell needs to complete tdxc's commands and options."""

from __future__ import annotations

import click


@click.command("completion")
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
@click.option(
    "--program", type=click.Choice(["tdxc", "tdx"]), default="tdxc", show_default=True, help="Name to complete."
)
def command(shell: str, program: str) -> None:
    """Print the completion script for SHELL; for bash: eval "$(tdxc completion bash)"."""
    from click.shell_completion import get_completion_class

    from tdxc.cli.main import tdxc

    completion_class = get_completion_class(shell)
    if completion_class is None:
        raise click.ClickException(f"click has no completion for {shell}")
    click.echo(completion_class(tdxc, {}, program, f"_{program.upper()}_COMPLETE").source())
