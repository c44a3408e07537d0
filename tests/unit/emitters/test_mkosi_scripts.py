"""Scripts of the recipe in the phases of the build."""

from __future__ import annotations

from typing import Any

from support.resolved_images import SPAN, resolved_image
from tdxc.ir import CompiledImage, Script, ScriptPhase
from tdxc.tree import FileTree
from tdxc_emitters import emit_image


def emitted(**changes: Any) -> FileTree:
    return emit_image(CompiledImage(span=SPAN, image=resolved_image(**changes)))


def test_scripts_without_network() -> None:
    assert "WithNetwork=no" in emitted().text("mkosi.conf")


def test_shell_text_runs_inside_and_keeps_recipe_order() -> None:
    scripts = tuple(
        Script(span=SPAN, phase=ScriptPhase.POSTINST, name=name, text=f"echo {name}\n") for name in ("Zz top", "aa")
    )
    tree = emitted(scripts=scripts)
    conf = tree.text("mkosi.conf")
    assert conf.index("20-postinst-zz-top.sh") < conf.index("21-postinst-aa.sh")
    text = tree.text("scripts/20-postinst-zz-top.sh")
    assert text.startswith("#!/bin/bash\n# Run 'Zz top'")
    assert "set -euo pipefail\n" in text
    assert 'exec mkosi-chroot "$CHROOT_SCRIPT" "$@"' in text
    assert text.endswith("\necho Zz top\n")


def test_finalize_and_postoutput_run_beside_the_image() -> None:
    scripts = tuple(
        Script(span=SPAN, phase=phase, name="x", text="true")
        for phase in (ScriptPhase.FINALIZE, ScriptPhase.POSTOUTPUT)
    )
    tree = emitted(scripts=scripts)
    assert "mkosi-chroot" not in tree.text("scripts/20-finalize-x.sh") + tree.text("scripts/20-postoutput-x.sh")
    assert "PostOutputScripts=\n        scripts/20-postoutput-x.sh" in tree.text("mkosi.conf")


def test_script_with_an_interpreter_is_kept_as_it_is() -> None:
    text = "#!/usr/bin/env python3\nprint('$HOME')\n"
    tree = emitted(scripts=(Script(span=SPAN, phase=ScriptPhase.POSTINST, name="p", text=text),))
    assert tree.text("scripts/recipe/20-postinst-p") == text
    assert '"$layer/scripts/recipe/20-postinst-p"' in tree.text("scripts/20-postinst-p.sh")


def test_name_cannot_break_out_of_the_comment() -> None:
    script = Script(span=SPAN, phase=ScriptPhase.POSTINST, name="x\nrm -rf /", text="true")
    lines = emitted(scripts=(script,)).text("scripts/20-postinst-x-rm-rf.sh").splitlines()
    assert lines[1] == "# Run 'x rm -rf /' of the recipe inside the image."
