"""Marks of development and test images, the password of Devtools, and the policy that refuses to bake them."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Any

import pytest
from support.authored import at, resolved, run
from tdx import Image
from tdx.modules import Devtools, Tdxs
from tdx.policy import Policy
from tdxc import driver, policy
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import QuoteService, ResolvedImage, Setting, Ssh
from tdxc.passes.lower_development import LowerDevelopment

HASH = "$6$saltstring$svn8UoSVapNtMuq1ukKS4tPQd8iKwSMHWjl/O817G3uBnIFNjnQJuesI68u4OTLiBFdcbYEdFCoEOfaS35inz1"
DEVTOOLS = Setting(span=at(3), value="Devtools")
FAKE = QuoteService(span=at(4), source="fake", group="tdx", socket="/run/tdxs.sock")


def lower(**declarations: Any) -> tuple[ResolvedImage, list[tuple[Code, int]]]:
    image, found = run(LowerDevelopment(), resolved(**declarations))
    return image, [(d.code, d.span.line) for d in found]


def test_an_image_for_production_is_unchanged() -> None:
    assert lower() == (resolved(), [])


@pytest.mark.parametrize(
    ("declarations", "word", "release", "line"),
    [
        ({"development": DEVTOOLS}, "tdxvm.development=1", "TDXVM_DEVELOPMENT=1", 3),
        ({"quote_service": FAKE}, "tdxvm.test=1", "TDXVM_TEST=1", 4),
    ],
)
def test_marks_are_on_the_command_line_and_in_os_release(
    declarations: dict[str, Any], word: str, release: str, line: int
) -> None:
    image, found = lower(**declarations)
    assert found == [(Code.W_DEVELOPMENT, line)]
    assert image.kernel.cmdline[-1].text == word
    (script,) = image.scripts
    assert script.text == f"printf '%s\\n' {release} >>/usr/lib/os-release\n"


def password_script(value: str) -> str:
    image, _ = lower(development=DEVTOOLS, root_password=Setting(span=at(3), value=value))
    (text,) = (script.text for script in image.scripts if script.name == "root-password")
    return text


@pytest.mark.parametrize("value", ["random", "prompt"])
def test_a_password_of_the_bake_is_in_no_tree(value: str) -> None:
    assert password_script(value) == password_script("random")
    assert "$6$" not in password_script(value)


@pytest.mark.parametrize(
    ("value", "variable", "expected"),
    [("random", "", "root:*:20000:0:99999:7:::"), ("random", HASH, f"root:{HASH}:20000:0:99999:7:::"),
     (HASH, "", f"root:{HASH}:20000:0:99999:7:::"), (HASH, "$6$other$x", f"root:{HASH}:20000:0:99999:7:::")],
)  # fmt: skip
def test_the_script_sets_roots_hash_and_nobody_elses(tmp_path: Path, value: str, variable: str, expected: str) -> None:
    shadow = tmp_path / "shadow"
    shadow.write_text("root:*:20000:0:99999:7:::\nrooty:*:20000:0:99999:7:::\n")
    passwd = tmp_path / "passwd"
    passwd.write_text("root:*:0:0:root:/root:/bin/bash\n")
    text = password_script(value).replace("/etc/shadow", str(shadow)).replace("/etc/passwd", str(passwd))
    environment = {"PATH": "/usr/bin:/bin"} | ({"TDXVM_ROOT_PASSWORD_HASH": variable} if variable else {})
    subprocess.run(["sh", "-eu"], input=text, text=True, env=environment, check=True, stderr=subprocess.PIPE)
    assert shadow.read_text() == f"{expected}\nrooty:*:20000:0:99999:7:::\n"


@pytest.mark.parametrize("others", [None, "", "systemd-network:!*::::::1:\n"])
def test_a_root_without_an_entry_of_its_own_gets_one(tmp_path: Path, others: str | None) -> None:
    shadow, passwd = tmp_path / "shadow", tmp_path / "passwd"
    passwd.write_text("root:*:0:0:root:/root:/bin/bash\nrooty:*:1:1::/:/bin/sh\n")
    if others is not None:
        shadow.write_text(others)
    text = password_script(HASH).replace("/etc/shadow", str(shadow)).replace("/etc/passwd", str(passwd))
    subprocess.run(["sh", "-eu"], input=f"chown() {{ :; }}\n{text}", text=True, check=True)
    assert shadow.read_text() == f"{others or ''}root:{HASH}:1::::::\n"
    assert shadow.stat().st_mode & 0o777 == 0o640
    assert passwd.read_text() == "root:x:0:0:root:/root:/bin/bash\nrooty:*:1:1::/:/bin/sh\n"


@pytest.mark.parametrize("password", ["hunter2", "", "$1$abc$def", "$6$x", "random "])
def test_a_password_itself_is_refused_and_not_repeated(password: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        Devtools(root_password=password)
    (found,) = caught.value.diagnostics
    assert found.code is Code.E_SECRET
    assert "hunter2" not in str(found)


def codes(image: Image, profile: str = "") -> list[Code]:
    compiled, _ = driver.analyse(image.freeze(), profiles=(profile,) if profile else ())
    found = policy.evaluate_bake(compiled.image, policy.Invocation(frozen=True))
    return [d.code for d in found if d.code is not Code.W_MUTABLE_REF]


def test_production_refuses_to_bake_what_is_for_development() -> None:
    image = Image("x")
    image.set_policy(Policy(production=True))
    with image.profile("inside"):
        Devtools().apply(image)
    with image.profile("quotes"):
        Tdxs(issuer="fake").apply(image)
    with image.profile("access"):
        image.ssh(enabled=True)
    assert codes(image) == []
    assert [codes(image, name) for name in ("inside", "quotes", "access")] == [[Code.E_POLICY]] * 3
    driver.compile_image(image.freeze())


def test_the_manifest_says_why_an_image_is_not_for_production() -> None:
    from tdxc.ir.marks import development_reasons

    reasons = development_reasons(resolved(development=DEVTOOLS, ssh=Ssh(span=at(1), enabled=True), quote_service=FAKE))
    assert [reason.split()[0] for reason in reasons] == ["Devtools", "an", "its"]
