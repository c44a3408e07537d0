"""The images of builds in a tree, and their scripts, which bash runs for real where that is what matters."""

from __future__ import annotations

import functools
import hashlib
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.builds import authored_build, local_source, repository, resolved_build, run_scripts
from support.resolved_images import SPAN, resolved_image
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import (
    Artifact,
    Blob,
    BuildSource,
    CompiledImage,
    File,
    Package,
    ResolvedImage,
    SourceFile,
    Toolchain,
)
from tdxc.passes.builds import check_variables, lower_build
from tdxc.tree import FileTree
from tdxc_emitters import emit_image
from tdxc_emitters.mkosi.builds import declaration
from tdxc_runtime.builds.failure import BuildStep, next_step

FOLDER = "mkosi.images/build-tool"
PATCH = b"--- a/input\n+++ b/input\n@@ -1 +1 @@\n-in\n+out\n"


def compiled(*builds: Any, variants: tuple[ResolvedImage, ...] = ()) -> CompiledImage:
    return CompiledImage(span=SPAN, image=resolved_image(builds=builds), variants=variants)


def emitted(*builds: Any, variants: tuple[ResolvedImage, ...] = ()) -> FileTree:
    return emit_image(compiled(*builds, variants=variants))


def artifact(source: str, dest: str, **changes: Any) -> Artifact:
    return Artifact(**{"span": SPAN, "source": f"source/{source}", "dest": dest, **changes})


def greeting(**changes: Any) -> Any:
    files = (
        SourceFile(span=SPAN, path="input", content=Blob.of(b"in\n")),
        SourceFile(span=SPAN, path="run", content=Blob.of(b"#!/bin/sh\n"), executable=True),
    )
    fields: dict[str, Any] = {
        "compile": 'printf "%s\\n" "$GREETING" > greeting; mkdir -p data/sub; cp input run data/sub/',
        "artifacts": (
            artifact("greeting", "/usr/share/a b/greeting"),
            artifact("run", "/bin/run"),
            artifact("data", "/usr/lib/tool"),
        ),
        "source": BuildSource(span=SPAN, files=files),
        "environment": (("GREETING", "it's $HOME"), ("PATH", "/usr/bin:/bin")),
    }
    return resolved_build(**{**fields, **changes})


@pytest.mark.parametrize("umask", [0o022, 0o077])
def test_build_installs_its_artifacts(tmp_path: Path, umask: int) -> None:
    dest = run_scripts(emitted(greeting()), "tool", tmp_path, umask)
    assert (dest / "usr/share/a b/greeting").read_text() == "it's $HOME\n"
    assert (dest / "usr/bin/run").stat().st_mode & 0o777 == 0o755
    assert (dest / "usr/lib/tool/sub/input").stat().st_mode & 0o777 == 0o644
    assert (dest / "usr/lib/tool/sub/run").stat().st_mode & 0o777 == 0o755
    assert all(path.stat().st_mode & 0o777 == 0o755 for path in dest.rglob("*") if path.is_dir())


def test_modes_of_artifacts_hold_for_files_and_for_all_of_a_folder(tmp_path: Path) -> None:
    artifacts = (artifact("greeting", "/usr/share/g", mode=0o4640), artifact("data", "/usr/lib/tool", mode=0o400))
    dest = run_scripts(emitted(greeting(artifacts=artifacts)), "tool", tmp_path)
    assert (dest / "usr/share/g").stat().st_mode & 0o7777 == 0o4640
    assert [path.stat().st_mode & 0o7777 for path in sorted((dest / "usr/lib/tool/sub").iterdir())] == [0o400, 0o400]


@pytest.mark.parametrize(
    ("script", "inner", "words"),
    [
        ("mkdir -p data/app", "/opt/d/app", "cannot overwrite directory"),
        ("mkdir data; ln -s /tmp data/link", "/opt/d/link/file", "/opt/d/link/file is behind a link"),
        (
            "mkdir data; ln -s ../../../../../../.. data/link",
            "/opt/d/link/a/file",
            "/opt/d/link/a/file is behind a link",
        ),
    ],
)
def test_an_artifact_that_cannot_be_at_its_place_fails(tmp_path: Path, script: str, inner: str, words: str) -> None:
    artifacts = (artifact("data", "/opt/d"), artifact("input", inner))
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_scripts(emitted(greeting(compile=script, artifacts=artifacts)), "tool", tmp_path)
    assert words in caught.value.stderr


def test_an_artifact_behind_a_link_within_the_artifacts_is_installed(tmp_path: Path) -> None:
    artifacts = (artifact("data", "/opt/d"), artifact("input", "/opt/d/lib64/input"))
    made = greeting(compile="mkdir -p data/lib; ln -s lib data/lib64; cp run data/lib/", artifacts=artifacts)
    dest = run_scripts(emitted(made), "tool", tmp_path)
    assert sorted(path.name for path in (dest / "opt/d/lib").iterdir()) == ["input", "run"]


def test_build_that_leaves_early_still_installs(tmp_path: Path) -> None:
    early = greeting(compile="printf x > greeting; mkdir data; exit 0; echo never")
    assert (run_scripts(emitted(early), "tool", tmp_path) / "usr/share/a b/greeting").read_text() == "x"


@pytest.mark.parametrize("script", ["false", "echo $UNSET", "false | true"])
def test_failing_build_fails(tmp_path: Path, script: str) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run_scripts(emitted(greeting(compile=script)), "tool", tmp_path)


@pytest.mark.parametrize("kind", ["local", "tarball", "git"])
def test_no_variable_that_a_build_may_set_disturbs_its_scripts(tmp_path: Path, kind: str) -> None:
    """Every word of the scripts that could be the name of a variable is one; the build sees them all, and goes on."""
    if kind == "git":
        commit = repository(tmp_path / "git")
        source = BuildSource(span=SPAN, git=f"file://{tmp_path}/git", rev=commit)
    elif kind == "tarball":
        archive = tmp_path / "x.tar"
        subprocess.run(["tar", "-cf", str(archive), "-C", str(Path(__file__).parent), "."], check=True)
        digest = hashlib.sha256(archive.read_bytes()).hexdigest()
        source = BuildSource(span=SPAN, tarball=f"file://{archive}", sha256=digest)
    else:
        source = local_source({"input": "in"})
    wanted = authored_build(source=source, build_script="set > variables; mkdir made; cp variables made/")
    wanted = attrs.evolve(
        wanted,
        artifacts=(Artifact(span=SPAN, source="variables", dest="/v"), Artifact(span=SPAN, source="made", dest="/opt")),
    )
    base = resolved_image().base
    tree = emitted(lower_build(base, wanted))
    text = tree.text(f"{FOLDER}/fetch.sh") + tree.text(f"{FOLDER}/build.sh")
    names = sorted({*re.findall(r"[A-Za-z_][A-Za-z0-9_]*", text)} - {"PATH", "HOME", "SOURCE_DATE_EPOCH", "LC_ALL"})
    free = [name for name in names if not any(check_variables(attrs.evolve(wanted, environment=((name, "x"),))))]
    assert {"DESTDIR", "SRCDIR", "debug_shell", "work"} <= {*names} - {*free}
    environment = tuple((name, f"own {name}") for name in free)
    build = lower_build(base, attrs.evolve(wanted, environment=environment))
    dest = run_scripts(emitted(build), "tool", tmp_path / "run")
    seen = (dest / "v").read_text().splitlines()
    assert [name for name in free if f"{name}='own {name}'" not in seen] == []
    assert (dest / "opt/variables").read_text() == (dest / "v").read_text()
    assert not (tmp_path / "run/build/tool/network").exists() or kind == "local"


def test_a_missing_artifact_fails_and_shows_what_there_is(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_scripts(emitted(greeting(compile="mkdir data; touch greeting.txt")), "tool", tmp_path)
    assert "the build made no source/greeting; its folder holds:" in caught.value.stderr
    assert "/source/greeting.txt" in caught.value.stderr


def test_a_failing_test_installs_nothing(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError):
        run_scripts(emitted(greeting(test="test -e no-such-file")), "tool", tmp_path)
    assert not (tmp_path / "dest/tdxc-artifacts").exists()


def test_patches_are_applied_in_order_and_sources_get_one_time(tmp_path: Path) -> None:
    patches = (SourceFile(span=SPAN, path="01-a.patch", content=Blob.of(PATCH)),)
    dest = run_scripts(emitted(greeting(patches=patches)), "tool", tmp_path)
    assert (dest / "usr/lib/tool/sub/input").read_text() == "out\n"
    assert (tmp_path / "build/tool/source/run").stat().st_mtime == 0


def test_a_patch_that_does_not_apply_fails(tmp_path: Path) -> None:
    patches = (SourceFile(span=SPAN, path="01-a.patch", content=Blob.of(PATCH.replace(b"-in", b"-no"))),)
    with pytest.raises(subprocess.CalledProcessError):
        run_scripts(emitted(greeting(patches=patches)), "tool", tmp_path)


def test_a_patch_that_fits_only_by_guessing_fails(tmp_path: Path) -> None:
    files = {"input": "ONE\ntwo\nthree\nfour\nfive\n"}
    patch = b"--- a/input\n+++ b/input\n@@ -1,5 +1,5 @@\n one\n two\n three\n-four\n+4\n five\n"
    patches = (SourceFile(span=SPAN, path="01-a.patch", content=Blob.of(patch)),)
    build = greeting(
        source=local_source(files), patches=patches, compile="true", artifacts=(artifact("input", "/usr/share/input"),)
    )
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_scripts(emitted(build), "tool", tmp_path)
    assert caught.value.stdout.splitlines()[-1].startswith("1 out of 1 hunk FAILED")


@pytest.mark.parametrize(
    ("changes", "step"),
    [
        ({"patches": (SourceFile(span=SPAN, path="07-x y.patch", content=Blob.of(b"-")),)},
         "applying the patch 07-x y.patch"),
        ({"fetch": "false"}, "fetching its dependencies"),
        ({"compile": "false"}, "compiling"),
        ({"compile": "false", "network": True}, "compiling"),
        ({"test": "false"}, "testing"),
        ({"compile": "true"}, "installing its artifacts"),
        ({"toolchain": Toolchain(span=SPAN, version="2"), "version_command": "echo 1"},
         "checking the version of its toolchain"),
        ({"source": BuildSource(span=SPAN, tarball="file:///none", sha256="0" * 64)}, "fetching its source"),
    ],
)  # fmt: skip
def test_what_fails_is_the_last_step_that_was_told(tmp_path: Path, changes: dict[str, Any], step: str) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_scripts(emitted(greeting(**changes)), "tool", tmp_path)
    told = caught.value.stdout.splitlines()
    assert [line for line in told if line.startswith("‣")][-1] == f"‣ build tool: {step}"
    assert functools.reduce(next_step, told, BuildStep()) == BuildStep("tool", step)


def test_a_compiler_of_another_version_is_told_with_both(tmp_path: Path) -> None:
    asked = {"toolchain": Toolchain(span=SPAN, version="1.24"), "version_command": "echo 1.240.1"}
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_scripts(emitted(greeting(**asked)), "tool", tmp_path)
    assert "asks for GCC 1.24, and this environment has GCC 1.240.1" in caught.value.stderr
    run_scripts(emitted(greeting(**{**asked, "version_command": "echo 1.24.1"})), "tool", tmp_path / "2")


def test_a_lock_file_that_is_missing_stops_the_fetching(tmp_path: Path) -> None:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_scripts(emitted(greeting(fetch="need_lock go.sum 'go mod tidy'")), "tool", tmp_path)
    assert "the source has no go.sum" in caught.value.stderr
    assert "go mod tidy" in caught.value.stderr


def outside(script: str, folder: Path, **environment: str) -> str:
    """Run a script's part outside of the environment, with a ``mkosi-chroot`` that only prints; its network file."""
    programs = folder / "bin"
    programs.mkdir(parents=True)
    (programs / "mkosi-chroot").write_text('#!/bin/sh\necho chroot "$@"\n')
    (programs / "mkosi-chroot").chmod(0o755)
    env = {"PATH": f"{programs}:/usr/bin:/bin", "BUILDROOT": str(folder / "root"), "SRCDIR": "/work/src"}
    text = script.replace("/etc/tdxc", str(folder / "etc"))
    command = ["bash", "-c", text, "fetch.sh", "build"]
    done = subprocess.run(
        command, check=True, env={**env, "CHROOT_SCRIPT": "/s", **environment}, capture_output=True, text=True
    )
    assert done.stdout == "chroot env -i container=mkosi SRCDIR=/work/src /s build\n"
    network = folder / "root/var/lib/tdxc-build/tool/network"
    assert network.stat().st_mode & 0o777 == 0o600
    return network.read_text()


def test_the_network_of_the_build_host_is_handed_over_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/fetch.env").write_text("GOPROXY=https://p.example/x y\nPATH=/evil\nLD_PRELOAD=/evil\n")
    (tmp_path / "etc/ca-certificates.crt").write_text("certificate")
    tree = emitted(resolved_build(fetch="go mod download"))
    found = outside(tree.text(f"{FOLDER}/fetch.sh"), tmp_path, HTTPS_PROXY="http://u:p'w@h:1/$x", AWS_KEY="secret")
    shown = subprocess.run(
        ["bash", "-c", f'{found}\necho "$GOPROXY|$HTTPS_PROXY|$CARGO_HTTP_CAINFO"'],
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    certificate = "/var/lib/tdxc-build/tool/ca-certificates.crt"
    assert shown == f"https://p.example/x y|http://u:p'w@h:1/$x|{certificate}\n"
    assert "evil" not in found
    assert "secret" not in found
    assert (tmp_path / "root" / certificate[1:]).read_text() == "certificate"


def test_a_build_that_fetches_nothing_hears_nothing_of_the_network() -> None:
    text = emitted(greeting()).text(f"{FOLDER}/fetch.sh")
    assert "network=" not in text
    assert "download" not in text


def test_only_a_build_that_says_so_compiles_with_the_network() -> None:
    open_, closed = (emitted(greeting(network=network)) for network in (True, False))
    assert "$GREETING" in open_.text(f"{FOLDER}/fetch.sh")
    assert "$GREETING" not in open_.text(f"{FOLDER}/build.sh")
    assert "$GREETING" not in closed.text(f"{FOLDER}/fetch.sh")
    assert "WithNetwork=no" in open_.text("mkosi.conf")
    assert "Network" not in open_.text(f"{FOLDER}/mkosi.conf")


def test_prepare_scripts_of_the_image_itself_do_nothing() -> None:
    text = emitted(greeting()).text(f"{FOLDER}/fetch.sh")
    subprocess.run(["/bin/bash", "-c", text, "fetch.sh", "final"], check=True, env={"PATH": "/nonexistent"})


def test_main_image_takes_the_artifacts_and_none_of_the_environment() -> None:
    tree = emitted(resolved_build(packages=(Package(span=SPAN, name="gcc"),)))
    conf = tree.text("mkosi.conf")
    assert "Dependencies=\n        build-tool\n" in conf
    assert "ExtraTrees=\n        %O/build-tool.tar\n" in conf
    assert "gcc" not in conf
    assert "BuildPackages=\n        gcc\n" in tree.text(f"{FOLDER}/mkosi.conf")


def test_files_of_the_recipe_win_over_what_a_build_makes() -> None:
    file = File(span=SPAN, path="/opt/node/config.json", content=Blob.of(b"{}"))
    build = resolved_build(artifacts=(artifact("out", "/opt/node"),))
    tree = emit_image(CompiledImage(span=SPAN, image=resolved_image(builds=(build,), files=(file,))))
    assert "ExtraTrees=\n        %O/build-tool.tar\n        mkosi.extra\n" in tree.text("mkosi.conf")


def test_nothing_in_a_builds_folder_names_the_image() -> None:
    trees = [
        emit_image(CompiledImage(span=SPAN, image=resolved_image(name=name, builds=(greeting(),))))
        for name in ("one", "another")
    ]
    folders = [{p: e for p, e in tree.entries.items() if p.startswith("mkosi.images/")} for tree in trees]
    assert folders[0] == folders[1]
    assert len(folders[0]) == 7


def test_owners_are_given_in_the_image() -> None:
    owned = greeting(artifacts=(artifact("data", "/usr/lib/tool", owner="app", group="eth"),))
    tree = emitted(owned)
    assert tree.text("rules/artifacts").splitlines()[1] == "app eth /usr/lib/tool"
    assert "09-finalize-artifacts.sh" in tree.text("mkosi.conf")


def variant(*builds: Any) -> ResolvedImage:
    return attrs.evolve(resolved_image(builds=builds), profiles=("dev",))


def test_builds_of_a_profile_are_built_for_it_alone() -> None:
    other = resolved_build(name="other")
    tree = emitted(variants=(variant(other),))
    assert "Dependencies=\n\n" in tree.text("mkosi.conf")
    profile = tree.text("mkosi.profiles/dev/mkosi.conf")
    assert "Dependencies=\n        build-other\n" in profile
    assert "%O/build-other.tar" in profile
    assert "mkosi.images/build-other/mkosi.conf" in tree
    assert not any("mkosi.images" in path for path in tree if path.startswith("mkosi.profiles"))


def test_a_profile_adds_to_the_builds_of_the_image() -> None:
    tree = emitted(greeting(), variants=(variant(greeting(), resolved_build(name="other")),))
    profile = tree.text("mkosi.profiles/dev/mkosi.conf")
    assert "build-other" in profile
    assert "build-tool" not in profile


@pytest.mark.parametrize("name", ["build-tool", "build-tool.tar"])
def test_an_image_cannot_have_the_name_of_a_builds_files(name: str) -> None:
    image = attrs.evolve(resolved_image(builds=(resolved_build(),)), name=name)
    with pytest.raises(DiagnosticError) as caught:
        emit_image(CompiledImage(span=SPAN, image=image, variants=()))
    assert caught.value.diagnostics[0].code is Code.E_CONFLICT


def test_two_builds_of_one_name_are_refused() -> None:
    with pytest.raises(DiagnosticError) as caught:
        emitted(greeting(), variants=(variant(greeting(compile="false")),))
    (found,) = caught.value.diagnostics
    assert found.code is Code.E_EMIT
    assert "profile 'dev' changes the build 'tool'" in found.message


def test_an_image_without_builds_says_nothing_of_them() -> None:
    assert "Dependencies" not in emitted().text("mkosi.conf")


def test_the_declaration_tells_each_input_by_its_name() -> None:
    image = resolved_image(
        builds=(greeting(packages=(Package(span=SPAN, name="gcc"),)),),
        authored_builds=(authored_build(ldflags="-X", features=("a", "b"), source=local_source({"input": "in"})),),
    )
    whole = CompiledImage(span=SPAN, image=image, variants=(variant(*image.builds, resolved_build(name="other")),))
    found = json.loads(json.dumps(declaration(whole, emit_image(whole))))
    assert found["format"] == 1
    assert found["builds"]["other"]["profiles"] == ["dev"]
    tool = found["builds"]["tool"]
    assert (tool["profiles"], tool["language"], tool["network"], tool["packages"]) == ([], "script", False, ["gcc"])
    inputs, digest = tool["inputs"], hashlib.sha256(b"in\n").hexdigest()
    assert inputs["ldflags"] == "-X"
    assert inputs["features"] == "a b"
    assert inputs["base"] == "debian/trixie"
    assert inputs["environment.GREETING"] == "it's $HOME"
    assert inputs["file.src/input"] == f"sha256:{digest}"
    assert inputs["file.src/run"].endswith(" executable")
    assert {"file.mkosi.conf", "file.fetch.sh", "file.build.sh", "file.collect.sh", "file.pack.sh"} <= inputs.keys()
