"""What several integration tests share: the bake of the image that shows what its boot measured."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import ROOT

Bake = Callable[[str], Path]

_SHARED_BAKE = ("test_measured_boot", "test_predicted_boots")
"""The files whose tests are of the same bakes."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Tests of one file stay together when they run at the same time as others, as they share bakes and boots."""
    for item in items:
        if item.get_closest_marker("integration"):
            name = item.path.stem
            group = _SHARED_BAKE[0] if name in _SHARED_BAKE else name
            item.add_marker(pytest.mark.xdist_group(group))


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
