"""Loading a recipe: which image, which actions, what stays behind, and every way in which a file can be wrong."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tdx._load import RECIPE_LIMIT_BYTES, LoadedRecipe, load_recipe
from tdx.backends import LimaMkosiBackend
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError

HEAD = "from tdx import Image\n"


def _write(folder: Path, text: str | bytes, name: str = "recipe.py") -> Path:
    path = folder / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def _load(folder: Path, text: str, name: str = "recipe.py") -> LoadedRecipe:
    return load_recipe(_write(folder, text, name))


def _fault(path: Path | str) -> Diagnostic:
    with pytest.raises(DiagnosticError) as caught:
        load_recipe(path)
    return caught.value.diagnostics[0]


@pytest.mark.parametrize("name", ["recipe.py", "TDXfile", "my recipe", "image.tdx"])
def test_python_recipe_may_have_any_name(tmp_path: Path, name: str) -> None:
    loaded = _load(tmp_path, HEAD + "img = Image('x')\n", name)
    assert (loaded.name, loaded.image.name, loaded.image.span.file) == ("img", "x", name)


def test_name_behind_a_colon_chooses_an_image(tmp_path: Path) -> None:
    path = _write(tmp_path, HEAD + "small = Image('s')\nlarge = Image('l')\n")
    assert load_recipe(f"{path}:large").image.name == "l"
    assert load_recipe(path, "small").image.name == "s"
    fault = _fault(f"{path}:larg")
    assert (fault.code, fault.fix) == (Code.E_REFERENCE, "did you mean 'large'?")


def test_faults_of_an_image_that_was_not_chosen_do_not_count(tmp_path: Path) -> None:
    path = _write(tmp_path, HEAD + "good = Image('g')\nbad = Image('b')\nbad.install(1)\n")
    assert load_recipe(path, "good").image.name == "g"


def test_a_file_whose_name_holds_a_colon_is_that_file(tmp_path: Path) -> None:
    assert _load(tmp_path, HEAD + "img = Image('x')\n", "a:b").image.name == "x"


def test_one_image_under_two_names_is_one_image(tmp_path: Path) -> None:
    assert _load(tmp_path, HEAD + "img = Image('x')\nimage = img\n").image.name == "x"


def test_verbs_are_recorded_and_not_executed(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path,
        HEAD
        + "img = Image('x')\n"
        + "img.compile('out')\n"
        + "img.lock()\n"
        + "result = img.bake(frozen=True)\n"
        + "print(result.uki.path, result.artifact('qemu').sha256, [a for a in result.artifacts])\n"
        + "with img.profile('a'):\n    img.docs = True\n"
        + "with img.profile('b'):\n    img.bake()\n"
        + "with img.all_profiles():\n    results = img.bake(output='o')\n"
        + "for name in results: raise SystemExit\n"
        + "img.measure(memory='4G', vcpus=2)\n",
    )
    assert [(action.verb, action.profiles) for action in loaded.actions] == [
        ("compile", None),
        ("lock", None),
        ("bake", None),
        ("bake", ("b",)),
        ("bake", ("a", "b")),
        ("measure", None),
    ]
    assert dict(loaded.actions[0].arguments) == {"path": "out", "force": False}
    assert [path.name for path in tmp_path.iterdir()] == ["recipe.py"]


def test_guarded_main_does_not_run(tmp_path: Path) -> None:
    loaded = _load(tmp_path, HEAD + "img = Image('x')\nif __name__ == '__main__':\n    raise RuntimeError\n")
    assert loaded.image.name == "x"


def test_backend_of_the_recipe_is_given(tmp_path: Path) -> None:
    loaded = _load(
        tmp_path,
        HEAD + "from tdx.backends import LimaMkosiBackend\n"
        "img = Image(backend=LimaMkosiBackend(cpus=6, memory='12GiB', disk='100GiB'))\n",
    )
    assert loaded.backend == LimaMkosiBackend(cpus=6, memory="12GiB", disk="100GiB")


def test_sources_give_the_recipe_and_its_neighbours(tmp_path: Path) -> None:
    _write(tmp_path, "X = 1\n", "near.py")
    loaded = _load(tmp_path, HEAD + "import near\nimg = Image('x')\n")
    assert loaded.sources("near.py") == "X = 1\n"
    assert (loaded.sources("recipe.py") or "").startswith(HEAD)
    assert loaded.sources("nowhere.py") is None


def test_interpreter_is_left_as_it_was(tmp_path: Path) -> None:
    _write(tmp_path, "NAME = 'first'\n", "neighbour.py")
    (tmp_path / "package").mkdir()
    _write(tmp_path, "", "package/__init__.py")
    _write(tmp_path, "", "package/inner.py")
    before = (list(sys.path), list(sys.path_hooks), Path.cwd())
    text = HEAD + (
        "import os, sys, neighbour, package.inner\n"
        "sys.path.append('/nowhere')\nos.chdir('/')\nimg = Image(neighbour.NAME)\n"
    )
    assert _load(tmp_path, text).image.name == "first"
    assert (list(sys.path), list(sys.path_hooks), Path.cwd()) == before
    assert not {"neighbour", "package", "package.inner", "tdx_recipe"} & set(sys.modules)
    assert not any(path.startswith(str(tmp_path)) for path in sys.path_importer_cache)


def test_recipes_leave_no_compiled_code_and_the_product_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not beside the recipe, and neither in folders that it adds; what is installed is not compiled again each time."""
    monkeypatch.setattr(sys, "dont_write_bytecode", False)
    installed, recipe, common = (tmp_path / name for name in ("installed", "recipe", "common"))
    for folder, files in (
        (installed, ("library_a.py", "library_b/__init__.py", "library_b/inner.py")),
        (recipe, ("near.py", "package/__init__.py", "package/inner.py", "spaces/inner.py")),
        (common, ("shared_words.py",)),
    ):
        for name in files:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            _write(folder, "X = 1\n", name)
    monkeypatch.syspath_prepend(str(installed))
    text = HEAD + (
        f"import sys, near, package.inner, spaces.inner\nsys.path.append({str(common)!r})\nimport shared_words\n"
        "import library_a, library_b.inner\nimg = Image('x')\n"
    )
    _load(recipe, text)
    assert not [*recipe.rglob("__pycache__"), *common.rglob("__pycache__")]
    found = {path.name.partition(".")[0] for path in installed.rglob("*.pyc")}
    assert found == {"library_a", "__init__", "inner"}
    for name in ("library_a", "library_b", "library_b.inner", "shared_words"):
        sys.modules.pop(name, None)


def test_two_recipes_with_neighbours_of_one_name_do_not_mix(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        _write(tmp_path / name, f"NAME = '{name}'\n", "common.py")
        _write(tmp_path / name, HEAD + "import common\nimg = Image(common.NAME)\n")
    assert [load_recipe(tmp_path / name / "recipe.py").image.name for name in ("one", "two")] == ["one", "two"]


def test_interpreter_is_left_as_it_was_after_a_fault(tmp_path: Path) -> None:
    before = (list(sys.path), Path.cwd())
    _fault(_write(tmp_path, "import sys, os\nsys.path.clear()\nos.chdir('/')\nraise ValueError\n"))
    assert (list(sys.path), Path.cwd()) == before


def test_output_of_the_recipe_does_not_reach_standard_output(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _load(tmp_path, HEAD + "img = Image('x')\nprint('noise')\n")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "noise\n")


def test_missing_recipe_suggests_its_neighbour(tmp_path: Path) -> None:
    _write(tmp_path, "", "recipe.py")
    fault = _fault(tmp_path / "recipes.py")
    assert fault.code is Code.E_PATH
    assert "recipe.py" in fault.fix


def test_folder_names_the_recipe_in_it(tmp_path: Path) -> None:
    _write(tmp_path, "", "TDXfile")
    fault = _fault(tmp_path)
    assert fault.code is Code.E_PATH
    assert fault.fix.endswith("TDXfile")


def test_special_files_and_odd_names_are_refused(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    assert _fault(tmp_path / "pipe").code is Code.E_PATH
    assert _fault("/dev/zero").code is Code.E_PATH
    assert _fault("a\0b").code is Code.E_PATH
    assert _fault("x" * 5000).code is Code.E_PATH


@pytest.mark.parametrize("name", ["recipe.py", "recipe.yaml"])
def test_recipe_of_fifty_megabytes_is_refused_unread(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    with path.open("wb") as file:
        file.truncate(50_000_000)
    fault = _fault(path)
    assert (fault.code, fault.span.file, fault.span.line, fault.span.column) == (Code.E_LIMIT, name, 1, 1)
    assert RECIPE_LIMIT_BYTES < 50_000_000


def test_syntax_error_in_an_imported_neighbour_is_at_its_place(tmp_path: Path) -> None:
    _write(tmp_path, "x = (1\n", "neighbour.py")
    fault = _fault(_write(tmp_path, HEAD + "import neighbour\n"))
    assert (fault.code, str(fault.span)) == (Code.E_SYNTAX, "neighbour.py:1:5")


def test_exception_shows_the_way_to_it(tmp_path: Path) -> None:
    fault = _fault(_write(tmp_path, HEAD + "def f():\n    return {}['a']\ndef g():\n    return f()\ng()\n"))
    assert (fault.code, fault.message, fault.span.line) == (Code.E_RECIPE, "the recipe raised KeyError: 'a'", 3)
    assert [note.span.line for note in fault.notes] == [5, 6]


def test_exception_inside_a_library_points_at_the_recipe(tmp_path: Path) -> None:
    fault = _fault(_write(tmp_path, HEAD + "import json\njson.loads('{')\n"))
    assert (fault.code, str(fault.span)) == (Code.E_RECIPE, "recipe.py:3:1")


def test_expression_nested_too_deep_is_a_limit(tmp_path: Path) -> None:
    fault = _fault(_write(tmp_path, HEAD + "x = " + "-" * 100_000 + "1\n"))
    assert fault.code in {Code.E_LIMIT, Code.E_SYNTAX}
    assert fault.span.file == "recipe.py"


def test_interrupt_goes_through(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        _load(tmp_path, "raise KeyboardInterrupt\n")


def test_byte_order_mark_is_no_fault(tmp_path: Path) -> None:
    path = _write(tmp_path, b"\xef\xbb\xbf" + (HEAD + "img = Image('x')\n").encode())
    assert load_recipe(path).image.span.column == 7
    assert load_recipe(_write(tmp_path, b"\xef\xbb\xbfname: x\n", "r.yaml")).image.name == "x"


def _run(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *arguments], cwd=folder, capture_output=True, text=True, check=False, timeout=120
    )


def test_plain_python_prints_diagnostics_without_a_traceback(tmp_path: Path) -> None:
    _write(tmp_path, HEAD + "img = Image('x')\nimg.install(1)\nimg.docs = 2\nimg.compile('out')\n")
    done = _run(tmp_path, "recipe.py")
    assert done.returncode == 1
    assert "recipe.py:3:1: error[E_TYPE]: install()" in done.stderr
    assert "recipe.py:4:1: error[E_TYPE]: docs" in done.stderr
    assert "    4 | img.docs = 2" in done.stderr
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out").exists()


def test_plain_python_leaves_other_exceptions_alone(tmp_path: Path) -> None:
    _write(tmp_path, HEAD + "raise ValueError('mine')\n")
    done = _run(tmp_path, "recipe.py")
    assert done.returncode == 1
    assert "Traceback" in done.stderr
    assert "ValueError: mine" in done.stderr


def test_plain_python_exits_with_the_status_of_the_code(tmp_path: Path) -> None:
    _write(tmp_path, HEAD + "img = Image('x')\nimg.bake(frozen=True)\n")
    done = _run(tmp_path, "recipe.py")
    assert done.returncode == 4
    assert "E_LOCKFILE" in done.stderr


def test_plain_python_compiles_and_locks(tmp_path: Path) -> None:
    _write(tmp_path, HEAD + "img = Image('x')\nimg.compile('build/mkosi')\nimg.lock()\n")
    done = _run(tmp_path, "recipe.py")
    assert (done.returncode, done.stdout) == (0, "")
    assert (tmp_path / "build/mkosi/mkosi.conf").is_file()
    assert (tmp_path / "build/tdx.lock").is_file()


def test_plain_python_measures_only_what_was_baked(tmp_path: Path) -> None:
    _write(tmp_path, HEAD + "img = Image('x')\nimg.measure(platform='qemu')\n")
    done = _run(tmp_path, "recipe.py")
    assert done.returncode == 1
    assert "recipe.py:3:1: error[E_MEASUREMENT]" in done.stderr


@pytest.mark.parametrize(
    ("call", "code"),
    [
        ("img.bake(forzen=True)", Code.E_KEY),
        ("img.compile(7)", Code.E_TYPE),
        ("img.lock(path=None)", Code.E_TYPE),
        ("img.measure(platform='aws')", Code.E_VALUE),
        ("img.measure(memory='much')", Code.E_VALUE),
    ],
)
def test_verbs_check_their_arguments(tmp_path: Path, call: str, code: Code) -> None:
    fault = _fault(_write(tmp_path, HEAD + f"img = Image('x')\n{call}\n"))
    assert (fault.code, str(fault.span)) == (code, "recipe.py:3:1")


def test_package_is_a_program_of_its_own(tmp_path: Path) -> None:
    package = tmp_path / "images" / "surge-prover"
    package.mkdir(parents=True)
    _write(package, HEAD + "from tdx import main\nimg = Image('x')\nmain(img)\n", "__main__.py")
    done = _run(tmp_path, "-m", "images.surge-prover", "compile")
    assert done.returncode == 0, done.stderr
    assert (package / "mkosi/mkosi.conf").is_file()
    assert load_recipe(package / "__main__.py").image.name == "x"
    assert _run(tmp_path, "-m", "images.surge-prover", "unknown").returncode == 2
