"""YAML: what a scalar means, the limits, and faults at the place of the value that causes them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tdx._load import load_recipe
from tdx.yaml.nodes import NODE_LIMIT, parse_document, resolve_plain, to_python
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, SourceSpan
from tdxc.ir import AuthoredImage


def _load(folder: Path, text: str) -> AuthoredImage:
    path = folder / "recipe.yaml"
    path.write_text(text, encoding="utf-8")
    return load_recipe(path).image


def _faults(folder: Path, text: str) -> list[Diagnostic]:
    with pytest.raises(DiagnosticError) as caught:
        _load(folder, text)
    return list(caught.value.diagnostics)


def _python(text: str) -> Any:
    node = parse_document(text, "r.yaml")
    assert node is not None
    return to_python(node)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", "no"),
        ("on", "on"),
        ("1:30", "1:30"),
        ("0o644", 0o644),
        ("0x1F", 31),
        ("0644", 644),
        ("-7", -7),
        ("1_000", "1_000"),
        ("1.5", 1.5),
        ("1e3", 1000.0),
        (".inf", float("inf")),
        ("true", True),
        ("FALSE", False),
        ("yes", "yes"),
        ("null", None),
        ("~", None),
        ("", None),
        ("2001-01-01", "2001-01-01"),
        ("0b11", "0b11"),
        ("=", "="),
    ],
)
def test_plain_scalars_follow_the_core_schema(text: str, value: object) -> None:
    found = resolve_plain(text, SourceSpan())
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize("quoted", ["'7'", '"7"', "! 7", "|-\n  7", ">-\n  7"])
def test_quoted_scalars_are_text(quoted: str) -> None:
    assert _python(f"a: {quoted}\n") == {"a": "7"}


def test_aliases_are_copies() -> None:
    assert _python("a: &x [1, 2]\nb: *x\nc: {d: *x}\n") == {"a": [1, 2], "b": [1, 2], "c": {"d": [1, 2]}}


def test_aliases_below_the_limit_are_fine_and_above_are_not() -> None:
    words = ", ".join(["x"] * 99)
    fits = NODE_LIMIT // 100 - 2
    assert len(_python(f"a: &x [{words}]\nb: [{', '.join(['*x'] * fits)}]\n")["b"]) == fits
    with pytest.raises(DiagnosticError) as caught:
        parse_document(f"a: &x [{words}]\nb: [{', '.join(['*x'] * (fits + 3))}]\n", "r.yaml")
    assert caught.value.diagnostics[0].code is Code.E_LIMIT


@pytest.mark.parametrize(
    ("text", "code", "place"),
    [
        ("a: *b\n", Code.E_SYNTAX, (1, 4)),
        ("a: !!str b\n", Code.E_SYNTAX, (1, 4)),
        ("a: !mine b\n", Code.E_SYNTAX, (1, 4)),
        ("? [a]\n: b\n", Code.E_TYPE, (1, 3)),
        ("1: b\n", Code.E_TYPE, (1, 1)),
        ("null: b\n", Code.E_TYPE, (1, 1)),
        ("a: b: c\n", Code.E_SYNTAX, (1, 5)),
        ("a: [b\n", Code.E_SYNTAX, (2, 1)),
        ("a:\n\t- b\n", Code.E_SYNTAX, (2, 1)),
        ("a: 'b\n", Code.E_SYNTAX, (2, 1)),
        ("a: @b\n", Code.E_SYNTAX, (1, 4)),
        ("a: " + "9" * 5000 + "\n", Code.E_LIMIT, (1, 4)),
        ("a: {b: 1, b: 2}\n", Code.E_KEY, (1, 11)),
        ("<<: {a: 1}\n<<: {b: 2}\n", Code.E_KEY, (2, 1)),
        ("%YAML 3.0\n---\na: b\n", Code.E_SYNTAX, (1, 1)),
        ("a: b\n...\nc: d\n", Code.E_SYNTAX, (3, 1)),
        ("a: \ud7ff\ufffe\n", Code.E_SYNTAX, (1, 5)),
    ],
)
def test_malformed_documents_are_refused_at_their_place(text: str, code: Code, place: tuple[int, int]) -> None:
    with pytest.raises(DiagnosticError) as caught:
        parse_document(text, "r.yaml")
    fault = caught.value.diagnostics[0]
    assert (fault.code, (fault.span.line, fault.span.column)) == (code, place)


def test_all_faults_are_reported_at_once_in_source_order(tmp_path: Path) -> None:
    faults = _faults(
        tmp_path,
        "nmae: x\n"
        "install: [7, curl, true]\n"
        "files:\n"
        "  - dest: etc/x\n"
        "    content: y\n"
        "    mode: 644\n"
        "  - content: z\n"
        "services: {}\n"
        "kernel: {cmd: quiet}\n"
        "policy:\n"
        "  network_mode: offlin\n"
        "backend: locl\n"
        "users: app\n"
        "modules:\n"
        "  - usee: a.b\n"
        "profiles:\n"
        "  dev:\n"
        "    bsae: x\n"
        "    ssh: {port: 0}\n",
    )
    assert [(fault.code.value, fault.span.line, fault.span.column) for fault in faults] == [
        ("E_KEY", 1, 1),
        ("E_TYPE", 2, 11),
        ("E_TYPE", 2, 20),
        ("E_PATH", 4, 11),
        ("E_VALUE", 6, 11),
        ("E_TYPE", 7, 5),
        ("E_TYPE", 8, 11),
        ("E_KEY", 9, 10),
        ("E_VALUE", 11, 17),
        ("E_VALUE", 12, 10),
        ("E_TYPE", 13, 8),
        ("E_KEY", 15, 5),
        ("E_TYPE", 15, 5),
        ("E_KEY", 18, 5),
        ("E_VALUE", 19, 17),
    ]
    assert all(fault.fix for fault in faults if fault.code in {Code.E_KEY, Code.E_VALUE} and fault.span.line != 19)


def test_item_of_a_list_argument_is_named_by_its_own_place(tmp_path: Path) -> None:
    (fault,) = _faults(
        tmp_path, "services:\n  - name: app\n    exec: /a\n    after:\n      - b.target\n      - 'c d'\n"
    )
    assert (fault.code, fault.span.line, fault.span.column) == (Code.E_VALUE, 6, 9)


def test_words_stand_for_the_main_argument(tmp_path: Path) -> None:
    short = _load(
        tmp_path, "debloat: false\nusers: [app]\non_boot: ['true']\nrun: ['true']\nssh: true\nsuites: [sid]\n"
    )
    long = _load(
        tmp_path,
        "debloat: {enabled: false}\nusers: [{name: app}]\non_boot: [{command: 'true'}]\n"
        "run: [{command: 'true'}]\nssh: {enabled: true}\nsuites: [{name: sid}]\n",
    )
    assert short == long


def test_empty_values_declare_nothing(tmp_path: Path) -> None:
    assert _load(tmp_path, "name: x\ninstall:\nfiles:\nprofiles:\nmodules:\n") == _load(tmp_path, "name: x\n")


def test_modules_of_the_recipe_folder_apply_with_their_arguments(tmp_path: Path) -> None:
    (tmp_path / "parts.py").write_text(
        "class Motd:\n"
        "    def __init__(self, text):\n"
        "        self.text = text\n"
        "    def apply(self, image):\n"
        "        with image.module('Motd'):\n"
        "            image.file('/etc/motd', content=self.text)\n"
    )
    image = _load(tmp_path, "modules:\n  - use: parts.Motd\n    with: {text: hi}\n")
    (module,) = image.layer.modules
    assert (module.name, module.layer.files[0].content.data) == ("Motd", b"hi")


@pytest.mark.parametrize(
    ("module", "message"),
    [
        ("{use: parts.Motd}", "raised TypeError"),
        ("{use: parts.Broken}", "raised ZeroDivisionError"),
        ("{use: parts.Plain}", "has no apply"),
        ("{use: parts.Mtod}", "no class 'Mtod'"),
        ("{use: nowhere.Motd}", "cannot import 'nowhere'"),
        ("{use: Motd}", "not the dotted name"),
        ("{use: 'a..b'}", "not the dotted name"),
    ],
)
def test_modules_that_cannot_be_applied_are_faults_of_their_line(tmp_path: Path, module: str, message: str) -> None:
    (tmp_path / "parts.py").write_text(
        "class Motd:\n"
        "    def __init__(self, text): pass\n"
        "    def apply(self, image): pass\n"
        "class Broken:\n"
        "    def apply(self, image): 1 / 0\n"
        "class Plain: pass\n"
    )
    (fault,) = _faults(tmp_path, f"modules:\n  - {module}\n")
    assert (fault.code, fault.span.line, fault.span.column) == (Code.E_MODULE, 2, 11)
    assert message in fault.message


def test_backends_and_builds_are_chosen_by_word(tmp_path: Path) -> None:
    text = "backend: {lima: {cpu: 2}}\nbuilds:\n  - script: {name: a}\n  - fortran: {}\n  - script\n"
    faults = _faults(tmp_path, text)
    assert [(fault.code.value, fault.span.line) for fault in faults] == [
        ("E_KEY", 1),
        ("E_TYPE", 3),
        ("E_TYPE", 3),
        ("E_VALUE", 4),
        ("E_TYPE", 5),
        ("E_TYPE", 5),
        ("E_TYPE", 5),
    ]


def test_recipe_of_many_files_is_read_in_one_pass(tmp_path: Path) -> None:
    text = "files:\n" + "".join(f"  - {{dest: /etc/f{index}, content: x}}\n" for index in range(2000))
    assert len(_load(tmp_path, text).layer.files) == 2000
