"""What the real systemd 257 of the tools root makes of units: its parsed values, its complaints, its scores."""

from __future__ import annotations

import functools
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tdxc_runtime.process import Bind, Completed
from tdxc_runtime.toolsroot import ToolsRoot

_INSIDE = Path("/mnt")
_AS_NOBODY = "install -d -o 65534 /run/systemd && exec setpriv --reuid=65534 --regid=65534 --clear-groups"
_TARGET = "[Unit]\nDescription=all of the test\nDefaultDependencies=no\nWants={names}\n"


@functools.cache
def tools_root() -> ToolsRoot:
    """The tools root, made at most once a test session."""
    return ToolsRoot.ensure()


def run_inside(argv: list[str], files: Mapping[str, str], *, env: Mapping[str, str] | None = None) -> Completed:
    """Run a tool with ``files`` readable below ``/mnt``; both streams come back as lines, standard output as bytes."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        for path, text in files.items():
            file = folder / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text, encoding="utf-8", newline="")
            file.chmod(0o755 if text.startswith("#!") else 0o644)
        binds = [Bind(source=folder, target=_INSIDE)]
        return tools_root().run(argv, binds=binds, env=env, check=False, capture=True, timeout_s=120)


def load_units(units: Mapping[str, str]) -> dict[str, str]:
    """Each unit's state after systemd's own manager has loaded it, as the text of ``systemd --test``."""
    names = " ".join(sorted(units))
    files = {**units, "default.target": _TARGET.format(names=names)}
    completed = run_inside(
        ["sh", "-c", _AS_NOBODY + " /usr/lib/systemd/systemd --test --system --unit=default.target --no-pager"],
        files,
        env={"SYSTEMD_UNIT_PATH": str(_INSIDE), "HOME": "/tmp", "XDG_RUNTIME_DIR": "/tmp"},
    )
    text = completed.stdout.decode("utf-8", errors="surrogateescape")
    parts = re.split(r"^\t→ Unit (\S+):\n", text.partition("\n-> By jobs:")[0], flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def field(block: str, key: str, following: str = "") -> str:
    """The one value of ``key`` in a unit's block; it runs to the line of ``following`` where it may span lines."""
    end = rf"\n\t\t{re.escape(following)}" if following else r"\n"
    found = re.search(rf"^\t\t{re.escape(key)}: (.*?){end}", block, flags=re.MULTILINE | re.DOTALL)
    return found.group(1) if found else ""


def verify_units(units: Mapping[str, str]) -> list[str]:
    """What ``systemd-analyze verify`` says about the units; nothing for good ones. Programs need not exist."""
    completed = run_inside(
        ["systemd-analyze", "verify", "--man=no", "--generators=no", "--recursive-errors=no",
         *(str(_INSIDE / name) for name in sorted(units))],
        units,
        env={"SYSTEMD_UNIT_PATH": f"{_INSIDE}:"},
    )  # fmt: skip
    lines = [*completed.lines, *completed.stdout.decode().splitlines()]
    return [line for line in lines if "is not executable: No such file or directory" not in line]


def security_scores(units: Mapping[str, str]) -> dict[str, float]:
    """The exposure level of each service as ``systemd-analyze security --offline=true`` computes it."""
    argv = ["systemd-analyze", "security", "--offline=true", "--no-pager"]
    scores = {}
    for name in sorted(units):
        completed = run_inside([*argv, str(_INSIDE / name)], units)
        found = re.search(r"exposure level for (\S+): ([0-9.]+)", completed.stdout.decode())
        assert found, completed.lines
        scores[name] = float(found.group(2))
    return scores
