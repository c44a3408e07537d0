"""Scripts that a recipe brings: shell text for a phase of the build.

mkosi runs a script beside the image, with the tools of the build host; ours that belong inside begin by running
themselves again through ``mkosi-chroot`` (mkosi(1), "Scripts"), where the image is ``/`` and the tree ``$SRCDIR``.
"""

from __future__ import annotations

import re

from tdxc.ir import Distribution, ResolvedImage, Script, ScriptPhase
from tdxc.tree import FileTree, TreeFile

from tdxc_emitters.mkosi.project import Phase, PhaseScript, origin_of

_FIRST_RANK = 20
"""Recipe scripts come behind those that complete the root file system, and before debloat and clean-up."""

_INSIDE_PHASES = frozenset({ScriptPhase.PREPARE, ScriptPhase.BUILD, ScriptPhase.POSTINST})


def recipe_scripts(image: ResolvedImage) -> tuple[PhaseScript, ...]:
    """One script for each script node of the image, in the order of the recipe within each phase."""
    shell = _shell(image)
    ranks: dict[ScriptPhase, int] = {}
    found = []
    for script in image.scripts:
        rank = ranks.setdefault(script.phase, _FIRST_RANK)
        ranks[script.phase] += 1
        found.append(_recipe_script(script, rank, shell))
    return tuple(found)


def slug(name: str, fallback: str) -> str:
    """A name as part of a file name: lower-case letters, digits and dashes."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:40].strip("-") or fallback


def _shell(image: ResolvedImage) -> str:
    return "sh" if image.base.distribution is Distribution.ALPINE else "bash"


def _recipe_script(script: Script, rank: int, shell: str) -> PhaseScript:
    inside = script.phase in _INSIDE_PHASES
    what = slug(script.name, "run")
    place = "inside the image" if inside else "beside the image ($BUILDROOT)"
    attachments, body = FileTree(), script.text
    if script.text.startswith("#!"):
        path = f"scripts/recipe/{rank:02}-{script.phase.value}-{what}"
        text = script.text if script.text.endswith("\n") else script.text + "\n"
        attachments = FileTree({path: TreeFile.text(text, executable=True, origin=origin_of(script))})
        body = f'"$layer/{path}"'
    return PhaseScript(
        phase=Phase(script.phase.value),
        rank=rank,
        what=what,
        purpose=f"Run '{script.name}' of the recipe {place}.",
        body=body,
        inside=inside,
        shell=shell if inside else "bash",
        attachments=attachments,
        origin=origin_of(script, "a script of the recipe"),
    )
