"""The program ``tdxc``: the command line with the garbage collector off, also as ``python -m tdxc.cli``.

A command ends before its cyclic garbage adds up, and looking for it, mostly while modules load, takes a tenth of a
compile. So it is switched off before anything else is imported.
"""

from __future__ import annotations

import gc


def main() -> None:
    """Run the command line on ``sys.argv`` and exit with its status."""
    gc.disable()
    import sys

    from tdxc.cli.main import run_program

    status = run_program(sys.argv[1:])
    gc.freeze()  # the interpreter's own collection at exit would walk everything that the process is about to drop
    sys.exit(status)


if __name__ == "__main__":
    main()
