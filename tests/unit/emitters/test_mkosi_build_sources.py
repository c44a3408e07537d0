"""Sources and toolchains that scripts of builds fetch, laid out where they belong; bash and git run for real."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.builds import authored_build, commit_all, local_source, repository, resolved_build, run_scripts
from support.resolved_images import SPAN, resolved_image
from tdxc.ir import Artifact, Blob, Build, BuildLanguage, BuildSource, CompiledImage, SourceFile, Toolchain
from tdxc.passes.builds import lower_build
from tdxc.tree import FileTree
from tdxc_emitters import emit_image


def emitted(build: Any) -> FileTree:
    return emit_image(CompiledImage(span=SPAN, image=resolved_image(builds=(build,))))


def artifact(source: str, dest: str) -> Artifact:
    return Artifact(span=SPAN, source=f"source/{source}", dest=dest)


def copied(source: BuildSource) -> Any:
    return resolved_build(
        source=source,
        compile="cp input result; ! test -e ../.git",
        artifacts=(artifact("sub/result", "/usr/share/result"),),
        environment=(("PATH", "/usr/bin:/bin"),),
    )


@pytest.mark.parametrize("by_branch", [False, True])
def test_git_gives_the_commit_that_was_asked_for(tmp_path: Path, by_branch: bool) -> None:
    commit = repository(tmp_path / "git")
    source = BuildSource(span=SPAN, git=f"file://{tmp_path}/git", rev="trunk" if by_branch else commit, subdir="sub")
    dest = run_scripts(emitted(copied(source)), "tool", tmp_path)
    assert (dest / "usr/share/result").read_text() == "from git\n"
    assert not (tmp_path / "build/tool/network").exists()


def test_large_files_are_not_taken_for_what_points_to_them(tmp_path: Path) -> None:
    repository(tmp_path / "git")
    (tmp_path / "git/sub/.gitattributes").write_text("*.bin filter=lfs\n")
    (tmp_path / "git/sub/model.bin").write_text("version https://git-lfs.github.com/spec/v1\n")
    commit_all(tmp_path / "git")
    source = BuildSource(span=SPAN, git=f"file://{tmp_path}/git", rev="trunk", subdir="sub")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_scripts(emitted(copied(source)), "tool", tmp_path / "without")
    assert "add 'git-lfs' to build_deps\nsub/model.bin is one of them" in caught.value.stderr
    setting = "export GIT_CONFIG_COUNT=1 GIT_CONFIG_KEY_0=filter.lfs.smudge GIT_CONFIG_VALUE_0=cat\n"
    run_scripts(emitted(copied(source)), "tool", tmp_path / "with", network=setting)


def test_a_commit_that_the_repository_lacks_fails(tmp_path: Path) -> None:
    repository(tmp_path / "git")
    source = BuildSource(span=SPAN, git=f"file://{tmp_path}/git", rev="0" * 40, subdir="sub")
    with pytest.raises(subprocess.CalledProcessError):
        run_scripts(emitted(copied(source)), "tool", tmp_path)


PLAYED_TOOLS = {
    BuildLanguage.GO: (
        "go.sum",
        """
case $1 in
    env) echo "${PWD%/sub}/go.mod" ;;
    list) exit 1 ;;
    mod) pwd ;;
    build) pwd && echo made > ../../out/tool ;;
esac
""",
    ),
    BuildLanguage.RUST: (
        "Cargo.lock",
        """
case $1 in
    locate-project) echo "${PWD%/sub}/Cargo.toml" ;;
    fetch) ls Cargo.lock ;;
    build)
        pwd
        for program in $(cat programs 2> /dev/null || echo release/tool); do
            mkdir -p "$CARGO_TARGET_DIR/${program%/*}"
            echo made > "$CARGO_TARGET_DIR/$program"
        done
        ;;
esac
""",
    ),
}


def played(folder: Path, program: str, language: BuildLanguage, source: BuildSource) -> Build:
    """A build whose tools are the shell text ``program``."""
    for name in ("go", "cargo"):
        (folder / name).write_text(f"#!/bin/bash\n{program}")
        (folder / name).chmod(0o755)
    return authored_build(
        language,
        source=source,
        environment=(("PATH", f"{folder}:/usr/bin:/bin"),),
        artifacts=(Artifact(span=SPAN, source="", dest="/usr/bin/tool"),),
    )


@pytest.mark.parametrize("language", PLAYED_TOOLS)
def test_a_lock_file_above_the_folder_of_the_program_is_found(tmp_path: Path, language: BuildLanguage) -> None:
    lock, program = PLAYED_TOOLS[language]
    repository(tmp_path / "git")
    for name in ("go.mod", "Cargo.toml", lock):
        (tmp_path / "git" / name).touch()
    commit_all(tmp_path / "git")
    source = BuildSource(span=SPAN, git=f"file://{tmp_path}/git", rev="trunk", subdir="sub")
    wanted = played(tmp_path, program, language, source)
    dest = run_scripts(emitted(lower_build(resolved_image().base, wanted)), "tool", tmp_path)
    assert (dest / "usr/bin/tool").read_text() == "made\n"
    (tmp_path / "git" / lock).unlink()
    commit_all(tmp_path / "git")
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_scripts(emitted(lower_build(resolved_image().base, wanted)), "tool", tmp_path / "again")
    assert f"the source has no {lock}" in caught.value.stderr


@pytest.mark.parametrize(
    ("made", "fits"),
    [
        ("release/tool release/deps/tool", True),
        ("x86_64-unknown-linux-gnu/release/tool x86_64-unknown-linux-gnu/release/deps/tool release/other", True),
        ("x86_64-unknown-linux-gnu/release/tool x86_64-unknown-linux-musl/release/tool", False),
        ("wasm32-wasip1/release/tool.wasm", False),
    ],
    ids=["host", "target", "several", "other"],
)
def test_a_rust_program_is_found_below_the_target_that_its_source_names(tmp_path: Path, made: str, fits: bool) -> None:
    _, program = PLAYED_TOOLS[BuildLanguage.RUST]
    source = local_source({"Cargo.lock": "", "Cargo.toml": "", "programs": made})
    tree = emitted(lower_build(resolved_image().base, played(tmp_path, program, BuildLanguage.RUST, source)))
    if fits:
        assert (run_scripts(tree, "tool", tmp_path) / "usr/bin/tool").read_text() == "made\n"
        return
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_scripts(tree, "tool", tmp_path)
    assert "name one target of Linux" in caught.value.stderr
    assert not (tmp_path / "dest/tdxc-artifacts").exists()


@pytest.mark.parametrize("top", ["./project-1.0/", "./"])
def test_a_tarball_is_unpacked_once_its_digest_is_right(tmp_path: Path, top: str) -> None:
    inner = tmp_path / "in" / top / "sub"
    inner.mkdir(parents=True)
    (inner / "input").write_text("from a tarball\n")
    (inner / "../.hidden").touch()
    archive = tmp_path / "x[1-2]{a,b}.tar.gz"
    subprocess.run(["tar", "-czf", str(archive), "-C", str(tmp_path / "in"), "."], check=True)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    for number, (sha256, fits) in enumerate(((digest, True), ("0" * 64, False))):
        folder = tmp_path / str(number)
        tree = emitted(copied(BuildSource(span=SPAN, tarball=f"file://{archive}", sha256=sha256, subdir="sub")))
        if fits:
            assert (run_scripts(tree, "tool", folder) / "usr/share/result").read_text() == "from a tarball\n"
        else:
            with pytest.raises(subprocess.CalledProcessError) as caught:
                run_scripts(tree, "tool", folder)
            assert digest in caught.value.stderr
            assert sha256 in caught.value.stderr


@pytest.mark.parametrize("installer", [False, True])
def test_a_pinned_toolchain_is_unpacked_or_installed_and_asked_for_its_version(tmp_path: Path, installer: bool) -> None:
    inner = tmp_path / "in/toolchain-1.2"
    (inner / "part").mkdir(parents=True)
    program = "#!/bin/sh\necho 1.2.3\n"
    if installer:
        (inner / "part/compiler").write_text(program)
        move = 'mkdir -p "${1#--prefix=}/bin" && cp part/compiler "${1#--prefix=}/bin/"'
        (inner / "install.sh").write_text(f'#!/bin/sh\nset -e\ncd "$(dirname "$0")"\n{move}\n')
        (inner / "install.sh").chmod(0o755)
        (inner / "part/compiler").chmod(0o755)
    else:
        (inner / "bin").mkdir()
        (inner / "bin/compiler").write_text(program)
        (inner / "bin/compiler").chmod(0o755)
    archive = tmp_path / "x.tar.gz"
    subprocess.run(["tar", "-czf", str(archive), "-C", str(tmp_path / "in"), "toolchain-1.2"], check=True)
    digest = hashlib.sha256(archive.read_bytes()).hexdigest()
    build = resolved_build(
        toolchain=Toolchain(span=SPAN, version="1.2", url=f"file://{archive}", sha256=digest),
        environment=(("PATH", "/var/lib/tdxc-build/tool/toolchain/bin:/usr/bin:/bin"),),
        version_command="compiler",
        compile="compiler > tool",
    )
    dest = run_scripts(emitted(build), "tool", tmp_path)
    assert (dest / "usr/bin/tool").read_text() == "1.2.3\n"


def test_patches_apply_at_the_top_of_the_source_as_upstream_writes_them(tmp_path: Path) -> None:
    commit = repository(tmp_path / "git")
    patch = b"--- a/sub/input\n+++ b/sub/input\n@@ -1 +1 @@\n-from git\n+patched\n"
    source = BuildSource(span=SPAN, git=f"file://{tmp_path}/git", rev=commit, subdir="sub")
    patches = (SourceFile(span=SPAN, path="01-a.patch", content=Blob.of(patch)),)
    dest = run_scripts(emitted(attrs.evolve(copied(source), patches=patches)), "tool", tmp_path)
    assert (dest / "usr/share/result").read_text() == "patched\n"
