"""Declarations of what runs: shell in the phases of a build, programs built from source, and boot steps."""

from __future__ import annotations

import re
from typing import Literal

from tdxc.diagnostics import Code
from tdxc.ir import DEFAULT_PRIORITY, BootStep, Script, ScriptPhase

from tdx import _values as v
from tdx._declarations import Declarations
from tdx._declare import declares
from tdx._source import read_file
from tdx.build import Build

Phase = Literal["prepare", "build", "postinst", "finalize", "postoutput"]


class StepDeclarations(Declarations):
    """``image.run``, ``image.on_boot``, ``image.build`` and their like."""

    @declares
    def run(self, command: v.ShellText, *, phase: Phase = "postinst", name: v.StepName = "") -> None:
        """Run shell text while the image is made; ``phase`` is mkosi's, ``postinst`` being after the packages."""
        self._script(name or f"run-{self._count('run')}", command, phase)

    @declares
    def run_script(
        self, src: v.HostPath, *, phase: Phase = "postinst", name: v.StepName = "", outside: bool = False
    ) -> None:
        """Run a shell script of the recipe's folder while the image is made."""
        source = read_file(self._root, src, outside=outside, span=self._place("src"))
        text = source.text(self._place("src"))
        first, _, rest = text.partition("\n")
        if first.startswith("#!"):
            if not v.SHELL_SHEBANG.fullmatch(first.rstrip()):
                fix = "put the program into the image with file(), and run() it"
                raise self._fault(Code.E_UNSUPPORTED, f"'{source.name}' is not a shell script but {first!r}", fix)
            text = rest
        if not text.strip():
            raise self._fault(Code.E_VALUE, f"the script '{source.name}' is empty")
        stem = source.name.rpartition("/")[2].rpartition(".")[0] or source.name
        self._script(name or re.sub(r"[^A-Za-z0-9._-]+", "-", stem).strip("-.")[:64] or "script", text, phase)

    @declares
    def on_boot(
        self,
        command: v.ShellText,
        *,
        name: v.StepName = "",
        priority: v.Priority = DEFAULT_PRIORITY,
        after: v.StepNames = (),
    ) -> None:
        """Run shell text once at each boot, before the services; lower priorities run first.

        ``after`` names steps that must have run before. A step that fails stops the boot of what depends on it.
        """
        step = BootStep(
            name=name or f"on-boot-{self._count('on-boot')}",
            script=command,
            priority=priority,
            after=tuple(after),
            index=self._count("step") - 1,
            span=self._span,
        )
        self._add("boot_steps", [step])

    @declares
    def build(self, *builds: Build) -> None:
        """Build programs from source into the image."""
        self._add("builds", [build.freeze(self._root) for build in builds])

    def _script(self, name: str, text: str, phase: Phase) -> None:
        self._add("scripts", [Script(phase=ScriptPhase(phase), name=name, text=text, span=self._span)])
