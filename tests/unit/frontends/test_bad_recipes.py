"""Every bad recipe gives its diagnostics, each at its place, and leaves the output folder as it was."""

from __future__ import annotations

from pathlib import Path

import pytest
from tdxc import driver
from tdxc.cli.boundary import run
from tdxc.cli.main import tdxc
from tdxc.diagnostics import DiagnosticError

BAD = Path(__file__).resolve().parents[2] / "recipes" / "bad"

EXPECTED: dict[str, list[tuple[str, int, int]]] = {
    "artifact_owner.py": [("E_PATH", 6, 5), ("E_CONFLICT", 13, 15)],
    "bomb.yaml": [("E_LIMIT", 7, 32)],
    "build_variables.py": [("E_VALUE", 5, 5), ("E_VALUE", 5, 5)],
    "control.yaml": [("E_SYNTAX", 2, 13)],
    "decimal_mode.py": [("E_VALUE", 4, 1)],
    "deep.yaml": [("E_LIMIT", 2, 58)],
    "device_pattern.yaml": [("E_VALUE", 7, 17)],
    "disk_with_a_key_of_one_boot.yaml": [("E_CONFLICT", 5, 10)],
    "disk_without_key.py": [("E_REFERENCE", 5, 1)],
    "duplicate_key.yaml": [("E_KEY", 3, 1)],
    "early_disk.py": [("E_CONFLICT", 7, 1)],
    "early_secret.py": [("E_CONFLICT", 8, 1), ("E_CONFLICT", 9, 1), ("E_CONFLICT", 10, 1)],
    "early_secret.yaml": [("E_CONFLICT", 9, 5)],
    "empty.yaml": [("E_RECIPE", 1, 1)],
    "encryption_alone.py": [("E_UNSUPPORTED", 4, 1)],
    "escaping_file.py": [("E_PATH", 4, 1)],
    "escaping_file.yaml": [("E_PATH", 4, 10)],
    "escaping_link.py": [("E_PATH", 4, 1)],
    "exits.py": [("E_RECIPE", 6, 1)],
    "hidden_by_disk.py": [("E_CONFLICT", 8, 5)],
    "hidden_by_disk.yaml": [("E_CONFLICT", 7, 5)],
    "key_by_broker.py": [("E_UNSUPPORTED", 5, 1)],
    "key_without_disk.py": [("E_REFERENCE", 5, 1)],
    "key_without_disk.yaml": [("E_REFERENCE", 3, 10)],
    "late_secret.py": [("E_VALUE", 7, 1)],
    "leaked_secret.py": [("E_SECRET", 11, 12)],
    "leaked_secret_argument.py": [("E_SECRET", 8, 1)],
    "leaked_secret_argument.yaml": [("E_SECRET", 10, 5)],
    "missing_import.py": [("E_RECIPE", 1, 1)],
    "missing_source.py": [("E_PATH", 4, 1)],
    "missing_source.yaml": [("E_PATH", 4, 10)],
    "module_fault.py": [("E_TYPE", 5, 1)],
    "module_not_found.yaml": [("E_MODULE", 3, 10)],
    "module_without_apply.yaml": [("E_MODULE", 3, 10)],
    "nested_disks.py": [("E_CONFLICT", 7, 1)],
    "no_image.py": [("E_RECIPE", 1, 1)],
    "no_mapping.yaml": [("E_TYPE", 1, 1)],
    "not_utf8.recipe": [("E_ENCODING", 4, 35)],
    "not_utf8.yaml": [("E_ENCODING", 2, 14)],
    "nul.recipe": [("E_SYNTAX", 2, 15)],
    "number_as_password.yaml": [("E_SECRET", 4, 27)],
    "number_as_text.yaml": [("E_TYPE", 2, 10)],
    "placed_secret.py": [("E_SECRET", 9, 1), ("E_SECRET", 10, 1), ("E_SECRET", 11, 1)],
    "placed_secret.yaml": [("E_SECRET", 14, 5), ("E_SECRET", 18, 26)],
    "plain_password.py": [("E_SECRET", 5, 1)],
    "printed_secret.py": [("E_SECRET", 8, 1), ("E_SECRET", 9, 1)],
    "printed_secret.yaml": [("E_SECRET", 8, 5), ("E_SECRET", 11, 5)],
    "profile_base.py": [("E_UNSUPPORTED", 5, 5)],
    "profile_base.yaml": [("E_UNSUPPORTED", 4, 5)],
    "raises.py": [("E_RECIPE", 7, 24)],
    "recursion.py": [("E_RECIPE", 7, 12)],
    "recursion.yaml": [("E_SYNTAX", 6, 13)],
    "relative_destination.py": [("E_PATH", 4, 1)],
    "relative_destination.yaml": [("E_PATH", 4, 11)],
    "same_boot_step.py": [("E_CONFLICT", 5, 1)],
    "same_destination.py": [("E_CONFLICT", 5, 1)],
    "same_destination.yaml": [("E_CONFLICT", 5, 5)],
    "same_place.py": [("E_CONFLICT", 5, 11)],
    "same_secret_target.py": [("E_CONFLICT", 7, 33)],
    "secret_body.yaml": [("E_VALUE", 7, 11)],
    "secret_enum.py": [("E_VALUE", 6, 39)],
    "secret_on_disk.py": [("E_SECRET", 6, 35)],
    "secret_pattern.py": [("E_VALUE", 6, 37)],
    "secret_pattern.yaml": [("E_VALUE", 6, 11)],
    "several_faults.recipe": [
        ("E_VALUE", 3, 7),
        ("E_PATH", 4, 1),
        ("E_TYPE", 5, 1),
        ("E_KEY", 6, 1),
        ("E_RECIPE", 7, 1),
    ],
    "several_images.py": [("E_RECIPE", 1, 1)],
    "syntax_error.recipe": [("E_SYNTAX", 3, 12)],
    "syntax_error.yaml": [("E_SYNTAX", 3, 6)],
    "syntax_error_unmatched.recipe": [("E_SYNTAX", 4, 20)],
    "tag.yaml": [("E_SYNTAX", 2, 10)],
    "two_documents.yaml": [("E_SYNTAX", 2, 1)],
    "undefined_variable.py": [("E_TEMPLATE", 4, 1)],
    "undefined_variable.yaml": [("E_TEMPLATE", 3, 5)],
    "unknown_attribute.py": [("E_KEY", 4, 1)],
    "unknown_base.py": [("E_VALUE", 3, 7)],
    "unknown_base.yaml": [("E_VALUE", 2, 7)],
    "unknown_kernel_option.py": [("E_KEY", 4, 14)],
    "unknown_key.yaml": [("E_KEY", 2, 1)],
    "unknown_keyword.py": [("E_KEY", 4, 1)],
    "unknown_keyword.yaml": [("E_KEY", 5, 5)],
    "unknown_method.py": [("E_KEY", 4, 1)],
    "unknown_secret.py": [("E_REFERENCE", 8, 1)],
    "unknown_user.py": [("E_REFERENCE", 5, 1)],
    "unknown_user.yaml": [("E_REFERENCE", 4, 5)],
    "wrong_type.py": [("E_TYPE", 4, 1)],
    "wrong_type.yaml": [("E_TYPE", 4, 5)],
    "wrong_type_attribute.py": [("E_TYPE", 4, 1)],
    "wrong_type_list.yaml": [("E_TYPE", 2, 10)],
}

SUGGESTIONS = {
    "unknown_keyword.py": "restart",
    "unknown_keyword.yaml": "restart",
    "unknown_attribute.py": "kernel",
    "unknown_method.py": "install",
    "unknown_kernel_option.py": "cmdline",
    "unknown_key.yaml": "services",
    "unknown_base.py": "debian/trixie",
    "unknown_base.yaml": "debian/trixie",
    "missing_source.py": "sub/motd",
    "missing_source.yaml": "sub/motd",
    "module_not_found.yaml": "tdx.modules.TimeSynchronisation",
    "several_images.py": "several_images.py:small",
    "relative_destination.py": "/etc/motd",
    "decimal_mode.py": "0o755",
}


def test_every_bad_recipe_is_expected() -> None:
    assert {path.name for path in BAD.iterdir() if path.is_file()} == set(EXPECTED)


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_bad_recipe_is_diagnosed_at_its_place(name: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        driver.analyse(driver.load_recipe(str(BAD / name)).image)
    found = caught.value.diagnostics
    assert [(d.code.value, d.span.line, d.span.column) for d in found] == EXPECTED[name]
    assert {d.span.file for d in found} == {name}


@pytest.mark.parametrize("name", sorted(SUGGESTIONS))
def test_fix_names_what_was_meant(name: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        driver.load_recipe(str(BAD / name))
    assert SUGGESTIONS[name] in caught.value.diagnostics[0].fix


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_bad_recipe_leaves_the_output_folder_as_it_was(name: str, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    (out / "kept").write_text("mine")
    status = run(tdxc, ["compile", str(BAD / name), "-o", str(out)])
    assert status == 1
    assert [path.name for path in tmp_path.rglob("*")] == ["out", "kept"]
    assert (out / "kept").read_text() == "mine"


def test_bad_recipe_prints_place_line_and_fix_without_a_traceback(capfd: pytest.CaptureFixture[str]) -> None:
    run(tdxc, ["check", str(BAD / "unknown_keyword.py")])
    error = capfd.readouterr().err
    assert "unknown_keyword.py:4:1: error[E_KEY]: service() has no keyword 'restrat'" in error
    assert 'img.service("app", exec="/usr/bin/app", restrat="always")' in error
    assert "did you mean 'restart'?" in error
    assert "Traceback" not in error


@pytest.mark.parametrize(
    ("name", "value"),
    [("plain_password.py", "hunter2"), ("number_as_password.yaml", "123456789"), ("placed_secret.py", "correct-horse")],
)
def test_what_is_secret_in_a_bad_recipe_is_not_repeated(
    name: str, value: str, capfd: pytest.CaptureFixture[str]
) -> None:
    assert value in (BAD / name).read_text()
    for more in ([], ["--format", "json"]):
        run(tdxc, ["check", str(BAD / name), *more])
        said = capfd.readouterr()
        assert "E_SECRET" in said.out + said.err
        assert value not in said.out + said.err
