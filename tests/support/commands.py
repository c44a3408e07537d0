"""Running tdxc as its users do: in a process of its own or, much faster, in this one behind the same boundary."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
from click.testing import CliRunner
from tdxc.cli.boundary import run
from tdxc.cli.main import tdxc

ROOT = Path(__file__).resolve().parents[2]
EXAMPLES = ROOT / "examples"
BASIC = EXAMPLES / "qemu_basic.py"
PROGRAM = [sys.executable, "-m", "tdxc.cli"]
QUICKLY = ["--mkosi-override", str(ROOT / "tests/recipes/quick")]
"""For ``tdxc build``: with less compression, where the size of the image does not matter."""


@attrs.frozen(kw_only=True)
class Outcome:
    """What a command left behind: exit status and both streams as text."""

    status: int
    out: str
    err: str

    def data(self) -> Any:
        """Standard output as the one JSON document that it must be."""
        return json.loads(self.out)

    def diagnostics(self) -> list[dict[str, Any]]:
        """Standard error as one JSON object per line."""
        return [json.loads(line) for line in self.err.splitlines()]


def invoke(*arguments: str | Path) -> Outcome:
    """Run in this process, in the current folder, with captured streams that are no terminal."""
    with CliRunner().isolation() as streams:
        status = run(tdxc, [str(argument) for argument in arguments])
        out, err = (stream.getvalue().decode() for stream in streams[:2])
    assert "Traceback" not in out + err
    return Outcome(status=status, out=out, err=err)


def process(*arguments: str | Path, cwd: Path, **variables: str) -> Outcome:
    """Run as a program of its own; ``variables`` go into its environment."""
    finished = subprocess.run(
        [*PROGRAM, *map(str, arguments)], cwd=cwd, env={**os.environ, **variables}, capture_output=True, timeout=120
    )
    outcome = Outcome(status=finished.returncode, out=finished.stdout.decode(), err=finished.stderr.decode())
    assert "Traceback" not in outcome.out + outcome.err
    return outcome


def state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, modification time and mode of everything below a folder: any write would change it."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[path.relative_to(folder).as_posix()] = (status.st_ino, status.st_mtime_ns, status.st_mode)
    return found


SMALL = """\
from tdx import Image

img = Image("small", base="debian/trixie")
img.install("ca-certificates")
img.user("app", system=True)
img.file("/usr/bin/app", content="#!/bin/sh\\nexec sleep infinity\\n", mode=0o755)
img.service("app", exec="/usr/bin/app", user="app")
img.on_boot("true", name="prepare")
img.network(firewall_rules=["ACCEPT tcp 8080", "DROP all"])
img.debloat(enabled=True)
with img.profile("dev"):
    img.install("strace")
"""

BAD = """\
from tdx import Image

img = Image("bad", bse="debian/trixie")
img.file("etc/motd", content="hi")
"""


def project(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make ``folder`` the current one, with ``small.py`` (fine, no warnings) and ``bad.py`` (two errors) in it."""
    monkeypatch.chdir(folder)
    (folder / "small.py").write_text(SMALL)
    (folder / "bad.py").write_text(BAD)
    return folder
