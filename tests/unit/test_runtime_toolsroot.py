"""The tools root's manifest, its damage check, ids of unprivileged callers."""

from __future__ import annotations

import fcntl
import os
import time
from pathlib import Path

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.toolsroot import cache_folder, make
from tdxc_runtime.toolsroot.contents import PACKAGES, SENTINELS, contents_digest
from tdxc_runtime.toolsroot.make import Manifest, find_damage, installed_packages
from tdxc_runtime.toolsroot.root import ToolsRoot, _remove_forgotten, root_folder
from tdxc_runtime.toolsroot.userns import subordinate_range

MANIFEST = Manifest(
    suite="trixie",
    architecture="amd64",
    mirror="https://m.example/debian",
    packages={"mkosi": "25.3-7", "apt": "3.0.4"},
    sentinels={"usr/bin/a": (3, 1_700_000_000_123_456_789)},
)


def _root(folder: Path) -> Manifest:
    (folder / "root/usr/bin").mkdir(parents=True)
    (folder / "root/usr/bin/a").write_text("abc", encoding="ascii")
    os.utime(folder / "root/usr/bin/a", ns=(0, 1_700_000_000_123_456_789))
    return MANIFEST


def test_manifest_survives_its_text() -> None:
    assert Manifest.from_json(MANIFEST.to_json()) == MANIFEST
    reordered = attrs.evolve(MANIFEST, packages=dict(reversed(MANIFEST.packages.items())))
    assert reordered.to_json() == MANIFEST.to_json()


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        "{}",
        "null",
        '{"format": 2}',
        '{"format": 1}',
        MANIFEST.to_json()[:-20],
        '{"format": 1, "sentinels": 3}',
    ],
)
def test_what_is_no_manifest_is_refused(text: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - any message, json's own among them
        Manifest.from_json(text)


@given(st.text())
def test_any_text_is_a_manifest_or_refused(text: str) -> None:
    try:
        Manifest.from_json(text)
    except ValueError:
        return


def test_damage_is_named(tmp_path: Path) -> None:
    manifest = _root(tmp_path)
    assert find_damage(tmp_path, manifest) == ""
    file = tmp_path / "root/usr/bin/a"
    os.utime(file, ns=(0, 1))
    assert find_damage(tmp_path, manifest) == "usr/bin/a has changed"
    file.unlink()
    assert find_damage(tmp_path, manifest) == "usr/bin/a is missing"


def test_find_takes_whole_roots_only(tmp_path: Path) -> None:
    folder = root_folder(tmp_path, "trixie")
    assert ToolsRoot.find(cache=tmp_path) is None
    manifest = _root(folder)
    assert ToolsRoot.find(cache=tmp_path) is None, "a root without a manifest is half made"
    (folder / "manifest.json").write_text(manifest.to_json(), encoding="utf-8")
    found = ToolsRoot.find(cache=tmp_path)
    assert found is not None
    assert found.root == folder / "root"
    (folder / "manifest.json").write_text(manifest.to_json()[:-10], encoding="utf-8")
    assert ToolsRoot.find(cache=tmp_path) is None


def test_a_cache_that_cannot_be_written_is_a_diagnostic(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(DiagnosticError) as raised:
        ToolsRoot.ensure(cache=tmp_path / "file/cache")
    assert raised.value.diagnostics[0].code is Code.E_BACKEND_UNAVAILABLE
    assert "TDXVM_CACHE" in raised.value.diagnostics[0].fix


def test_roots_that_nobody_uses_any_more_are_removed_after_a_month(tmp_path: Path) -> None:
    folder = root_folder(tmp_path, "trixie")
    month = 31 * 86400
    for name, age in {"trixie-amd64-old": month, "sid-amd64-used": month, "trixie-amd64-new": 0}.items():
        (folder.parent / name / "root").mkdir(parents=True)
        lock = folder.parent / f"{name}.lock"
        lock.touch()
        os.utime(lock, (time.time() - age, time.time() - age))
    with (folder.parent / "sid-amd64-used.lock").open() as used:
        fcntl.flock(used, fcntl.LOCK_SH)
        _remove_forgotten(folder)
    assert {path.name for path in folder.parent.iterdir()} == {
        "sid-amd64-used",
        "sid-amd64-used.lock",
        "trixie-amd64-new",
        "trixie-amd64-new.lock",
    }


def test_contents_decide_the_folder() -> None:
    assert contents_digest("trixie", "amd64") != contents_digest("sid", "amd64")
    assert len(set(PACKAGES)) == len(PACKAGES)
    assert not any(name.startswith("/") for name in SENTINELS)


def test_installed_packages_are_read_from_dpkg() -> None:
    status = (
        "Package: b\nStatus: install ok installed\nVersion: 1:2.0-1+deb13u1\nDescription: x\n Version: no\n\n"
        "Package: a\nVersion: 3\n"
    )
    assert list(installed_packages(status).items()) == [("a", "3"), ("b", "1:2.0-1+deb13u1")]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", (0, 0)),
        ("someone:100000:65536\n", (0, 0)),
        ("user:100000:65536\n", (100000, 65536)),
        ("1000:5:10\nuser:100000:65536\n", (100000, 65536)),
        ("user:x:65536\nuser:7\nuser::\nuser:1:2:3\n", (0, 0)),
    ],
)
def test_subordinate_ids(tmp_path: Path, text: str, expected: tuple[int, int]) -> None:
    file = tmp_path / "subuid"
    file.write_text(text, encoding="ascii")
    assert subordinate_range(file, "user", 1000) == expected


def test_no_subordinate_ids_without_the_file(tmp_path: Path) -> None:
    assert subordinate_range(tmp_path / "absent", "user", 1000) == (0, 0)


def test_cache_can_be_moved(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TDXVM_CACHE", str(tmp_path / "x"))
    assert cache_folder() == tmp_path / "x"
    monkeypatch.delenv("TDXVM_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "tdxvm"


@pytest.mark.parametrize(
    ("said", "times"),
    [
        ("E: Failed to fetch http://m.example/debian/pool/a.deb  Connection timed out", 2),
        ("E: Failed to fetch http://m.example/a  File has unexpected size (2 != 1). Mirror sync in progress?", 2),
        ("E: Failed to fetch file:/srv/debian/dists/trixie/InRelease  File not found", 1),
        ("E: Unable to locate package mkosi", 1),
    ],
)
def test_packages_that_cannot_be_fetched_are_tried_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, times: int
) -> None:
    targets: list[str] = []

    def fails_at_first(argv: list[str], *, log: Path, **_: object) -> None:
        targets.append(argv[-1])
        assert list(Path(argv[-1]).iterdir()) == []
        if len(targets) == 1:
            log.write_text(f"I: installing\n{said}\n")
            raise DiagnosticError.of(Code.E_BACKEND_EXECUTION, "mmdebstrap failed")

    monkeypatch.setattr(make, "run", fails_at_first)
    monkeypatch.setattr(make, "_require_tools", lambda: None)
    monkeypatch.setattr(make, "caller_id_map", lambda: None)
    monkeypatch.setattr(make, "describe_root", lambda *_: MANIFEST)
    told: list[str] = []

    def made() -> Manifest:
        log = tmp_path / "log"
        return make.make_root(tmp_path / "tools", suite="trixie", mirror=None, log=log, on_line=told.append)

    if times == 1:
        with pytest.raises(DiagnosticError, match="mmdebstrap failed"):
            made()
        assert not (tmp_path / "tools").exists()
        assert told == []
    else:
        assert made() == MANIFEST
        assert (tmp_path / "tools/root").is_dir()
        assert told == ["E: packages could not be fetched: once more"]
    assert len(set(targets)) == len(targets) == times
