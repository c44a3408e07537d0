"""What an uncaught diagnostic looks like under ``python recipe.py``: as ``tdxc`` prints it, without a traceback."""

from __future__ import annotations

import sys
from pathlib import Path
from types import TracebackType

from tdxc.diagnostics import DiagnosticError


def install() -> None:
    """Handle DiagnosticError, and no other exception, at the top of the program."""
    following = sys.excepthook

    def show(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        if not isinstance(error, DiagnosticError):
            following(kind, error, trace)
            return
        from tdxc.render import render_diagnostics

        from tdx._load import sources_below

        sys.stderr.write(render_diagnostics(error.diagnostics, sources_below(_recipe_folder())))
        sys.stderr.flush()
        raise SystemExit(error.exit_status)

    sys.excepthook = show


def _recipe_folder() -> Path:
    main = sys.modules.get("__main__")
    file = getattr(main, "__file__", None)
    return Path(file).resolve().parent if file else Path.cwd()
