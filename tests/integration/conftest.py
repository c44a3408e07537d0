"""What several integration tests share: the bake of the image that shows what its boot measured."""

from __future__ import annotations

import fcntl
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import PROGRAM, QUICKLY, ROOT

Bake = Callable[[str], Path]


@pytest.fixture(scope="session")
def bake(tmp_path_factory: pytest.TempPathFactory) -> Bake:
    """Bake tests/recipes/measured.py with a profile of the recipe, or without one, once; gives the output folder.

    Test processes that run at the same time share these bakes: the first one makes each, and the others wait.
    """
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base

    def once(profile: str) -> Path:
        place = shared / f"measured-{profile or 'image'}"
        place.mkdir(exist_ok=True)
        with (place / "lock").open("w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not (place / "baked").exists():
                command = [*PROGRAM, "build", str(ROOT / "tests/recipes/measured.py"), *QUICKLY]
                subprocess.run([*command, *(["--profile", profile] if profile else [])], cwd=place, check=True)
                (place / "baked").touch()
        return place / "build" / "output"

    return once
