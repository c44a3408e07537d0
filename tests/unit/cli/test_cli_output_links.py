"""Links that somebody put into a compiled tree: nothing is ever written through them."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.commands import invoke, project, state


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A compiled tree ``out`` in which ``mkosi.extra/usr`` was replaced by a link to ``elsewhere``."""
    project(tmp_path, monkeypatch)
    invoke("compile", "small.py", "-o", "out")
    elsewhere = tmp_path / "elsewhere"
    (tmp_path / "out/mkosi.extra/usr").rename(elsewhere)
    (elsewhere / "bin/app").unlink()
    (tmp_path / "out/mkosi.extra/usr").symlink_to(elsewhere)
    return tmp_path


def test_a_folder_that_became_a_link_is_refused(folder: Path) -> None:
    before = state(folder)
    outcome = invoke("compile", "small.py", "-o", "out")
    assert outcome.status == 1
    assert "error[E_TREE_MODIFIED]: 'out/mkosi.extra/usr' was changed by hand" in outcome.err
    assert state(folder) == before


def test_force_replaces_the_link_and_leaves_what_it_leads_to(folder: Path) -> None:
    before = state(folder / "elsewhere")
    assert invoke("compile", "small.py", "-o", "out", "--force").status == 0
    assert state(folder / "elsewhere") == before
    assert not (folder / "out/mkosi.extra/usr").is_symlink()
    assert (folder / "out/mkosi.extra/usr/bin/app").is_file()
    assert invoke("compile", "small.py", "-o", "out", "--format", "json").data()["written"] == []


@pytest.mark.parametrize("kind", ["link", "file"])
def test_a_new_folder_is_not_made_through_what_is_in_its_place(folder: Path, kind: str) -> None:
    invoke("compile", "small.py", "-o", "fresh")
    (folder / "target").mkdir()
    place = folder / "fresh/mkosi.extra/opt"
    assert not place.exists()
    if kind == "link":
        place.symlink_to(folder / "target")
    else:
        place.write_text("mine")
    (folder / "more.py").write_text((folder / "small.py").read_text() + 'img.file("/opt/motd", content="hi")\n')
    refused = invoke("compile", "more.py", "-o", "fresh")
    assert refused.status == 1
    assert "'fresh/mkosi.extra/opt' was changed by hand" in refused.err
    assert list((folder / "target").iterdir()) == []
    assert invoke("compile", "more.py", "-o", "fresh", "--force").status == 0
    assert list((folder / "target").iterdir()) == []
    assert (folder / "fresh/mkosi.extra/opt/motd").read_text() == "hi"
