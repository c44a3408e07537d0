"""``tdxc`` and ``tdx``: the group of commands, loaded lazily so that ``--help`` costs little more than click itself."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

import click

from tdxc import __version__

if TYPE_CHECKING:
    pass

COMMANDS: dict[str, tuple[str, str]] = {
    "init": ("init", "Write a first recipe to start from."),
    "check": ("check", "Report everything wrong with a recipe."),
    "compile": ("compile", "Compile a recipe into a mkosi tree."),
    "lock": ("lock", "Write the lockfile of a recipe."),
    "build": ("build", "Compile a recipe and bake its image."),
    "cache": ("cache", "List, clean or explain the cache of source builds."),
    "run": ("run", "Boot a baked image in QEMU."),
    "secrets": ("secrets", "Hand secrets to a guest that has proven what it is."),
    "measure": ("measure", "Predict the registers that an image will show."),
    "verify": ("verify", "Check an event log or quote against a manifest."),
    "diff": ("diff", "Say what changes between two recipes, revisions or trees."),
    "show": ("show", "Show one stage or aspect of a recipe."),
    "explain": ("explain", "Say why: a code, a unit, a file, an option, a removed thing."),
    "passes": ("passes", "List the passes in order."),
    "schema": ("schema", "Print the JSON Schema of YAML recipes."),
    "doctor": ("doctor", "Check this machine and say how to fix what is missing."),
    "completion": ("completion", "Print a shell completion script."),
}
"""Command name: module below ``tdxc.cli`` and its one-line help. Each module has a click command named ``command``."""


class LazyGroup(click.Group):
    """A group that knows its commands by the table above and imports one only when it runs."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the table: the order in which a user needs them."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import the command's module; None for an unknown name."""
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"tdxc.cli.{COMMANDS[cmd_name][0]}")
        command: click.Command = module.command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Click's, with the nearest name suggested for an unknown command."""
        if args and args[0] not in COMMANDS and not args[0].startswith("-"):
            from tdxc.diagnostics import nearest

            close = nearest(args[0], COMMANDS)
            ctx.fail(f"No such command '{args[0]}'." + (f" Did you mean '{close}'?" if close else ""))
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table itself, without importing any command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_module, text) in COMMANDS.items()])


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="tdxc")
def tdxc() -> None:
    """Compile a short recipe into a reproducible, measured Intel TDX virtual machine image."""


def run_program(argv: list[str]) -> int:
    """The exit status of a command line: 0 fine, 1 the recipe is wrong, 2 usage, 3 environment, 4 a check failed."""
    from tdxc.cli.boundary import run

    return run(tdxc, argv)
