"""``tdxc diff``: two recipes, two revisions of one, two trees, or one of each."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.commands import BAD, SMALL, invoke, project, state

LATER = SMALL.replace("sleep infinity", "sleep 1").replace('"ca-certificates"', '"ca-certificates", "jq"')


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    project(tmp_path, monkeypatch)
    (tmp_path / "later.py").write_text(LATER)
    return tmp_path


@pytest.fixture
def repository(folder: Path) -> Path:
    """Two commits of ``recipes/image.py``, which reads a neighbour; the folder ``recipes`` is not the top one."""

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "init.defaultBranch=main"]
        subprocess.run(["git", *identity, *arguments], cwd=folder, check=True, capture_output=True)

    (folder / "recipes").mkdir()
    recipe = folder / "recipes/image.py"
    (folder / "recipes/words.py").write_text('GREETING = "hello"\n')
    recipe.write_text(f'from words import GREETING\n{SMALL}img.file("/etc/motd", content=GREETING)\n')
    git("init", "-q")
    git("add", ".")
    git("commit", "-qm", "one")
    (folder / "recipes/words.py").write_text('GREETING = "good morning"\n')
    git("commit", "-qam", "two")
    return folder


def test_equal_things_have_no_difference(folder: Path) -> None:
    outcome = invoke("diff", "small.py", "small.py")
    assert (outcome.status, outcome.out, outcome.err) == (0, "no change\n", "")


def test_a_comment_and_a_blank_line_are_no_difference(folder: Path) -> None:
    (folder / "same.py").write_text("# a comment\n\n" + SMALL)
    assert invoke("diff", "small.py", "same.py").status == 0


def test_two_recipes_differ_in_terms_of_the_recipe(folder: Path) -> None:
    outcome = invoke("diff", "small.py", "later.py")
    assert outcome.status == 4
    assert "+ packages[jq]  (later.py:4:1)" in outcome.out
    assert "~ files[/usr/bin/app].content: sha256:" in outcome.out
    assert "  ~ mkosi.conf\n" in outcome.out
    assert ".tdxc" not in outcome.out
    assert "---" not in outcome.out


def test_a_new_declaration_is_shown_in_words_of_the_recipe(folder: Path) -> None:
    (folder / "bare.py").write_text('from tdx import Image\nimg = Image("small", base="debian/trixie")\n')
    text = (folder / "bare.py").read_text()
    kernel = 'from tdx import Kernel\nimg.kernel = Kernel.tdx(version="6.12", config={"TLS": True})\n'
    (folder / "more.py").write_text(f'{text}{kernel}img.network(firewall_rules=["ACCEPT icmp", "DROP all"])\n')
    lines = invoke("diff", "bare.py", "more.py").out.splitlines()
    assert "+ kernel: version='6.12' config=[(name='TLS' value='y')]  (more.py:4:14)" in lines
    assert "+ network: firewall_rules=['ACCEPT icmp', 'DROP all']  (more.py:5:1)" in lines


def test_tree_prints_the_unified_difference_too(folder: Path) -> None:
    outcome = invoke("diff", "small.py", "later.py", "--tree")
    assert "--- a/mkosi.extra/usr/bin/app" in outcome.out
    assert "-exec sleep infinity\n+exec sleep 1\n" in outcome.out


def test_a_recipe_differs_from_the_tree_of_an_earlier_one(folder: Path) -> None:
    invoke("compile", "small.py", "-o", "out")
    assert invoke("diff", "out", "small.py").status == 0
    outcome = invoke("diff", "out", "later.py")
    assert outcome.status == 4
    assert "+ packages[jq]" in outcome.out


def test_a_change_by_hand_in_a_tree_is_seen(folder: Path) -> None:
    invoke("compile", "small.py", "-o", "one")
    invoke("compile", "small.py", "-o", "two")
    (folder / "two/mkosi.extra/usr/bin/app").write_text("#!/bin/sh\n")
    assert invoke("diff", "one", "two").out == "1 file of the tree:\n  ~ mkosi.extra/usr/bin/app\n"


def test_a_tree_with_an_empty_directory_can_be_compared(folder: Path) -> None:
    (folder / "tree.py").write_text(SMALL + 'img.directory("/srv/empty")\n')
    invoke("compile", "tree.py", "-o", "out")
    assert invoke("diff", "out", "tree.py").status == 0


def test_revisions_of_a_recipe_with_its_neighbours(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(repository / "recipes")
    outcome = invoke("diff", "HEAD~1:image.py", "image.py")
    assert outcome.status == 4
    assert "files[/etc/motd].content" in outcome.out
    assert "1 file of the tree:\n  ~ mkosi.extra/etc/motd\n" in outcome.out
    assert invoke("diff", "HEAD:image.py", "HEAD:image.py:img").status == 0
    monkeypatch.chdir(repository)
    assert invoke("diff", "HEAD~1:recipes/image.py", "HEAD:recipes/image.py").status == 4


def test_comparing_revisions_leaves_the_working_tree_alone(repository: Path) -> None:
    before = state(repository)
    invoke("diff", "HEAD~1:recipes/image.py", "recipes/image.py")
    after = state(repository)
    assert {path for path in after if after[path] != before.get(path)} <= {".git", ".git/index"}


@pytest.mark.parametrize(
    ("reference", "words"),
    [
        ("nosuch:recipes/image.py", "'nosuch' is neither a file nor a git revision"),
        ("HEAD:recipes/nosuch.py", "there is no 'recipes/nosuch.py' at HEAD"),
        ("HEAD:/etc/passwd", "lies outside of the repository"),
        ("HEAD:../../x.py", "lies outside of the repository"),
        ("--output=x:recipes/image.py", "No such option"),
        ("nosuch.py", "there is no recipe 'nosuch.py'"),
        ("recipes", "not a complete compiled tree"),
    ],
)
def test_what_cannot_be_read_is_said(repository: Path, reference: str, words: str) -> None:
    outcome = invoke("diff", reference, "small.py")
    assert outcome.status in {1, 2}
    assert outcome.out == ""
    assert words in outcome.err


def test_outside_of_a_repository_a_revision_is_refused(folder: Path) -> None:
    outcome = invoke("diff", "HEAD:small.py", "small.py")
    assert outcome.status == 1
    assert "error[E_REFERENCE]" in outcome.err


def test_faults_of_either_recipe_show_that_recipes_line(folder: Path) -> None:
    (folder / "other").mkdir()
    (folder / "other/bad.py").write_text("# another file of the same name\n" + BAD)
    outcome = invoke("diff", "small.py", "other/bad.py")
    assert outcome.status == 1
    assert "bad.py:4:7: error[E_KEY]: Image() has no keyword 'bse'\n    4 | img = Image(\"bad\", bse=" in outcome.err
