import json
import subprocess
import sys
from typing import Any

import pytest
from support.authored import at, authored, run
from tdxc.diagnostics import Code, Diagnostic
from tdxc.ir import CanonicalJson, File, Layer, Template
from tdxc.passes.render_templates import RenderTemplates


def template(text: str, source: str = "", **variables: Any) -> Template:
    data = CanonicalJson(json.dumps(variables, sort_keys=True, separators=(",", ":")))
    return Template(
        span=at(7), path="/etc/x", text=text, source=source, variables=data, mode=0o600, owner="app", group="tdx"
    )


def rendered(text: str, **variables: Any) -> str:
    image, found = run(RenderTemplates(), authored(templates=(template(text, **variables),)))
    assert found == ()
    assert image.layer.templates == ()
    return image.layer.files[0].content.data.decode()


def fault(text: str, source: str = "", **variables: Any) -> Diagnostic:
    image, (found,) = run(RenderTemplates(), authored(templates=(template(text, source, **variables),)))
    assert image.layer.files == ()
    assert found.code is Code.E_TEMPLATE
    assert "/etc/x" in found.message
    return found


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a={{ a }}\n", "a=1\n"),
        ("no newline", "no newline"),
        ("\n\n{{ s }}\n\n", "\n\n<&'\">é\n\n"),
        ("{% for k, v in d|dictsort %}{{ k }}={{ v }};{% endfor %}", "x=1;y=2;"),
        ("{{ missing|default('d') }}", "d"),
        ("{% if missing is defined %}x{% endif %}", ""),
        ("{{ none }} {{ yes }}", "None True"),
        ("{{ 'ab' * 3 }}{{ 6 * 7 }}{{ 2 ** 10 }}", "ababab421024"),
        ("", ""),
    ],
)
def test_templates_are_rendered_as_they_stand(text: str, expected: str) -> None:
    assert rendered(text, a=1, s="<&'\">é", d={"y": 2, "x": 1}, none=None, yes=True) == expected


def test_the_file_keeps_owner_mode_and_place() -> None:
    image, _ = run(RenderTemplates(), authored(templates=(template("x", source="conf/x.j2"),)))
    (file,) = image.layer.files
    assert (file.path, file.mode, file.owner, file.group) == ("/etc/x", 0o600, "app", "tdx")
    assert str(file.span) == "recipe.py:7:1"
    assert file.cause == "render-templates: conf/x.j2"


def test_templates_of_profiles_are_rendered() -> None:
    image, _ = run(RenderTemplates(), authored(profiles={"dev": Layer(span=at(9), templates=(template("x"),))}))
    assert [type(f) for f in image.profiles[0].layer.files] == [File]


def test_undefined_variable_is_found_at_its_line_in_the_templates_file() -> None:
    found = fault("one\ntwo\n{{ netwrok }}\n", source="conf/x.j2", network="mainnet")
    assert str(found.span) == "conf/x.j2:3:1"
    assert "'netwrok' is undefined" in found.message
    assert found.fix == "did you mean 'network'?"


def test_undefined_variable_of_an_inline_template_is_found_at_the_recipe() -> None:
    found = fault("one\n{{ nothing }}")
    assert str(found.span) == "recipe.py:7:1"
    assert "line 2" in found.message
    assert "add 'nothing'" in found.fix


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("a\n{% if x %}\n", 2),
        ("a\n\n{{ 1 + }}", 3),
        ("{{ x.y.z }}", 1),
        ("a\n{{ 1 // 0 }}", 2),
        ("a\n{{ 'a' + 1 }}", 2),
        ("\n{{ [][3] }}", 2),
        ("{% include 'other' %}", 1),
        ("{{ ''.__class__.__mro__ }}", 1),
        ("\n{{ x|nofilter }}", 2),
        ("{{ 'a' * 100000000000 }}", 1),
        ("{{ 10 ** 100000000 }}", 1),
        ("{% for i in range(100000000) %}x{% endfor %}", 1),
        ("{% macro f() %}{{ f() }}{% endmacro %}{{ f() }}", 1),
        ("{{ [1, 2]|random }}", 1),
        ("{{ lipsum() }}", 1),
    ],
)
def test_everything_a_template_can_do_wrong_is_diagnosed(text: str, line: int) -> None:
    assert fault(text, source="t.j2", x={}).span.line in {line, 7}


def test_text_that_utf8_cannot_hold_is_diagnosed() -> None:
    _, (found,) = run(RenderTemplates(), authored(templates=(template("{{ s }}", s="\ud800"),)))
    assert found.code is Code.E_ENCODING


def test_every_bad_template_is_reported() -> None:
    bad = tuple(template(f"{{{{ v{i} }}}}") for i in range(3))
    _, found = run(RenderTemplates(), authored(templates=bad))
    assert len(found) == 3


def test_jinja2_is_imported_only_for_images_with_templates() -> None:
    code = "import sys; import tdxc.passes.render_templates; sys.exit('jinja2' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0
