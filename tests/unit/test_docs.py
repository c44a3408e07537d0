"""The documentation is true: examples run as printed, references equal the program, links lead somewhere.

How an example is marked, in the words behind its fence:

- ``python file=NAME`` or ``yaml file=NAME`` (any language): the block is that file in the page's scratch folder;
- ``console run``: lines that begin with ``$ `` are run there by bash, and what they print must be what is shown. A line
  ``…`` stands for any lines, ``…`` within a line for any text.

Blocks of one page run in order in one folder. ``python`` and ``yaml`` blocks without a name must at least be valid.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from support.reference import DOCS, PAGES, expected

ROOT = DOCS.parent
DOCUMENTS = sorted([*DOCS.glob("*.md"), ROOT / "README.md", ROOT / "CONTRIBUTING.md"])
_FENCE = re.compile(r"^```(?P<info>[^\n`]*)\n(?P<text>.*?)^```$", re.MULTILINE | re.DOTALL)


@attrs.frozen(kw_only=True)
class Block:
    """A fenced block: its language, the words behind it, its text, and the line of the page that it starts at."""

    language: str
    words: tuple[str, ...]
    text: str
    line: int

    @property
    def file(self) -> str:
        """The name after ``file=``, empty without one."""
        return next((word.removeprefix("file=") for word in self.words if word.startswith("file=")), "")


def blocks(page: Path) -> list[Block]:
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        language, *words = match["info"].split() or [""]
        line = text.count("\n", 0, match.start()) + 1
        found.append(Block(language=language, words=tuple(words), text=match["text"], line=line))
    return found


def commands(text: str) -> list[tuple[str, list[str]]]:
    """Each command of a console block with the lines that are shown below it."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("$ "):
            found.append((line[2:], []))
        else:
            found[-1][1].append(line)
    return found


def matches(shown: list[str], printed: str) -> bool:
    """Whether output is as shown, ``…`` standing for anything (a line of it for any number of lines)."""
    pattern = ""
    for line in shown:
        pattern += r"(?:[^\n]*\n)*" if line.strip() == "…" else re.escape(line).replace("…", r"[^\n]*") + r"\n"
    return re.fullmatch(pattern, printed) is not None


PAGES_THAT_RUN = [page for page in DOCUMENTS if any(block.file or "run" in block.words for block in blocks(page))]


@pytest.mark.parametrize("page", PAGES_THAT_RUN, ids=lambda page: page.name)
def test_examples_run_as_printed(page: Path, tmp_path: Path) -> None:
    environment = {**os.environ, "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "LC_ALL": "C.UTF-8"}
    for block in blocks(page):
        if block.file:
            target = tmp_path / block.file
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(block.text, encoding="utf-8")
        elif "run" in block.words:
            for command, shown in commands(block.text):
                finished = subprocess.run(
                    ["bash", "-c", command], cwd=tmp_path, env=environment, text=True,
                    stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=120,
                )  # fmt: skip
                assert matches(shown, finished.stdout), f"{page.name}:{block.line}: $ {command}\n{finished.stdout}"


@pytest.mark.parametrize("page", sorted(PAGES))
def test_references_equal_the_program(page: str) -> None:
    assert (DOCS / page).read_text(encoding="utf-8") == expected(page), "run: cd tests && python -m support.reference"


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_code_is_valid(page: Path) -> None:
    from ruamel.yaml import YAML

    for block in blocks(page):
        if block.language == "python":
            compile(block.text, f"{page.name}:{block.line}", "exec")
        elif block.language in {"yaml", "json"}:
            (YAML(typ="safe", pure=True).load if block.language == "yaml" else json.loads)(block.text)


def test_yaml_recipes_follow_the_schema() -> None:
    from jsonschema import Draft202012Validator
    from ruamel.yaml import YAML
    from tdx.yaml.schema import json_schema

    validator = Draft202012Validator(json_schema())
    recipes = [b for page in DOCUMENTS for b in blocks(page) if b.language == "yaml" and "fragment" not in b.words]
    recipes = [block for block in recipes if not block.file or block.file.endswith("recipe.yaml")]
    assert recipes
    for block in recipes:
        validator.validate(YAML(typ="safe", pure=True).load(block.text))


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    text = _FENCE.sub("", page.read_text(encoding="utf-8"))
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        linked = (page.parent / path).resolve() if path else page
        assert linked.exists(), f"{page.name}: {target}"
        if anchor:
            assert anchor in anchors(linked), f"{page.name}: {target}"


@pytest.mark.parametrize("page", DOCUMENTS, ids=lambda page: page.name)
def test_commands_named_in_the_text_exist(page: Path) -> None:
    import click
    from tdxc.cli.main import COMMANDS, tdxc

    for name, rest in re.findall(r"\btdxc? ([a-z]+)((?: [^`\n]*)?)`", page.read_text(encoding="utf-8")):
        assert name in COMMANDS, f"{page.name}: tdxc {name}"
        command = tdxc.get_command(click.Context(tdxc), name)
        assert command is not None
        known = {flag for parameter in command.params for flag in parameter.opts} | {"--help", "-h"}
        assert set(re.findall(r"(?<!\S)--[a-z-]+", rest)) <= known, f"{page.name}: tdxc {name}{rest}"


def test_the_matcher_can_fail() -> None:
    assert matches(["a…", "…", "z"], "abc\nx\ny\nz\n")
    assert matches([], "")
    assert not matches(["a"], "b\n")
    assert not matches(["a"], "a\nb\n")
    assert commands("$ one\nx\n$ two\n") == [("one", ["x"]), ("two", [])]
