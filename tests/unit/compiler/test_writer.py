"""The writer: all or nothing, nothing of a user's lost, nothing unchanged touched."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tdxc import writer
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.tree import FileTree, TreeDirectory, TreeFile, TreeLink
from tdxc.writer import write_tree

TREE = FileTree(
    {
        "mkosi.conf": TreeFile.text("[Output]\n"),
        "scripts/10.sh": TreeFile.text("#!/bin/sh\n", executable=True),
        "mkosi.extra/etc/link": TreeLink(target="../motd"),
        "mkosi.extra/var/empty": TreeDirectory(),
    }
)


def snapshot(root: Path) -> dict[str, tuple[str, int, bytes]]:
    found = {}
    for path in sorted(root.rglob("*")):
        status = path.lstat()
        data = str(path.readlink()).encode() if path.is_symlink() else path.read_bytes() if path.is_file() else b""
        found[path.relative_to(root).as_posix()] = (oct(status.st_mode), status.st_mtime_ns, data)
    return found


def test_writes_files_links_folders_and_modes_whatever_the_umask(tmp_path: Path) -> None:
    old = os.umask(0o077)
    try:
        report = write_tree(TREE, tmp_path / "deep" / "out")
    finally:
        os.umask(old)
    out = tmp_path / "deep" / "out"
    assert report.written == tuple(sorted(TREE))
    assert (out / "mkosi.conf").read_text() == "[Output]\n"
    assert (out / "mkosi.conf").stat().st_mode & 0o777 == 0o644
    assert (out / "scripts/10.sh").stat().st_mode & 0o777 == 0o755
    assert out.stat().st_mode & 0o777 == (out / "scripts").stat().st_mode & 0o777 == 0o755
    assert (out / "mkosi.extra/etc/link").readlink() == Path("../motd")
    assert (out / "mkosi.extra/var/empty").is_dir()


def test_second_write_touches_nothing(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_tree(TREE, out)
    before = snapshot(out)
    report = write_tree(TREE, out)
    assert (report.written, report.removed, report.unchanged) == ((), (), len(TREE))
    assert snapshot(out) == before


def test_unchanged_files_keep_their_mtime_and_stale_ones_go(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_tree(TREE, out)
    before = snapshot(out)
    changed = FileTree({**{k: v for k, v in TREE.entries.items() if k != "scripts/10.sh"},
                        "mkosi.conf": TreeFile.text("[Content]\n")})  # fmt: skip
    report = write_tree(changed, out)
    assert report.written == ("mkosi.conf",)
    assert report.removed == ("scripts/10.sh",)
    assert not (out / "scripts").exists()
    assert snapshot(out)["mkosi.extra/etc/link"] == before["mkosi.extra/etc/link"]
    assert list(tmp_path.iterdir()) == [out]


def test_files_of_others_stay(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_tree(TREE, out)
    (out / "mkosi.output").mkdir(mode=0o700)
    (out / "mkosi.output" / "image.efi").write_bytes(b"PE")
    (out / "mkosi.cache").mkdir()
    (out / "mkosi.local.conf").write_text("x")
    write_tree(FileTree({"mkosi.conf": TreeFile.text("new\n")}), out)
    assert (out / "mkosi.output" / "image.efi").read_bytes() == b"PE"
    assert (out / "mkosi.output").stat().st_mode & 0o777 == 0o700
    assert (out / "mkosi.cache").is_dir()
    assert (out / "mkosi.local.conf").read_text() == "x"


@pytest.mark.parametrize("change", ["edit", "chmod", "replace-by-link"])
def test_a_change_by_hand_is_refused_and_kept(tmp_path: Path, change: str) -> None:
    out = tmp_path / "out"
    write_tree(TREE, out)
    victim = out / "mkosi.conf"
    if change == "edit":
        victim.write_text("[Output]\nFormat=disk\n")
    elif change == "chmod":
        victim.chmod(0o755)
    else:
        victim.unlink()
        victim.symlink_to("/etc/passwd")
    before = snapshot(out)
    with pytest.raises(DiagnosticError) as caught:
        write_tree(FileTree({**TREE.entries, "x": TreeFile.text("")}), out)
    assert [d.code for d in caught.value.diagnostics] == [Code.E_TREE_MODIFIED]
    assert snapshot(out) == before
    write_tree(TREE, out, force=True)
    assert victim.read_text() == "[Output]\n"
    assert not victim.is_symlink()


def test_a_new_file_does_not_overwrite_one_of_the_users(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_tree(TREE, out)
    (out / "extra").write_text("mine")
    with pytest.raises(DiagnosticError, match="changed by hand"):
        write_tree(FileTree({**TREE.entries, "extra": TreeFile.text("theirs")}), out)
    assert (out / "extra").read_text() == "mine"


@pytest.mark.parametrize("record", ["{", "[]", '{"files": []}', '{"files": {"a": '])
def test_a_damaged_record_is_a_diagnostic(tmp_path: Path, record: str) -> None:
    out = tmp_path / "out"
    write_tree(TREE, out)
    (out / writer.RECORD).write_text(record)
    with pytest.raises(DiagnosticError) as caught:
        write_tree(TREE, out)
    assert caught.value.diagnostics[0].code is Code.E_OUTPUT


def test_a_foreign_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "precious").write_text("x")
    with pytest.raises(DiagnosticError) as caught:
        write_tree(TREE, tmp_path)
    assert caught.value.diagnostics[0].code is Code.E_OUTPUT
    assert snapshot(tmp_path).keys() == {"precious"}


def test_a_file_in_the_way_is_refused(tmp_path: Path) -> None:
    (tmp_path / "out").write_text("x")
    with pytest.raises(DiagnosticError, match="not a folder"):
        write_tree(TREE, tmp_path / "out")


@pytest.mark.parametrize("step", ["_write_entry", "_sync_tree", "_exchange", "_link_survivors"])
def test_a_failure_at_any_step_leaves_the_old_tree(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str) -> None:
    out = tmp_path / "out"
    write_tree(TREE, out)
    before = snapshot(out)

    def fail(*_arguments: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(writer, step, fail)
    with pytest.raises(DiagnosticError, match="No space left"):
        write_tree(FileTree({"mkosi.conf": TreeFile.text("new")}), out)
    assert snapshot(out) == before
    assert list(tmp_path.iterdir()) == [out]


names = st.from_regex(r"[a-c]{1,2}", fullmatch=True)
paths = st.lists(names, min_size=1, max_size=3).map("/".join)
entries = st.one_of(
    st.builds(TreeFile, data=st.binary(max_size=4), executable=st.booleans()),
    st.builds(TreeLink, target=names),
)


def consistent(found: dict[str, TreeFile | TreeLink]) -> bool:
    return not any(a != b and b.startswith(f"{a}/") for a in found for b in found)


@given(st.lists(st.dictionaries(paths, entries, max_size=5).filter(consistent), min_size=1, max_size=4))
def test_after_any_sequence_of_writes_the_folder_is_the_last_tree(
    tmp_path_factory: pytest.TempPathFactory, trees: list[dict[str, TreeFile | TreeLink]]
) -> None:
    out = tmp_path_factory.mktemp("w") / "out"
    for entries_ in trees:
        write_tree(FileTree(entries_), out)
    found = {
        path.relative_to(out).as_posix(): TreeLink(target=str(path.readlink()))
        if path.is_symlink()
        else TreeFile(data=path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))
        for path in out.rglob("*")
        if path.is_symlink() or path.is_file()
    }
    found.pop(writer.RECORD)
    assert found == trees[-1]
