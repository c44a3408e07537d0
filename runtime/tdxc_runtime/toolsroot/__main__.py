"""``python3 -m tdxc_runtime.toolsroot -- COMMAND`` runs a command in the tools root, on this terminal.

What error messages of this package name to run a failed command again, and a way to look around.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from tdxc.diagnostics import DiagnosticError

from tdxc_runtime.process import Bind, start
from tdxc_runtime.toolsroot.contents import DEFAULT_SUITE
from tdxc_runtime.toolsroot.root import ToolsRoot


def main() -> int:
    """Parse, enter, and return the command's exit status; 3 when the root cannot be had."""
    parser = argparse.ArgumentParser(
        prog="python3 -m tdxc_runtime.toolsroot", description="Run a command in the tools root."
    )
    parser.add_argument("--suite", default=DEFAULT_SUITE, help="Debian suite of the root")
    for name in ("--bind", "--bind-read-only"):
        parser.add_argument(
            name,
            nargs=2,
            action="append",
            default=[],
            type=Path,
            metavar=("SOURCE", "TARGET"),
            help="show SOURCE of this machine as TARGET inside",
        )
    parser.add_argument("--cwd", type=Path, default=Path("/"), help="working folder inside")
    parser.add_argument("command", nargs="*", default=["bash"], help="a shell by default")
    options = parser.parse_args()
    binds = [Bind(source=source.absolute(), target=target, writable=True) for source, target in options.bind]
    binds += [Bind(source=source.absolute(), target=target) for source, target in options.bind_read_only]
    try:
        root = ToolsRoot.ensure(suite=options.suite, progress=lambda text: print(text, file=sys.stderr))  # noqa: T201
        confinement = root.confinement(binds=binds, devices=("kvm", "fuse"))
        with start(
            options.command, cwd=options.cwd, env=root.environment(), interactive=True, confinement=confinement
        ) as running:
            return running.finish()
    except DiagnosticError as fault:
        for diagnostic in fault.diagnostics:
            print(f"{diagnostic.code}: {diagnostic.message}\n{diagnostic.fix}", file=sys.stderr)  # noqa: T201
        return 3


if __name__ == "__main__":
    sys.exit(main())
