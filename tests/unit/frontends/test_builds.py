"""``Build`` in both forms: what each argument becomes, and which ones are refused."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.commands import PROGRAM
from tdx import Build, Image, artifact, git, tarball
from tdx._load import load_recipe
from tdx._session import recipe_session
from tdxc.baked import DESCRIPTION
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import AuthoredImage
from tdxc.ir import Build as BuildNode
from tdxc_runtime.backends.base import RECORD_NAME

DIGEST = "ab" * 32
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "src").mkdir()
    (tmp_path / "src/go.mod").write_text("module x\n")
    (tmp_path / "src/main.go").write_text("package main\n")
    (tmp_path / "fix.patch").write_text("--- a\n+++ b\n")
    return tmp_path


def frozen(folder: Path, make: Callable[[], Build]) -> BuildNode:
    with recipe_session(folder):
        image = Image("x")
        image.build(make())
        return image.freeze().layer.builds[0]


def fault(folder: Path, make: Callable[[], Build]) -> tuple[Code, str, str]:
    with pytest.raises(DiagnosticError) as caught:
        frozen(folder, make)
    (found,) = caught.value.diagnostics
    return (found.code, found.message, found.fix)


def from_yaml(folder: Path, text: str) -> AuthoredImage:
    (folder / "recipe.yaml").write_text(f"name: x\nbuilds:\n{text}")
    return load_recipe(str(folder / "recipe.yaml")).image


PAIRS: list[tuple[str, Callable[[], Build], str]] = [
    (
        "go",
        lambda: Build.go(
            name="a",
            src="./src/",
            go_version="1.24",
            output="/usr/local/bin/a",
            package="./cmd/a",
            tags=["x"],
            ldflags="-X main.v=1",
            cgo=True,
            patches=["fix.patch"],
            env={"A": "b"},
            test="go test ./...",
            network=True,
            build_deps=["gcc"],
        ),
        """
  - go:
      name: a
      src: ./src/
      go_version: "1.24"
      output: /usr/local/bin/a
      package: ./cmd/a
      tags: [x]
      ldflags: -X main.v=1
      cgo: true
      patches: [fix.patch]
      env: {A: b}
      test: go test ./...
      network: true
      build_deps: [gcc]
""",
    ),
    (
        "rust",
        lambda: Build.rust(
            name="raiko",
            src=git("https://example.org/raiko.git", rev=COMMIT, subdir="bin"),
            toolchain=tarball("https://example.org/rust.tar.xz", sha256=DIGEST),
            version="1.86.0-nightly",
            features=["tdx", "sgx"],
            package="host",
            program="raiko-host",
            output=artifact("/usr/local/bin/raiko", mode=0o750, owner="raiko", group="tdx"),
            artifacts={"config": artifact("/etc/raiko", mode="0640")},
        ),
        f"""
  - rust:
      name: raiko
      src: {{git: "https://example.org/raiko.git", rev: "{COMMIT}", subdir: bin}}
      toolchain: {{tarball: "https://example.org/rust.tar.xz", sha256: {DIGEST}}}
      version: 1.86.0-nightly
      features: [tdx, sgx]
      package: host
      program: raiko-host
      output: {{dest: /usr/local/bin/raiko, mode: 0o750, owner: raiko, group: tdx}}
      artifacts:
        config: {{dest: /etc/raiko, mode: "0640"}}
""",
    ),
    (
        "dotnet",
        lambda: Build.dotnet(
            name="n", src="src", sdk_version="10.0", project="src/N", output="/opt/n/", self_contained=False
        ),
        """
  - dotnet: {name: n, src: src, sdk_version: "10.0", project: src/N, output: /opt/n/, self_contained: false}
""",
    ),
    (
        "c",
        lambda: Build.c(
            name="c",
            src=tarball("https://example.org/c.tar.gz", sha256=DIGEST),
            system="meson",
            options=["-Da=b"],
            version="13",
            artifacts={"build/c": "/usr/bin/c"},
        ),
        f"""
  - c:
      name: c
      src: {{tarball: "https://example.org/c.tar.gz", sha256: {DIGEST}}}
      system: meson
      options: [-Da=b]
      version: "13"
      artifacts: {{build/c: /usr/bin/c}}
""",
    ),
]


@pytest.mark.parametrize(("make", "text"), [pair[1:] for pair in PAIRS], ids=[pair[0] for pair in PAIRS])
def test_both_forms_are_one_build(folder: Path, make: Callable[[], Build], text: str) -> None:
    assert from_yaml(folder, text).layer.builds == (frozen(folder, make),)


def test_a_remote_source_with_its_toolchain(folder: Path) -> None:
    build = frozen(folder, PAIRS[1][1])
    assert (build.source.git, build.source.rev, build.source.subdir) == ("https://example.org/raiko.git", COMMIT, "bin")
    assert (build.toolchain.url, build.toolchain.version) == ("https://example.org/rust.tar.xz", "1.86.0-nightly")
    program, config = build.artifacts
    assert (program.source, program.dest, program.mode) == ("", "/usr/local/bin/raiko", 0o750)
    assert (program.owner, program.group, config.mode) == ("raiko", "tdx", 0o640)
    assert build.program == "raiko-host"


def test_a_folder_as_output_gets_the_program_or_is_the_publication(folder: Path) -> None:
    go = frozen(folder, lambda: Build.go(name="a", src="src", output="/usr/bin/"))
    assert go.artifacts[0].dest == "/usr/bin/a"
    assert frozen(folder, PAIRS[2][1]).artifacts[0].dest == "/opt/n"


def test_local_sources_and_patches_are_read(folder: Path) -> None:
    build = frozen(folder, PAIRS[0][1])
    assert [file.path for file in build.source.files] == ["go.mod", "main.go"]
    assert [(patch.path, patch.content.data) for patch in build.patches] == [("01-fix.patch", b"--- a\n+++ b\n")]


def test_links_in_a_source_are_followed(folder: Path) -> None:
    (folder / "src/real/deep").mkdir(parents=True)
    (folder / "src/real/deep/a.h").write_text("a\n")
    (folder / "src/inc").symlink_to("real")
    (folder / "src/b.h").symlink_to("real/deep/a.h")
    files = frozen(folder, _go).source.files
    assert [file.path for file in files] == ["b.h", "go.mod", "main.go", "inc/deep/a.h", "real/deep/a.h"]
    assert len({file.content for file in files if file.path.endswith(".h")}) == 1


def test_a_source_that_holds_the_recipe_is_the_same_after_compiling_locking_and_baking(folder: Path) -> None:
    (folder / "src/recipe.yaml").write_text("name: x\nbuilds:\n  - go: {name: x, src: ., output: /usr/bin/x}\n")
    compile_recipe = [*PROGRAM, "compile", "recipe.yaml", "-o", "build/mkosi"]
    digests = [subprocess.run(compile_recipe, cwd=folder / "src", check=True, capture_output=True).stdout]
    subprocess.run([*PROGRAM, "lock", "recipe.yaml"], cwd=folder / "src", check=True, capture_output=True)
    (folder / "src/build/output").mkdir()
    for name in (RECORD_NAME, DESCRIPTION, "x.efi"):
        (folder / "src/build/output" / name).write_text("{}")
    digests.append(subprocess.run(compile_recipe, cwd=folder / "src", check=True, capture_output=True).stdout)
    assert digests[0].splitlines()[-1] == digests[1].splitlines()[-1]
    files = frozen(folder, _go).source.files
    assert [file.path for file in files] == ["go.mod", "main.go", "recipe.yaml"]


def test_what_cargo_leaves_in_a_source_is_no_part_of_it(folder: Path) -> None:
    (folder / "src/target/release").mkdir(parents=True)
    (folder / "src/target/release/app").write_bytes(b"\x7fELF")
    (folder / "src/target/CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n")
    assert [file.path for file in frozen(folder, _go).source.files] == ["go.mod", "main.go"]


def test_a_worktrees_pointer_to_its_repository_is_no_source(folder: Path) -> None:
    (folder / "src/sub").mkdir()
    for name in (".git", "sub/.git", "sub/.gitignore"):
        (folder / "src" / name).write_text("gitdir: /home/somebody/x\n")
    assert [file.path for file in frozen(folder, _go).source.files] == ["go.mod", "main.go", "sub/.gitignore"]


@pytest.mark.parametrize("target", [".", "..", "../../src", "../../src/a/.."])
def test_a_link_without_an_end_is_refused(folder: Path, target: str) -> None:
    (folder / "src/a").mkdir()
    (folder / "src/a/loop").symlink_to(target)
    code, message, fix = fault(folder, _go)
    assert code is Code.E_PATH
    assert "a/loop' is a link to a folder that it lies in" in message
    assert fix == "remove the link"


def test_a_link_out_of_the_recipes_folder_is_refused(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "secret").write_text("s\n")
    (folder / "src/out").symlink_to(elsewhere)
    assert fault(folder, _go)[:2] == (Code.E_PATH, "the source 'src (secret)' lies outside of the recipe's folder")


def test_a_file_name_that_is_not_utf8_is_refused(folder: Path) -> None:
    os.close(os.open(os.fsencode(folder / "src") + b"/a\xff", os.O_CREAT))
    code, message, _ = fault(folder, _go)
    assert code is Code.E_ENCODING
    assert message == "the file name 'a\\udcff' is not UTF-8"


def _go(**changes: Any) -> Build:
    return Build.go(**{"name": "a", "src": "src", "output": "/usr/bin/a", **changes})


@pytest.mark.parametrize(
    ("changes", "code", "words"),
    [
        ({"name": ""}, Code.E_VALUE, "not a name"),
        ({"name": "a.conf"}, Code.E_VALUE, "not a name"),
        ({"name": "a.tar"}, Code.E_VALUE, "not ending in '.conf', '.tar' or '.vmlinuz'"),
        ({"name": "a b"}, Code.E_VALUE, "not a name"),
        ({"src": {"git": "https://example.org/x"}}, Code.E_VALUE, "neither git with a rev"),
        ({"src": {"git": "https://u:p@example.org/x", "rev": "main"}}, Code.E_SECRET, "user name, password or token"),
        ({"src": {"git": "https://example.org/x", "rev": "-upload-pack=x"}}, Code.E_VALUE, "not a commit"),
        ({"src": {"git": "https://example.org/x", "rev": "a", "sub": "b"}}, Code.E_KEY, "unknown key 'sub'"),
        ({"src": {"tarball": "https://example.org/x", "sha256": "12"}}, Code.E_VALUE, "not a SHA-256"),
        ({"src": "missing"}, Code.E_PATH, "does not exist"),
        ({"toolchain": {"git": "https://example.org/x", "rev": "a"}}, Code.E_VALUE, "not a tarball"),
        ({"output": "usr/bin/a"}, Code.E_PATH, "not an absolute path"),
        ({"output": {"mode": 0o755}}, Code.E_VALUE, "has no dest"),
        ({"output": {"dest": "/a", "mode": 755}}, Code.E_VALUE, "decimal"),
        ({"artifacts": {"../x": "/a"}}, Code.E_PATH, "not a path inside"),
        ({"artifacts": {"/x": "/a"}}, Code.E_PATH, "not a path inside"),
        ({"patches": ["none.patch"]}, Code.E_PATH, "does not exist"),
        ({"go_version": "1.24; id"}, Code.E_VALUE, "not a version"),
        ({"env": {"A B": "c"}}, Code.E_VALUE, "environment variable"),
    ],
    ids=lambda value: next(iter(value)) if isinstance(value, dict) else None,
)
def test_bad_arguments_are_refused(folder: Path, changes: dict[str, Any], code: Code, words: str) -> None:
    found = fault(folder, lambda: _go(**changes))
    assert found[0] is code
    assert words in found[1]


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        (git("https://me@example.org/x", rev=COMMIT), Code.E_SECRET, "holds a user name"),
        (git("https://example.org/x?access_token=abc", rev=COMMIT), Code.E_SECRET, "or token"),
        (tarball("https://example.org/x.tar?a=1&X-Amz-Signature=ab", sha256=DIGEST), Code.E_SECRET, "or token"),
        (git("ssh://example.org/x", rev=COMMIT), Code.E_VALUE, "cannot be fetched by 'ssh://', as there is neither"),
        (tarball("ftp://example.org/x.tar", sha256=DIGEST), Code.E_VALUE, "cannot be fetched by 'ftp://'"),
        (tarball("https://example.org/x.zip?download=1", sha256=DIGEST), Code.E_VALUE, "is a zip archive"),
    ],
)
def test_addresses_that_cannot_be_or_that_everybody_would_read(
    folder: Path, source: Any, code: Code, words: str
) -> None:
    found = fault(folder, lambda: _go(src=source))
    assert found[0] is code
    assert words in found[1]
    assert found[2]


@pytest.mark.parametrize("url", ["file:///x", "git://example.org/x", "https://example.org/x?ref=main"])
def test_addresses_that_can_be(folder: Path, url: str) -> None:
    assert frozen(folder, lambda: _go(src=git(url, rev=COMMIT))).source.git == url


@pytest.mark.parametrize(
    "name",
    [
        "sig", "SIG", "signature", "X-Amz-Signature", "X-Goog-Credential", "X-Amz-Security-Token", "AWSAccessKeyId",
        "access_token", "accesstoken", "private_token", "token", "authToken", "apikey", "api_key", "APIKey", "key",
        "client_secret", "clientsecret", "password", "userPasswd", "SASToken",
    ],
)  # fmt: skip
def test_a_parameter_that_is_named_after_a_secret_is_one(folder: Path, name: str) -> None:
    sources = [tarball(f"https://example.org/x.tar{before}{name}=ab", sha256=DIGEST) for before in ("?", "?a=1&", "?;")]
    assert [fault(folder, partial(_go, src=source))[0] for source in sources] == [Code.E_SECRET] * 3


@pytest.mark.parametrize(
    "query",
    [
        "design=2", "signed=0", "signal=x", "assign=a", "monkey=1", "keyboard=de", "keyword=x", "secretary=me",
        "tokenizer=bpe", "ref=sig", "a=b&turkey=1", "sig=", "token", "path=/key", "sig=&a=1",
    ],
)  # fmt: skip
def test_a_parameter_whose_name_only_has_such_letters_in_it_is_none(folder: Path, query: str) -> None:
    url = f"https://example.org/x.tar?{query}"
    assert frozen(folder, lambda: _go(src=tarball(url, sha256=DIGEST))).source.tarball == url


@pytest.mark.parametrize("first", ["#!/usr/bin/env python3", "\n#!/usr/bin/perl -w"])
def test_a_script_that_is_not_for_the_shell_is_refused(folder: Path, first: str) -> None:
    def script(text: str) -> Build:
        return Build.script(name="s", build_script=text, artifacts={"x": "/x"})

    code, message, _ = fault(folder, lambda: script(f"{first}\nprint(1)\n"))
    assert (code, "is run by the shell, and begins with '#!/usr/bin/" in message) == (Code.E_VALUE, True)
    assert frozen(folder, lambda: script("#!/bin/bash -e\ntrue\n")).build_script == "#!/bin/bash -e\ntrue\n"


def test_a_build_that_leaves_nothing_is_refused(folder: Path) -> None:
    assert "has no artifacts" in fault(folder, lambda: Build.c(name="x", src="src"))[1]


def test_a_toolchain_and_another_version_contradict_each_other(folder: Path) -> None:
    found = fault(folder, lambda: Build.rust(name="x", src="src", output="/a", toolchain="1.85", version="1.84"))
    assert found[0] is Code.E_CONFLICT
