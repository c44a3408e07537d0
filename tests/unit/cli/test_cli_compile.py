"""``tdxc compile`` and ``tdxc check``: what they write, what they leave alone, and what they say about it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from support.commands import SMALL, invoke, project, state
from tdxc import driver


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return project(tmp_path, monkeypatch)


def test_compile_writes_a_complete_tree_and_says_so(folder: Path) -> None:
    outcome = invoke("compile", "small.py", "-o", "out")
    files = [path for path in (folder / "out").rglob("*") if path.is_symlink() or path.is_file()]
    assert (outcome.status, outcome.err) == (0, "")
    assert f"out: {len(files) - 1} written, 0 removed, 0 unchanged" in outcome.out
    assert "recipe sha256:" in outcome.out
    assert (folder / "out/mkosi.conf").is_file()


def test_a_second_compile_touches_nothing(folder: Path) -> None:
    invoke("compile", "small.py", "-o", "out")
    before = state(folder)
    outcome = invoke("compile", "small.py", "-o", "out", "--format", "json")
    assert outcome.data()["written"] == outcome.data()["removed"] == []
    assert state(folder) == before


def test_only_what_changed_is_written_again(folder: Path) -> None:
    invoke("compile", "small.py", "-o", "out")
    before = state(folder / "out")
    (folder / "small.py").write_text(
        SMALL.replace("sleep infinity", "sleep 1") + 'img.file("/etc/motd", content="hi")\n'
    )
    summary = invoke("compile", "small.py", "-o", "out", "--format", "json").data()
    after = state(folder / "out")
    touched = {path for path in after if after[path] != before.get(path) and (folder / "out" / path).is_file()}
    assert touched == {*summary["written"], ".tdxc/files.json"}
    assert {"mkosi.extra/usr/bin/app", "mkosi.extra/etc/motd"} <= touched
    assert "mkosi.extra/usr/lib/systemd/system/app.service" not in touched


def test_a_file_changed_by_hand_is_kept_unless_forced(folder: Path) -> None:
    invoke("compile", "small.py", "-o", "out")
    (folder / "out/mkosi.conf").write_text("[Output]\n")
    before = state(folder)
    refused = invoke("compile", "small.py", "-o", "out")
    assert refused.status == 1
    assert "error[E_TREE_MODIFIED]: 'out/mkosi.conf' was changed by hand" in refused.err
    assert "--force" in refused.err
    assert state(folder) == before
    assert invoke("compile", "small.py", "-o", "out", "--force").status == 0
    assert (folder / "out/mkosi.conf").read_text() != "[Output]\n"


@pytest.mark.parametrize("target", ["small.py", ".", "..", "precious", "/proc/tdxc"])
def test_an_output_folder_that_is_not_ours_is_refused_and_kept(folder: Path, target: str) -> None:
    (folder / "precious").mkdir()
    (folder / "precious/letter").write_text("x")
    before = state(folder)
    outcome = invoke("compile", "small.py", "-o", target)
    assert outcome.status == 3
    assert "error[E_OUTPUT]" in outcome.err
    assert "fix:" in outcome.err
    assert state(folder) == before


def test_the_current_folder_is_refused_even_when_empty(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "empty").mkdir()
    monkeypatch.chdir(folder / "empty")
    outcome = invoke("compile", "../small.py", "-o", ".")
    assert outcome.status == 3
    assert "the current folder" in outcome.err
    assert list((folder / "empty").iterdir()) == []


def test_a_link_to_a_folder_stays_a_link(folder: Path) -> None:
    (folder / "real").mkdir()
    (folder / "link").symlink_to("real")
    (folder / "dangling").symlink_to("made")
    for name in ("link", "dangling"):
        assert invoke("compile", "small.py", "-o", name).status == 0
        assert invoke("compile", "small.py", "-o", name, "--format", "json").data()["written"] == []
        assert (folder / name).is_symlink()
    assert (folder / "real/mkosi.conf").is_file()
    assert (folder / "made/mkosi.conf").is_file()
    assert {path.name for path in folder.iterdir()} == {"real", "link", "dangling", "made", "small.py", "bad.py"}


def test_compile_into_a_folder_that_does_not_exist_yet_makes_its_parents(folder: Path) -> None:
    assert invoke("compile", "small.py", "-o", "a/b/c").status == 0
    assert (folder / "a/b/c/mkosi.conf").is_file()


def test_a_profile_is_resolved_into_the_image(folder: Path) -> None:
    invoke("compile", "small.py", "-o", "all")
    invoke("compile", "small.py", "-o", "dev", "--profile", "dev")
    assert (folder / "all/mkosi.profiles/dev/mkosi.conf").is_file()
    assert not (folder / "dev/mkosi.profiles").exists()
    assert "strace" in (folder / "dev/mkosi.conf").read_text()
    assert "strace" not in (folder / "all/mkosi.conf").read_text()


@pytest.mark.parametrize("command", [["compile", "-o", "out"], ["check"]])
def test_an_unknown_profile_is_answered_with_the_nearest(folder: Path, command: list[str]) -> None:
    outcome = invoke(command[0], "small.py", *command[1:], "--profile", "dve")
    assert outcome.status == 1
    assert "did you mean 'dev'?" in outcome.err
    assert not (folder / "out").exists()


def test_dump_ir_writes_every_stage_and_its_difference(folder: Path) -> None:
    outcome = invoke("compile", "small.py", "-o", "out", "--dump-ir-after", "all", "--dump-dir", "dump")
    assert outcome.status == 0
    names = {path.name for path in (folder / "dump").iterdir()}
    for number, name in enumerate(driver.pass_names(), 1):
        assert {f"{number:02}-{name}.ir", f"{number:02}-{name}.diff"} <= names
    resolved = driver.pass_names()[driver.pass_names().index(driver.LOWER_IMAGE) :]
    assert all(any(f"-dev-{name}.ir" in found for found in names) for name in resolved)
    assert (
        "ResolvedImage" in (folder / "dump" / f"{len(driver.pass_names()):02}-{driver.pass_names()[-1]}.ir").read_text()
    )


def test_dump_ir_after_one_pass_writes_that_one(folder: Path) -> None:
    invoke("compile", "small.py", "-o", "out", "--profile", "dev", "--dump-ir-after", "harden-services")
    assert {path.name.partition("-dev-")[2] for path in (folder / "ir-dump").iterdir()} == {
        "harden-services.ir",
        "harden-services.diff",
    }
    change = next((folder / "ir-dump").glob("*.diff")).read_text()
    assert "+" in change
    assert "NoNewPrivileges" in change


def test_dump_ir_after_an_unknown_pass_is_a_usage_error_with_the_nearest_name(folder: Path) -> None:
    outcome = invoke("compile", "small.py", "-o", "out", "--dump-ir-after", "harden-service")
    assert outcome.status == 2
    assert "Did you mean 'harden-services'?" in outcome.err
    assert not (folder / "out").exists()


def test_time_passes_names_every_pass_on_standard_error(folder: Path) -> None:
    outcome = invoke("compile", "small.py", "-o", "out", "--time-passes", "--format", "json")
    assert outcome.data()["unchanged"] == 0
    assert all(f" ms  {name}\n" in outcome.err for name in (*driver.pass_names(), "all passes"))


def test_an_override_is_visible_in_the_tree_and_warned_of(folder: Path) -> None:
    override = folder / "mine"
    (override / "mkosi.extra/etc").mkdir(parents=True)
    (override / "mkosi.extra/etc/added").write_text("x\n")
    (override / "mkosi.conf").write_text("[Content]\nKernelCommandLine=debug\n")
    outcome = invoke("compile", "small.py", "-o", "out", "--mkosi-override", "mine")
    assert outcome.status == 0
    assert "mine/mkosi.conf:2:1: warning[W_OVERRIDE]" in outcome.err
    assert (folder / "out/mkosi.override/mkosi.extra/etc/added").read_text() == "x\n"
    assert (folder / "out/mkosi.conf").read_text().endswith("[Include]\nInclude=mkosi.override\n")
    assert invoke("compile", "small.py", "-o", "out").status == 0
    assert not (folder / "out/mkosi.override").exists()


def test_an_override_is_an_input_of_builds_except_for_what_is_the_images_alone(folder: Path) -> None:
    build = 'img.build(Build.script(name="t", build_script="date > x", artifacts={"x": "/opt/x"}))\n'
    recipe = (
        (folder / "small.py").read_text().replace("import Image", "import Build, Image").replace("with", build + "with")
    )
    (folder / "small.py").write_text(recipe)
    (folder / "mine/mkosi.extra/etc").mkdir(parents=True)

    def inputs(*options: str) -> dict[str, str]:
        assert invoke("compile", "small.py", "-o", "out", *options).status == 0
        declared = json.loads((folder / "out/.tdxc/builds.json").read_text())
        found: dict[str, str] = declared["builds"]["t"]["inputs"]
        return found

    alone = inputs()
    (folder / "mine/mkosi.extra/etc/added").write_text("x\n")
    (folder / "mine/mkosi.conf").write_text("[Output]\nCompressLevel=3\n[Content]\nPackages=\n        jq\n")
    assert inputs("--mkosi-override", "mine") == alone
    (folder / "mine/mkosi.conf").write_text("[Output]\nCompressLevel=3\n[Build]\nWithNetwork=yes\n")
    over = inputs("--mkosi-override", "mine")
    assert {name for name in over if over[name] != alone.get(name)} == {"override"}
    for path in ("mkosi.conf.d/a.conf", "mkosi.skeleton/etc/x"):
        (folder / "mine" / path).parent.mkdir(parents=True)
        (folder / "mine" / path).write_text("x\n" if "skeleton" in path else "[Output]\nCompressLevel=3\n")
        before, over = over, inputs("--mkosi-override", "mine")
        assert before["override"] != over["override"]


def test_an_override_with_a_syntax_error_leaves_the_tree(folder: Path) -> None:
    invoke("compile", "small.py", "-o", "out")
    (folder / "mine").mkdir()
    (folder / "mine/mkosi.conf").write_text("Format=disk\n")
    before = state(folder)
    outcome = invoke("compile", "small.py", "-o", "out", "--mkosi-override", "mine")
    assert outcome.status == 1
    assert "mine/mkosi.conf:1:1: error[E_SYNTAX]" in outcome.err
    assert state(folder) == before


def test_build_emit_mkosi_writes_the_same_tree_and_stops(folder: Path) -> None:
    invoke("compile", "small.py", "-o", "one")
    outcome = invoke("build", "small.py", "--emit-mkosi", "two", "--format", "json")
    assert outcome.data()["output"] == "two"
    assert set(state(folder / "one")) == set(state(folder / "two"))
    assert not (folder / "build").exists()


def test_check_reports_and_writes_nothing(folder: Path) -> None:
    before = state(folder)
    fine, bad = invoke("check", "small.py"), invoke("check", "bad.py")
    assert (fine.status, fine.out, fine.err) == (0, "small.py: no errors, no warnings\n", "")
    assert bad.status == 1
    assert bad.out == "bad.py: 2 errors, no warnings\n"
    assert bad.err.index("bad.py:3:7: error[E_KEY]") < bad.err.index("bad.py:4:1: error[E_PATH]")
    assert state(folder) == before


def test_check_strict_fails_on_warnings(folder: Path) -> None:
    (folder / "warns.py").write_text(SMALL + 'img.service("b", exec="/usr/bin/b", after=["apq.service"])\n')
    relaxed = invoke("check", "warns.py")
    assert relaxed.status == 0
    assert "warning[W_UNKNOWN_UNIT]" in relaxed.err
    assert invoke("check", "warns.py", "--strict").status == 4
    assert invoke("check", "small.py", "--strict").status == 0


def test_check_finds_a_fault_that_only_a_profile_has(folder: Path) -> None:
    (folder / "profile.py").write_text(SMALL + '    img.file("/usr/bin/app", content="x")\n')
    outcome = invoke("check", "profile.py", "--format", "json")
    assert outcome.status == 1
    assert [found["code"] for found in outcome.data()["diagnostics"]] == ["E_CONFLICT"]


def test_one_of_several_images_is_chosen_by_name(folder: Path) -> None:
    (folder / "two.py").write_text('from tdx import Image\na = Image("first")\nb = Image("second")\n')
    assert invoke("check", "two.py").status == 1
    invoke("compile", "two.py:b", "-o", "out")
    assert json.loads((folder / "out/.tdxc/ir.json").read_text())["image"]["name"] == "second"
