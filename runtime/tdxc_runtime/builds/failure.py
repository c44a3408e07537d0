"""What a bake was doing when it failed, read off its lines, and the error that says so of a build.

mkosi marks its own steps, and the scripts of a build mark theirs alike (``‣ build NAME: testing``). mkosi begins an
image with ``‣ Building NAME image``; 27.1 puts ``[NAME]`` before each of its lines.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import attrs
from tdxc.diagnostics import Code, DiagnosticError, Note

from tdxc_runtime.process import Completed, describe_status, rerunnable

if TYPE_CHECKING:
    from tdxc_runtime.backends.workplace import Workplace

_SHOWN_LINES = 25
_MARK = re.compile(r"‣ +(?:\[[^]]*\] +)?")
_IMAGE = re.compile(r"Building (?P<image>\S+) image")
_OWN = re.compile(r"build (?P<build>[A-Za-z0-9._-]+): (?P<words>.+)")
_STEPS = {
    "Running prepare script ": "fetching its dependencies",
    "Running build script ": "compiling",
    "Running finalize script ": "packing its artifacts",
    "Running post-output script ": "packing its artifacts",
}
_FIRST_WORDS = "making its environment"


@attrs.frozen
class BuildStep:
    """What is being done for which build; an empty ``build`` is the image itself."""

    build: str = ""
    words: str = _FIRST_WORDS


def next_step(before: BuildStep, line: str) -> BuildStep:
    """The step after a line of mkosi's output: another one where the line begins one."""
    mark = _MARK.match(line)
    if mark is None:
        return before
    text = line[mark.end() :].rstrip()
    if image := _IMAGE.fullmatch(text):
        name = image["image"]
        return BuildStep(name.removeprefix("build-")) if name.startswith("build-") else BuildStep()
    if (own := _OWN.fullmatch(text)) and before.build in {"", own["build"]}:
        return BuildStep(own["build"], own["words"])
    for beginning, words in _STEPS.items():
        if before.build and text.startswith(beginning):
            return BuildStep(before.build, words)
    return before


def build_failure(
    workplace: Workplace, recipe: str, step: BuildStep, completed: Completed, log: Path
) -> DiagnosticError:
    """E_BUILD with the build, its step and last lines, where the log is, and how to get a shell in its environment."""
    folders, seen = workplace.folders, workplace.seen
    shown = [folders.on_host(line, seen) for line in completed.lines[-_SHOWN_LINES:]]
    what = describe_status(completed.status) if completed.status else f"left no build-{step.build}.tar"
    profiles = [word for name in workplace.profiles for word in ("--profile", name)]
    shell = rerunnable(["tdxc", "build", recipe, *profiles, "--debug-shell", step.build])
    return DiagnosticError.of(
        Code.E_BUILD,
        f"build '{step.build}': mkosi {what} while {step.words}",
        notes=tuple(Note(message=line) for line in [*shown, f"the whole log is in {log}"]),
        fix=f"mend what its lines name; for a shell in its environment: {shell}",
    )
