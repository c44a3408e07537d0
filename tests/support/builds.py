"""Builds from source for tests, authored and resolved, and a way to run their scripts without mkosi."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

from support.resolved_images import SPAN
from tdxc.ir import Artifact, Blob, Build, BuildLanguage, BuildSource, ResolvedBuild, SourceFile, Toolchain
from tdxc.tree import FileTree
from tdxc.writer import write_tree


def local_source(files: dict[str, str] | None = None, **changes: Any) -> BuildSource:
    """A source of the recipe's folder."""
    found = tuple(
        SourceFile(span=SPAN, path=path, content=Blob.of(text.encode())) for path, text in sorted((files or {}).items())
    )
    return BuildSource(**{"span": SPAN, "files": found, **changes})


def authored_build(language: BuildLanguage = BuildLanguage.SCRIPT, **changes: Any) -> Build:
    """A build as a recipe says it: by default a script that makes one file."""
    fields: dict[str, Any] = {
        "span": SPAN,
        "name": "tool",
        "language": language,
        "source": local_source(),
        "toolchain": Toolchain(span=SPAN),
        "artifacts": (Artifact(span=SPAN, source="tool", dest="/usr/bin/tool"),),
        "program": "tool",
        "build_script": "true" if language is BuildLanguage.SCRIPT else "",
    }
    return Build(**{**fields, **changes})


def resolved_build(**changes: Any) -> ResolvedBuild:
    """A build with everything decided: by default a script that makes one file."""
    fields: dict[str, Any] = {
        "span": SPAN,
        "name": "tool",
        "language": BuildLanguage.SCRIPT,
        "source": local_source(),
        "toolchain": Toolchain(span=SPAN),
        "artifacts": (Artifact(span=SPAN, source="source/tool", dest="/usr/bin/tool"),),
        "compile": "true",
    }
    return ResolvedBuild(**{**fields, **changes})


def repository(folder: Path) -> str:
    """A git repository with one commit and a branch; gives the commit."""
    folder.mkdir()
    (folder / "sub").mkdir()
    (folder / "sub/input").write_text("from git\n")
    subprocess.run(["git", "init", "-q", "-b", "trunk"], cwd=folder, check=True)
    commit_all(folder)
    return subprocess.run(
        ["git", "rev-parse", "HEAD"], cwd=folder, check=True, capture_output=True, text=True
    ).stdout.strip()


def commit_all(folder: Path) -> None:
    """Commit what is in a repository."""
    name = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["add", "."], [*name, "commit", "-q", "-m", "x"]):
        subprocess.run(["git", *command], cwd=folder, check=True)


def run_scripts(tree: FileTree, name: str, folder: Path, umask: int = 0o022, *, network: str = "") -> Path:
    """Run ``fetch.sh`` and ``build.sh`` as inside the environment, which is moved below ``folder``.

    ``network``: what the part outside of the environment would have written down.

    Returns the folder of the artifacts; raises CalledProcessError when a script fails.
    """
    source, dest = folder / "tree", folder / "dest"
    write_tree(tree, source)
    dest.mkdir(exist_ok=True)
    (folder / "build" / name).mkdir(parents=True, exist_ok=True)
    (folder / "build" / name / "network").write_text(network)
    env = {"container": "mkosi", "SRCDIR": str(source), "DESTDIR": str(dest), "PATH": "/usr/bin:/bin"}
    for script in ("fetch.sh", "build.sh"):
        text = tree.text(f"mkosi.images/build-{name}/{script}").replace("/var/lib/tdxc-build", f"{folder}/build")
        command = ["bash", "-c", text, script, "build"]
        subprocess.run(command, check=True, env=env, umask=umask, capture_output=True, text=True)
    return dest / "tdxc-artifacts"
