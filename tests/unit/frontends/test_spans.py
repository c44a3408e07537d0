"""Every node knows the line and column of the recipe that declared it, to the character."""

from __future__ import annotations

from pathlib import Path

import pytest
from tdx._load import load_recipe
from tdxc.diagnostics import DiagnosticError, SourceSpan
from tdxc.ir import AuthoredImage, Node, walk


def _load(folder: Path, text: str, name: str = "recipe.py") -> AuthoredImage:
    (folder / name).write_text(text, encoding="utf-8")
    return load_recipe(folder / name).image


def _at(node: Node | None) -> tuple[str, int, int]:
    assert node is not None
    return (node.span.file, node.span.line, node.span.column)


def test_calls_and_assignments_know_line_and_column(tmp_path: Path) -> None:
    image = _load(
        tmp_path,
        "from tdx import Image, Kernel\n"
        "img = Image('x')\n"
        "if True:\n"
        "    img.install('curl'); img.install('jq')\n"
        "img.init = 'busybox'\n"
        "img.kernel = Kernel.tdx(\n"
        "    cmdline='quiet',\n"
        ")\n"
        "img.service(\n"
        "    'app',\n"
        "    exec='/usr/bin/app',\n"
        ")\n",
    )
    layer = image.layer
    assert _at(image) == ("recipe.py", 2, 7)
    assert [_at(package) for package in layer.packages] == [("recipe.py", 4, 5), ("recipe.py", 4, 26)]
    assert _at(layer.init) == ("recipe.py", 5, 1)
    assert _at(layer.kernel) == ("recipe.py", 6, 14)
    assert _at(layer.services[0]) == ("recipe.py", 9, 1)


def test_columns_count_characters_behind_text_that_is_not_ascii(tmp_path: Path) -> None:
    image = _load(tmp_path, "from tdx import Image\nimg = Image('x')\nä = 'ü€😀'; img.install('curl')\n")
    assert _at(image.layer.packages[0]) == ("recipe.py", 3, 12)


def test_functions_of_the_recipe_point_at_their_own_line(tmp_path: Path) -> None:
    image = _load(
        tmp_path,
        "from tdx import Image\nimg = Image('x')\ndef more(i):\n    i.install('curl')\nmore(img)\n",
    )
    assert _at(image.layer.packages[0]) == ("recipe.py", 4, 5)


def test_modules_point_at_the_line_that_applied_them(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "greeting.py").write_text(
        "class Greeting:\n"
        "    def apply(self, image):\n"
        "        with image.module('Greeting'):\n"
        "            image.file('/etc/motd', content='hi')\n"
        "            image.docs = True\n"
    )
    image = _load(
        tmp_path,
        "from tdx import Image\n"
        "from tdx.modules import TimeSynchronisation\n"
        "from parts.greeting import Greeting\n"
        "img = Image('x')\n"
        "TimeSynchronisation(servers=['a']).apply(img)\n"
        "with img.profile('dev'):\n"
        "    Greeting().apply(img)\n",
    )
    (time,) = image.layer.modules
    assert time.name == "TimeSynchronisation"
    assert {_at(node) for node in walk(time)} == {("recipe.py", 5, 1)}
    (greeting,) = image.profiles[0].layer.modules
    assert greeting.name == "Greeting"
    assert {_at(node) for node in walk(greeting)} == {("recipe.py", 7, 5)}


def test_module_block_at_module_level_keeps_each_line(tmp_path: Path) -> None:
    image = _load(
        tmp_path,
        "from tdx import Image\nimg = Image('x')\n"
        "with img.module('Own'):\n    img.install('curl')\nimg.install('jq')\n",
    )
    (own,) = image.layer.modules
    assert (_at(own), _at(own.layer.packages[0])) == (("recipe.py", 3, 6), ("recipe.py", 4, 5))
    assert [package.name for package in image.layer.packages] == ["jq"]


def test_yaml_spans_are_those_of_items_and_values(tmp_path: Path) -> None:
    image = _load(
        tmp_path,
        "name: x\n"
        "install: [curl, jq]\n"
        "network:\n"
        "  firewall_rules:\n"
        "    - ACCEPT icmp\n"
        "    - DROP all\n"
        "services:\n"
        "  - name: app\n"
        "    exec: /usr/bin/app\n"
        "modules:\n"
        "  - use: tdx.modules.TimeSynchronisation\n"
        "profiles:\n"
        "  dev:\n"
        "    docs: true\n",
        "recipe.yaml",
    )
    layer = image.layer
    assert [_at(package)[1:] for package in layer.packages] == [(2, 11), (2, 17)]
    assert layer.network is not None
    assert [_at(rule)[1:] for rule in layer.network.firewall_rules] == [(5, 7), (6, 7)]
    assert _at(layer.services[0]) == ("recipe.yaml", 8, 5)
    assert {_at(node)[1:] for node in walk(layer.modules[0])} == {(11, 10)}
    assert _at(image.profiles[0])[1:] == (13, 3)
    assert _at(image.profiles[0].layer.docs)[1:] == (14, 11)


EXAMPLES = Path(__file__).resolve().parents[3] / "examples"


RECIPES = sorted([*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*.yaml")])


def test_yaml_spans_of_directives_are_those_of_their_keys(tmp_path: Path) -> None:
    image = _load(
        tmp_path,
        "name: x\n"
        "services:\n"
        "  - name: app\n"
        "    exec: /usr/bin/app\n"
        "    overrides:\n"
        "      UMask: '0022'\n"
        "    extra_unit: {Service: {Nice: 5}}\n"
        "timers:\n"
        "  - name: app\n"
        "    description: Nightly\n"
        "    on_calendar: [daily]\n"
        "    extra_unit:\n"
        "      Timer:\n"
        "        AccuracySec: 1s\n"
        "drop_ins:\n"
        "  - unit: ssh.service\n"
        "    sections:\n"
        "      Service:\n"
        "        Nice: 1\n",
        "recipe.yaml",
    )
    layer = image.layer
    assert _at(layer.services[0].overrides[0]) == ("recipe.yaml", 6, 7)
    assert _at(layer.services[0].extra_unit[0]) == ("recipe.yaml", 7, 18)
    assert _at(layer.services[0].extra_unit[0].directives[0]) == ("recipe.yaml", 7, 28)
    timer = {each.key: _at(each)[1:] for section in layer.units[0].sections for each in section.directives}
    assert timer == {"Description": (10, 5), "AccuracySec": (14, 9), "OnCalendar": (11, 5)}
    assert _at(layer.drop_ins[0].sections[0]) == ("recipe.yaml", 18, 7)
    assert _at(layer.drop_ins[0].sections[0].directives[0]) == ("recipe.yaml", 19, 9)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.name)
def test_no_node_of_an_example_is_without_a_place(path: Path) -> None:
    image = load_recipe(path).image
    for node in walk(image):
        if node is not image.base:
            assert node.span.file == path.name, node
            assert node.span.line > 0, node
            assert node.span.column > 0, node


def test_fault_in_another_file_of_the_folder_names_that_file(tmp_path: Path) -> None:
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "common.py").write_text("def base(img):\n    img.file('etc', content='')\n")
    with pytest.raises(DiagnosticError) as caught:
        _load(tmp_path, "from tdx import Image\nfrom lib.common import base\nimg = Image('x')\nbase(img)\n")
    assert caught.value.diagnostics[0].span == SourceSpan(file="lib/common.py", line=2, column=5)
