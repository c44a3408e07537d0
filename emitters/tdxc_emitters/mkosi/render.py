"""A project, or a profile's part of it, as files."""

from __future__ import annotations

from collections.abc import Iterator

from tdxc import quoting
from tdxc.tree import Entry, FileTree, Origin, TreeBuilder, TreeFile

from tdxc_emitters.mkosi.ini import render_settings
from tdxc_emitters.mkosi.project import RULES, MkosiProject, MkosiSetting, Phase, PhaseScript

_INSIDE = """\
if [[ ${container:-} != mkosi ]]; then
    exec mkosi-chroot "$CHROOT_SCRIPT" "$@"
fi
"""

_INSIDE_SH = """\
if [ "${container:-}" != mkosi ]; then
    exec mkosi-chroot "$CHROOT_SCRIPT" "$@"
fi
"""

_RULE_COMMENTS = {
    "suites": "Suites that packages come from, beside those of the release.",
    "debloat-off": "Debloat is off where this file is present.",
    "directories": "Directories to make in the image: mode and path.",
    "modes": "Modes other than 0644 and 0755: mode and path.",
    "artifacts": "Whose the artifacts of builds are: user, group and path; the closest one counts.",
    "owners": "Owners other than root: user, group and path.",
    "keep-binaries": "Programs that stay in the image.",
    "keep-units": "Units that stay in the image.",
    "keep-paths": "Paths and patterns that stay in the image.",
    "keep-modules": "Kernel modules that stay in the image, with what they depend on.",
    "remove-binaries": "Programs, patterns and packages that go.",
    "remove-units": "Units and patterns that go.",
    "remove-paths": "Paths and patterns that go.",
    "remove-modules": "Kernel modules and patterns that go.",
}


def render_project(project: MkosiProject, *, profile: str = "") -> FileTree:
    """All files of a layer, relative to the tree: at the top, or below ``mkosi.profiles/PROFILE`` for a profile."""
    layer = f"mkosi.profiles/{profile}" if profile else ""
    builder = TreeBuilder()
    for path, entry in _entries(project, layer):
        builder.add(f"{layer}/{path}" if layer else path, entry)
    return builder.build()


def render_script(script: PhaseScript, layer: str = "") -> str:
    """The script as it stands in the tree: shebang, what it is for, strict mode, and its body."""
    strict = "set -euo pipefail" if script.shell == "bash" else "set -eu"
    head = f"#!/bin/{script.shell}\n# {quoting.shell_comment(script.purpose)}\n{strict}\n"
    if script.inside:
        head += _INSIDE if script.shell == "bash" else _INSIDE_SH
    if script.uses_layer:
        head += f"layer=$SRCDIR/{quoting.shell_word(layer)}\n" if layer else "layer=$SRCDIR\n"
    return f"{head}\n{script.body.strip(chr(10))}\n"


def script_settings(project: MkosiProject) -> tuple[MkosiSetting, ...]:
    """The settings that name the layer's scripts, one for each phase that has any."""
    found = []
    for phase in Phase:
        own = [script for script in project.ordered_scripts() if script.phase is phase]
        if own:
            found.append(
                MkosiSetting(
                    section="Content",
                    key=phase.setting,
                    values=tuple(quoting.mkosi_path(script.path) for script in own),
                    is_list=True,
                    origin=own[0].origin,
                )
            )
    return tuple(found)


def _entries(project: MkosiProject, layer: str) -> Iterator[tuple[str, Entry]]:
    settings = (*project.settings, *script_settings(project))
    name = quoting.shell_comment(project.name)
    what = f"profile {layer.rpartition('/')[2]} of image {name}" if layer else f"image {name}"
    comment = f"mkosi configuration of {what}, compiled by tdxc: change the recipe, not this file."
    yield "mkosi.conf", TreeFile.text(render_settings(comment, settings), origin=_first_origin(settings))
    for script in project.ordered_scripts():
        yield script.path, TreeFile.text(render_script(script, layer), executable=True, origin=script.origin)
        yield from script.attachments.entries.items()
    for name in sorted({rule.list for rule in project.rules}):
        own = [rule for rule in project.rules if rule.list == name]
        text = f"# {_RULE_COMMENTS[name]}\n" + "".join(f"{line}\n" for line in dict.fromkeys(r.line for r in own))
        yield f"{RULES}/{name}", TreeFile.text(text, origin=own[0].origin)
    yield from project.files.entries.items()


def _first_origin(settings: tuple[MkosiSetting, ...]) -> Origin | None:
    return next((setting.origin for setting in settings if setting.origin is not None), None)
