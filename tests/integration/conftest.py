"""What several integration tests share: the bake of the image that shows what its boot measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import ROOT

Bake = Callable[[str], Path]


@pytest.fixture(scope="session")
def bake(tmp_path_factory: pytest.TempPathFactory) -> Bake:
    """Bake tests/recipes/measured.py with a profile of the recipe, or without one, once; gives the output folder."""
    done: dict[str, Path] = {}

    def once(profile: str) -> Path:
        if profile not in done:
            place = tmp_path_factory.mktemp("bake")
            command = [sys.executable, "-m", "tdxc.cli", "build", str(ROOT / "tests/recipes/measured.py")]
            subprocess.run([*command, *(["--profile", profile] if profile else [])], cwd=place, check=True)
            done[profile] = place / "build" / "output"
        return done[profile]

    return once
