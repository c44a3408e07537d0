"""Encrypted disks in machines: made at the first boot, opened by themselves at the second, and by no other image.

A host can do to a disk whatever it wants: what it has spoiled is refused with words, and never formatted over.
"""

from __future__ import annotations

import random
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.commands import PROGRAM, QUICKLY
from support.guest_disk import (
    RECIPE,
    Place,
    cut_off,
    direct,
    kill_behind,
    null_cipher,
    oversized,
    rewrite_headers,
    said,
    settle,
    with_one_more_file,
)
from tdxc_runtime.toolsroot import ToolsRoot
from tdxc_runtime.vm import ConsoleLine, UkiOnDisk

KILLS = 10
"""How often the power is cut while the disk is formatted."""

FORMAT_S = 6.0

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def uki(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The image, baked once."""
    folder = tmp_path_factory.mktemp("guest-disk")
    (folder / "recipe.py").write_text(RECIPE)
    subprocess.run([*PROGRAM, "build", "recipe.py", *QUICKLY], cwd=folder, check=True)
    return folder / "build" / "output" / "guest-disk.efi"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place.new(tmp_path_factory.mktemp("disks") / "first")


@pytest.fixture(scope="module")
def first(uki: Path, place: Place) -> list[ConsoleLine]:
    """The first boot on an empty disk."""
    return settle(place, UkiOnDisk(uki=uki))


@pytest.fixture(scope="module")
def second(uki: Path, place: Place, first: list[ConsoleLine]) -> list[ConsoleLine]:
    """The same image on the same disk once more."""
    return settle(place, UkiOnDisk(uki=uki))


def test_the_first_boot_makes_the_key_and_the_disk(first: list[ConsoleLine]) -> None:
    text = said(first)
    marks = [
        "step 0010-00-key-generation",
        "make and seal",
        "step 0020-00-disk-encryption",
        "disk: format",
        "witness: boot 1 ",
    ]
    places = [text.index(mark) for mark in marks]
    assert places == sorted(places)
    assert "FAILED" not in text


def test_no_key_is_ever_shown(first: list[ConsoleLine], second: list[ConsoleLine]) -> None:
    for text in (said(first), said(second)):
        assert "value=[secret]" in text
        assert not re.search(r"key[^\n]*[0-9a-f]{128}", text)


def test_the_second_boot_opens_the_disk_by_itself_with_its_data(second: list[ConsoleLine]) -> None:
    text = said(second)
    assert "witness: boot 2 of this disk" in text
    assert "disk: format" not in text
    assert "FAILED" not in text


def test_another_image_gets_no_key_and_leaves_the_data(
    uki: Path, place: Place, second: list[ConsoleLine], tmp_path: Path
) -> None:
    copy = place.copy(tmp_path / "copy")
    before = copy.digest()
    other = with_one_more_file(ToolsRoot.ensure(), uki, tmp_path / "other.efi")
    text = said(settle(copy, UkiOnDisk(uki=other)))
    assert re.search(r"runtime-init: step 0010-00-key-generation FAILED", text)
    assert "REFUSED" in text
    assert "what to do" in text
    assert "witness: boot" not in text
    assert copy.digest() == before
    again = said(settle(copy, UkiOnDisk(uki=uki)))
    assert "witness: boot 3 of this disk" in again


HOSTILE: dict[str, Callable[[Path], None]] = {
    "null cipher": lambda disk: rewrite_headers(disk, null_cipher),
    "oversized": lambda disk: rewrite_headers(disk, oversized),
    "cut off": cut_off,
}


@pytest.mark.parametrize("name", sorted(HOSTILE))
def test_hostile_headers_are_refused_with_words_and_not_formatted_over(
    uki: Path, place: Place, second: list[ConsoleLine], tmp_path: Path, name: str
) -> None:
    copy = place.copy(tmp_path / "copy")
    HOSTILE[name](copy.disk)
    before = copy.digest()
    text = said(settle(copy, UkiOnDisk(uki=uki)))
    assert "REFUSED" in text
    assert "what to do" in text
    assert "disk: format" not in text
    assert "witness: boot" not in text
    assert copy.digest() == before


def test_a_power_cut_while_formatting_is_recovered_from(uki: Path, tmp_path: Path) -> None:
    started = direct(uki, tmp_path / "kernel")
    place = Place.new(tmp_path / "cut")
    chance = random.Random(20251122)
    for number in range(KILLS):
        delay = chance.uniform(0.0, FORMAT_S)
        print(f"cut {number + 1} of {KILLS}: {delay:.2f} s behind the beginning of the format")
        text = said(kill_behind(place, started, r"disk: format |witness: boot", delay))
        assert "REFUSED" not in text
        if "witness: boot" in text:
            place = Place.new(tmp_path / f"cut-{number}")
    text = said(settle(place, started))
    assert "witness: boot 1 of this disk" in text
    assert "FAILED" not in text
