"""Which packages an environment holds: apt's output, sandbox trees, the shared package cache, and a real apt."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.builds.packages import (
    ARCHIVES,
    LISTS,
    PackageIndex,
    apt_folder,
    debian_name,
    give_back,
    parse_uris,
    update_index,
)
from tdxc_runtime.process import Bind, Completed

A, B = "a" * 64, "b" * 64


def test_names_versions_and_digests_are_read() -> None:
    text = (
        f"'http://m/pool/libc6_2.41-12%2bdeb13u4_amd64.deb' libc6_2.41-12+deb13u4_amd64.deb 2846580 SHA256:{A}\n"
        f"'http://m/pool/e.deb' gcc_4%3a14.2.0-1_amd64.deb 1 SHA256:{B}\n"
        f"'file:/m/e.deb' base-files_13.8_all.deb 1 SHA256:{B}\n\n"
    )
    assert parse_uris(text) == {
        "base-files": f"13.8 sha256:{B}",
        "gcc": f"4:14.2.0-1 sha256:{B}",
        "libc6": f"2.41-12+deb13u4 sha256:{A}",
    }


@pytest.mark.parametrize(
    "line",
    [
        "'http://m/e.deb' gcc_1_amd64.deb 1 ",
        f"'http://m/e.deb' gcc_1_amd64.deb 1 MD5Sum:{A[:32]}",
        f"'http://m/e.deb' gcc.deb 1 SHA256:{A}",
        "E: something else",
    ],
)
def test_a_package_without_a_digest_is_refused(line: str) -> None:
    with pytest.raises(DiagnosticError) as raised:
        parse_uris(line)
    assert raised.value.diagnostics[0].code is Code.E_BACKEND_EXECUTION


def test_sandbox_trees_lie_over_each_other_in_order(tmp_path: Path) -> None:
    for name, text in (("one", "1"), ("two", "2")):
        (tmp_path / name / "etc/apt/sources.list.d").mkdir(parents=True)
        (tmp_path / name / "etc/apt/sources.list.d/mkosi.sources").write_text(text)
    (tmp_path / "one/etc/apt/preferences.d").mkdir()
    (tmp_path / "one/etc/apt/preferences.d/a.pref").write_text("p")
    (tmp_path / "keys").mkdir()
    (tmp_path / "keys/k.asc").write_text("k")
    trees = [(tmp_path / "one", ""), (tmp_path / "two", "/"), (tmp_path / "keys", "/etc/apt/keyrings")]
    etc = apt_folder([*trees, (tmp_path / "missing", "")], tmp_path / "laid")
    found = {str(path.relative_to(etc)): path.read_text() for path in etc.rglob("*") if path.is_file()}
    assert found == {"sources.list.d/mkosi.sources": "2", "preferences.d/a.pref": "p", "keyrings/k.asc": "k"}
    assert (tmp_path / "laid").stat().st_mode & 0o777 == 0o700


def test_architectures_are_spelt_as_debian_does() -> None:
    assert (debian_name("x86-64"), debian_name("arm64"), debian_name("amd64")) == ("amd64", "arm64", "amd64")


class RealApt:
    """The apt of this machine with our folders in place of those inside."""

    def __call__(self, argv: Sequence[str], binds: Sequence[Bind]) -> Completed:
        names = {str(bind.target): str(bind.source) for bind in binds}
        words = []
        for word in argv:
            for inside, outside in names.items():
                word = word.replace(f"={inside}", f"={outside}")  # noqa: PLW2901 - one after the other
            words.append(word)
        words[1:1] = ["-o", f"Dir::Etc={names['/etc/apt']}"]
        done = subprocess.run(words, capture_output=True, check=False)
        lines = tuple(done.stderr.decode().splitlines())
        return Completed(argv=tuple(words), status=done.returncode, seconds=0.0, lines=lines, stdout=done.stdout)


def control(name: str, **fields: str) -> str:
    words = {"Package": name, "Version": "1.0", "Architecture": "amd64", "Maintainer": "n <n@example.com>", **fields}
    return "".join(f"{key}: {value}\n" for key, value in {**words, "Description": name}.items())


def package(folder: Path, name: str, **fields: str) -> str:
    """A package without files in a flat archive; its entry in the index."""
    tree = folder / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "DEBIAN/control").write_text(control(name, **fields))
    path = folder / f"{name}.deb"
    subprocess.run(["dpkg-deb", "--root-owner-group", "--build", tree, path], check=True, capture_output=True)
    shutil.rmtree(tree)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = control(name, **fields) + f"Filename: ./{path.name}\nSize: {path.stat().st_size}\nSHA256: {digest}\n"
    return entry + "\n"


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("archive")
    index = [
        package(folder, "base-files", Essential="yes"),
        package(folder, "libthing"),
        package(folder, "compiler", Version="2:1.5+x-1", Depends="libthing, helper (>= 1)", Recommends="manual"),
        package(folder, "helper", Architecture="all"),
        package(folder, "manual"),
        package(folder, "broken", Depends="nowhere"),
    ]
    (folder / "Packages").write_text("".join(index))
    return folder


def index_of(archive: Path, tmp_path: Path, name: str = "bake", *, offline: bool = False) -> PackageIndex:
    etc = tmp_path / "etc"
    for part in ("sources.list.d", "preferences.d", "apt.conf.d"):
        (etc / part).mkdir(parents=True, exist_ok=True)
    (etc / "sources.list.d/mkosi.sources").write_text(f"Types: deb\nURIs: copy:{archive}\nSuites: ./\nTrusted: yes\n")
    return update_index(tmp_path / "shared", tmp_path / name, etc, "x86-64", RealApt(), offline=offline)


def test_a_real_apt_resolves_the_closure_without_recommendations(archive: Path, tmp_path: Path) -> None:
    found = index_of(archive, tmp_path).resolve(["compiler"])
    assert list(found) == ["base-files", "compiler", "helper", "libthing"]
    digest = hashlib.sha256((archive / "compiler.deb").read_bytes()).hexdigest()
    assert found["compiler"] == f"2:1.5+x-1 sha256:{digest}"


def test_what_is_in_the_package_cache_already_is_part_of_the_closure_too(archive: Path, tmp_path: Path) -> None:
    shared = tmp_path / "shared" / ARCHIVES
    shared.mkdir(parents=True)
    for name, file in (("libthing", "libthing_1.0_amd64.deb"), ("compiler", "compiler_2%3a1.5+x-1_amd64.deb")):
        shutil.copy(archive / f"{name}.deb", shared / file)
    assert "libthing" in index_of(archive, tmp_path).resolve(["compiler"])


def test_lists_are_shared_between_bakes_and_used_offline(archive: Path, tmp_path: Path) -> None:
    first = index_of(archive, tmp_path)
    give_back(first.folder, tmp_path / "shared")
    assert list((tmp_path / "shared" / LISTS).glob("*Packages*"))
    assert "compiler" in index_of(archive, tmp_path, "second", offline=True).resolve(["compiler"])


@pytest.mark.parametrize("name", ["no-such-package", "broken"])
def test_what_cannot_be_installed_is_an_error_with_the_words_of_apt(archive: Path, tmp_path: Path, name: str) -> None:
    with pytest.raises(DiagnosticError) as raised:
        index_of(archive, tmp_path).resolve([name])
    found = raised.value.diagnostics[0]
    assert (found.code, name in found.message) == (Code.E_BUILD, True)
    assert any(name in note.message for note in found.notes)


def test_lists_that_cannot_be_fetched_are_an_error(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError, match="lists of packages cannot be fetched"):
        index_of(tmp_path / "missing", tmp_path)
