"""Observers of the pipeline: dump the IR after passes, and time them."""

from __future__ import annotations

import difflib
from pathlib import Path

from tdxc import records
from tdxc.ir.printer import print_ir
from tdxc.pipeline import Stage


class TimePasses:
    """Collects wall time by pass, summed over variants, in the order of the first run."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    def after_pass(self, stage: Stage) -> None:
        """Add one stage's time."""
        self.seconds[stage.name] = self.seconds.get(stage.name, 0.0) + stage.seconds

    def table(self) -> str:
        """One line per pass: milliseconds and name, then the sum."""
        rows = [f"{seconds * 1000:9.1f} ms  {name}" for name, seconds in self.seconds.items()]
        return "\n".join([*rows, f"{sum(self.seconds.values()) * 1000:9.1f} ms  all passes"]) + "\n"


@records.frozen
class DumpIr:
    """Writes ``NN-[variant-]PASS.ir`` and a diff to the stage before, for one pass or (``all``) for each."""

    folder: Path
    wanted: str

    def after_pass(self, stage: Stage) -> None:
        """Write the stage if it is wanted."""
        if self.wanted not in {"all", stage.name}:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        stem = "-".join((f"{stage.index:02}", *stage.variant, stage.name))
        before, after = print_ir(stage.before), print_ir(stage.after)
        (self.folder / f"{stem}.ir").write_text(after, encoding="utf-8")
        change = difflib.unified_diff(
            before.splitlines(keepends=True), after.splitlines(keepends=True), "before", f"after {stage.name}"
        )
        (self.folder / f"{stem}.diff").write_text("".join(change), encoding="utf-8")
