"""Scripts of the recipe and builds from source, run by bash for real where that is what matters."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.resolved_images import SPAN, resolved_image
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import Artifact, Blob, CompiledImage, Script, ScriptBuild, ScriptPhase, SourceFile
from tdxc.tree import FileTree
from tdxc.writer import write_tree
from tdxc_emitters import emit_image


def emitted(**changes: Any) -> FileTree:
    return emit_image(CompiledImage(span=SPAN, image=resolved_image(**changes)))


def build(**changes: Any) -> ScriptBuild:
    fields: dict[str, Any] = {
        "span": SPAN,
        "name": "My Tool",
        "build_script": 'printf "%s\\n" "$GREETING" > greeting; mkdir -p data/sub; cp input data/sub/',
        "artifacts": (
            Artifact(span=SPAN, source="greeting", dest="/usr/share/a b/greeting"),
            Artifact(span=SPAN, source="run", dest="/bin/"),
            Artifact(span=SPAN, source="data", dest="/usr/lib/tool"),
        ),
        "source_files": (
            SourceFile(span=SPAN, path="input", content=Blob.of(b"in")),
            SourceFile(span=SPAN, path="run", content=Blob.of(b"#!/bin/sh\n"), executable=True),
        ),
        "environment": (("GREETING", "it's $HOME"),),
    }
    return ScriptBuild(**{**fields, **changes})


def run_build(tree: FileTree, tmp_path: Path, umask: int = 0o022) -> Path:
    """Run the build script as inside the image, with the folder of the build moved below ``tmp_path``."""
    source, dest = tmp_path / "tree", tmp_path / "dest"
    write_tree(tree, source)
    dest.mkdir(exist_ok=True)
    text = tree.text("scripts/10-build-my-tool.sh").replace("/var/lib/tdxc-build", f"{tmp_path}/build")
    env = {"container": "mkosi", "SRCDIR": str(source), "DESTDIR": str(dest), "PATH": "/usr/bin:/bin"}
    subprocess.run(["bash", "-c", text], check=True, env=env, umask=umask)
    return dest


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_build_installs_its_artifacts(tmp_path: Path, umask: int) -> None:
    dest = run_build(emitted(builds=(build(),)), tmp_path, umask)
    assert (dest / "usr/share/a b/greeting").read_text() == "it's $HOME\n"
    assert (dest / "usr/bin/run").stat().st_mode & 0o777 == 0o755
    assert (dest / "usr/lib/tool/sub/input").stat().st_mode & 0o777 == 0o644


def test_build_that_leaves_early_still_installs(tmp_path: Path) -> None:
    early = build(build_script="printf x > greeting; mkdir data; exit 0; echo never")
    assert (run_build(emitted(builds=(early,)), tmp_path) / "usr/share/a b/greeting").read_text() == "x"


@pytest.mark.parametrize("script", ["false", "echo $UNSET", "false | true", "true"])
def test_failing_build_or_missing_artifact_fails(tmp_path: Path, script: str) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run_build(emitted(builds=(build(build_script=script),)), tmp_path)


def test_artifact_outside_of_the_build_is_refused() -> None:
    bad = build(artifacts=(Artifact(span=SPAN, source="../other", dest="/usr/bin/x"),))
    with pytest.raises(DiagnosticError) as caught:
        emitted(builds=(bad,))
    assert caught.value.diagnostics[0].code is Code.E_EMIT


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
