"""A recipe's sources that a bake fetches from a server here: a tarball with a patch, and a git repository."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import http.server
import io
import os
import subprocess
import tarfile
import threading
from collections.abc import Iterator
from pathlib import Path

_PATCH = """\
--- a/data/words.txt
+++ b/data/words.txt
@@ -1,2 +1,3 @@
+apple
 pear
 fig
"""

_PROGRAM = """\
#!/bin/sh
# What became of the artifacts of another build.
cat /opt/words/sub/words.txt /opt/words/own.txt | tr '\\n' ' '
stat --format='%n=%a:%U:%G' /opt /opt/words /opt/words/* /opt/words/sub/* /etc/words.key | tr '\\n' ' '
echo
"""

_BUILDS = """
from tdx import artifact, git, tarball

img.user("keeper", system=True)
img.file("/opt/words/own.txt", content="recipe\\n", mode=0o640)
img.build(
    Build.script(
        "words",
        src=tarball("{address}/words.tar.gz", sha256="{sha256}", subdir="data"),
        patches=["words.patch"],
        build_script="mkdir -p all/sub; sort words.txt > all/sub/words.txt; echo made > all/own.txt; touch key helper",
        artifacts={{
            "all": artifact("/opt/words", owner="keeper", group="keeper"),
            "helper": artifact("/opt/words/helper", mode=0o4755),
            "key": artifact("/etc/words.key", mode=0o600),
        }},
    ),
    Build.script(
        "show-words",
        src=git("{address}/show.git", rev="{commit}"),
        build_script="chmod +x show",
        artifacts={{"show": "/bin/show-words"}},
    ),
)
img.service(
    "show-words",
    exec="/usr/bin/show-words",
    type="oneshot",
    extra_unit={{"Service": {{"StandardOutput": "journal+console"}}}},
)
"""


@contextlib.contextmanager
def fetched_sources(recipe_folder: Path, served: Path) -> Iterator[str]:
    """The lines of a recipe that add the builds ``words`` and ``show-words``, while their server runs.

    ``recipe_folder`` gets the patch. The server hands out files alone, so that git finds no single commit there.
    """
    served.mkdir()
    sha256 = _tarball(served / "words.tar.gz")
    commit = _repository(served / "show.git")
    (recipe_folder / "words.patch").write_text(_PATCH)
    handler = functools.partial(_QuietHandler, directory=str(served))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        address = f"http://127.0.0.1:{server.server_port}"
        yield _BUILDS.format(address=address, sha256=sha256, commit=commit[:10])
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


class _QuietHandler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None: ...


def _tarball(path: Path) -> str:
    """An archive whose one folder has another one; gives its SHA-256."""
    text = b"pear\nfig\n"
    with tarfile.open(path, "w:gz") as archive:
        member = tarfile.TarInfo("words-1.0/data/words.txt")
        member.size = len(text)
        archive.addfile(member, io.BytesIO(text))
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _repository(path: Path) -> str:
    """A bare repository as a server of plain files needs it (git-update-server-info(1)); gives its commit."""
    work = path.with_suffix(".work")
    work.mkdir()
    (work / "show").write_text(_PROGRAM)
    settings = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    commands = (
        ["init", "--quiet", "--initial-branch=trunk", "."],
        ["add", "."],
        [*settings, "commit", "--quiet", "--message=show"],
        ["clone", "--quiet", "--bare", ".", str(path)],
        ["--git-dir", str(path), "update-server-info"],
    )
    env = {**os.environ, "GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_SYSTEM": os.devnull}
    for command in commands:
        subprocess.run(["git", *command], cwd=work, check=True, env=env)
    command = ["git", "rev-parse", "HEAD"]
    return subprocess.run(command, cwd=work, check=True, capture_output=True, text=True).stdout.strip()
