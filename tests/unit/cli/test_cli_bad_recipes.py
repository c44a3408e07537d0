"""Bad recipes through the real program: what is printed, where it points, and the output folder as it was."""

from __future__ import annotations

import re
from pathlib import Path

import attrs
import pytest
from support.commands import ROOT, process, state

CORPUS = ROOT / "tests/recipes/bad"


@attrs.frozen(kw_only=True)
class Bad:
    """A recipe and what must be said of it: code, place as ``line:column``, and words of the message or the fix."""

    recipe: Path
    code: str
    place: str
    words: tuple[str, ...] = ()


def from_corpus(name: str, code: str, place: str, *words: str) -> Bad:
    return Bad(recipe=CORPUS / name, code=code, place=place, words=words)


CASES = [
    from_corpus("unknown_keyword.py", "E_KEY", "4:1", "'restrat'", "did you mean 'restart'?"),
    from_corpus("unknown_key.yaml", "E_KEY", "2:1", "did you mean 'services'?"),
    from_corpus("wrong_type.py", "E_TYPE", "4:1"),
    from_corpus("wrong_type.yaml", "E_TYPE", "4:5"),
    from_corpus("relative_destination.py", "E_PATH", "4:1", "write '/etc/motd'"),
    from_corpus("relative_destination.yaml", "E_PATH", "4:11"),
    from_corpus("escaping_file.py", "E_PATH", "4:1", "outside"),
    from_corpus("escaping_file.yaml", "E_PATH", "4:10", "outside"),
    from_corpus("same_destination.py", "E_CONFLICT", "5:1", "note: same_destination.py:4:1"),
    from_corpus("same_destination.yaml", "E_CONFLICT", "5:5", "note: same_destination.yaml:"),
    from_corpus("undefined_variable.py", "E_TEMPLATE", "4:1"),
    from_corpus("undefined_variable.yaml", "E_TEMPLATE", "3:5"),
    from_corpus("missing_source.py", "E_PATH", "4:1", "did you mean 'sub/motd'?"),
    from_corpus("unknown_base.py", "E_VALUE", "3:7", "debian/trixie"),
    from_corpus("unknown_base.yaml", "E_VALUE", "2:7", "debian/trixie"),
    from_corpus("unknown_user.py", "E_REFERENCE", "5:1"),
    from_corpus("unknown_user.yaml", "E_REFERENCE", "4:5"),
    from_corpus("syntax_error.recipe", "E_SYNTAX", "3:12"),
    from_corpus("syntax_error.yaml", "E_SYNTAX", "3:6"),
    from_corpus("raises.py", "E_RECIPE", "7:24"),
    from_corpus("no_image.py", "E_RECIPE", "1:1", "makes no image"),
    from_corpus("recursion.py", "E_RECIPE", "7:12", "RecursionError"),
    from_corpus("bomb.yaml", "E_LIMIT", "7:32"),
    from_corpus("not_utf8.recipe", "E_ENCODING", "4:35", "save the file as UTF-8"),
    from_corpus("not_utf8.yaml", "E_ENCODING", "2:14", "save the file as UTF-8"),
]


@pytest.fixture(params=["missing", "compiled"])
def out(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """An output folder that does not exist, or that holds an earlier compile and something of the user's."""
    folder = tmp_path / "out"
    if request.param == "compiled":
        assert process("compile", ROOT / "examples/quickstart.py", "-o", "out", cwd=tmp_path).status == 0
        (folder / "mkosi.local.conf").write_text("# mine\n")
    return folder


def check(bad: Bad, out: Path) -> None:
    before = state(out.parent)
    outcome = process("compile", bad.recipe, "-o", out, cwd=out.parent)
    assert (outcome.status, outcome.out) == (1, "")
    assert re.search(rf"^{re.escape(bad.recipe.name)}:{bad.place}: error\[{bad.code}\]: \S", outcome.err, re.MULTILINE)
    assert all(word in outcome.err for word in bad.words), outcome.err
    assert state(out.parent) == before


@pytest.mark.parametrize("bad", CASES, ids=lambda bad: bad.recipe.name)
def test_bad_recipe(bad: Bad, out: Path) -> None:
    check(bad, out)


def test_the_faulty_line_is_shown_with_a_caret_and_a_fix(tmp_path: Path) -> None:
    outcome = process("compile", CORPUS / "unknown_keyword.py", "-o", "out", cwd=tmp_path)
    assert outcome.err == (
        "unknown_keyword.py:4:1: error[E_KEY]: service() has no keyword 'restrat'\n"
        '    4 | img.service("app", exec="/usr/bin/app", restrat="always")\n'
        "      | ^\n"
        "  fix: did you mean 'restart'?\n"
    )


@pytest.mark.parametrize("head", ["name: big\n", "name: big\npackages:\n"])
def test_a_yaml_of_50_megabytes_is_refused_unread(tmp_path: Path, head: str) -> None:
    big = tmp_path / "big.yaml"
    big.write_text(head + "# padding\n" * (50 * 1024 * 1024 // 10))
    check(Bad(recipe=big, code="E_LIMIT", place="1:1", words=("8 MiB",)), tmp_path / "out")


FAULTS_OF_PASSES = {
    "cycle": (
        'img.service("a", exec="/bin/a", after=["b.service"])\nimg.service("b", exec="/bin/b", after=["a.service"])\n',
        "E_CYCLE",
        "4:1",
    ),
    "steps": ('img.on_boot("true", name="x")\nimg.on_boot("false", name="x")\n', "E_CONFLICT", "5:1"),
    "firewall": ('img.network(firewall_rules=["ACCEPT tcp 99999"])\n', "E_VALUE", "4:1"),
    "kconfig": (
        'img.kernel = Kernel.tdx(config={"TDX_GUEST_DRIVER": "y"}, fragments=["other.config"])\n',
        "E_KCONFIG",
        "4:14",
    ),
    "step-order": ('img.on_boot("true", name="x", after=["y"])\n', "E_REFERENCE", "4:1"),
}


@pytest.mark.parametrize("name", sorted(FAULTS_OF_PASSES))
def test_what_only_a_pass_can_see_points_at_the_recipe_too(tmp_path: Path, name: str) -> None:
    text, code, place = FAULTS_OF_PASSES[name]
    recipe = tmp_path / "recipe.py"
    recipe.write_text('from tdx import Image, Kernel\n\nimg = Image("bad")\n' + text)
    (tmp_path / "other.config").write_text("# CONFIG_TDX_GUEST_DRIVER is not set\n")
    check(Bad(recipe=recipe, code=code, place=place, words=("recipe.py:",)), tmp_path / "out")


def test_all_faults_are_reported_at_once_in_source_order(tmp_path: Path) -> None:
    recipe = tmp_path / "many.py"
    recipe.write_text(
        "from tdx import Image\n"
        'img = Image("many", bse="x")\n'
        'img.file("etc/a", content="a")\n'
        "img.install(7)\n"
        'img.servce("a", exec="/bin/a")\n'
    )
    outcome = process("compile", recipe, "-o", "out", cwd=tmp_path)
    assert re.findall(r"^many\.py:(\d+):\d+: error", outcome.err, re.MULTILINE) == ["2", "3", "4", "5"]
    assert outcome.err.endswith("\n4 errors\n")


@pytest.mark.parametrize("name", ["nosuch.py", "folder", "fifo", "unreadable.py/x", "/dev/null", ""])
def test_what_is_no_recipe_at_all(tmp_path: Path, name: str) -> None:
    import os

    (tmp_path / "folder").mkdir()
    os.mkfifo(tmp_path / "fifo")
    (tmp_path / "unreadable.py").write_text("")
    outcome = process("compile", name, "-o", "out", cwd=tmp_path)
    assert outcome.status == 1
    assert "error[E_PATH]" in outcome.err
    assert not (tmp_path / "out").exists()
