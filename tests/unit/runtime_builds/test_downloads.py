"""The cache of what fetch steps download: what is shown to a build, and what is kept of it."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from tdxc_runtime.builds.downloads import OFFER, DownloadStore

CRATE = "sha256-" + "ab" * 32
MODULE = "h1-QjkSwP_36a20jFYWkSue1YwXzLmsV5Gfq7Eiy72C1uc="
COMMIT = "git-" + "0f" * 20


@pytest.fixture
def store(tmp_path: Path) -> DownloadStore:
    return DownloadStore(tmp_path / "downloads")


def keep(store: DownloadStore, packages: Path, **files: bytes) -> None:
    with store.offered(packages):
        for name, data in files.items():
            (packages / OFFER / "fetched" / name).write_bytes(data)


def names(store: DownloadStore) -> set[str]:
    return {download.name for download in store.files()}


def test_what_one_build_fetches_is_shown_to_the_next(store: DownloadStore, tmp_path: Path) -> None:
    keep(store, tmp_path / "one", **{CRATE: b"crate", MODULE: b"module"})
    with store.offered(tmp_path / "two"):
        shown = tmp_path / "two" / OFFER / "downloads"
        assert {path.name: path.read_bytes() for path in shown.iterdir()} == {CRATE: b"crate", MODULE: b"module"}
        assert list((tmp_path / "two" / OFFER / "fetched").iterdir()) == []
    assert not (tmp_path / "two" / OFFER).exists()


def test_what_a_failing_build_has_fetched_is_kept_too(store: DownloadStore, tmp_path: Path) -> None:
    def failing() -> None:
        with store.offered(tmp_path / "packages"):
            (tmp_path / "packages" / OFFER / "fetched" / COMMIT).write_bytes(b"pack")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        failing()
    assert names(store) == {COMMIT}


def test_what_is_fetched_anew_takes_the_place_of_what_was_damaged(store: DownloadStore, tmp_path: Path) -> None:
    keep(store, tmp_path / "one", **{CRATE: b"damaged"})
    keep(store, tmp_path / "two", **{CRATE: b"crate"})
    assert (store.folder / CRATE).read_bytes() == b"crate"


def test_names_that_no_hash_makes_and_links_are_not_kept(store: DownloadStore, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("of the user")
    packages = tmp_path / "packages"
    with store.offered(packages):
        fetched = packages / OFFER / "fetched"
        for name in ("note", "nuget-x", "sha256-", ".new", "h1-a b", f"{CRATE}.tmp", "git-" + "a" * 200):
            (fetched / name).write_bytes(b"x")
        (fetched / CRATE).symlink_to(tmp_path / "secret")
        (fetched / COMMIT).mkdir()
        (fetched / "used").write_text("../../secret\n\n/etc/passwd\n")
    assert not store.folder.exists()


def test_use_is_noted_whether_or_not_the_file_is_still_there(store: DownloadStore, tmp_path: Path) -> None:
    keep(store, tmp_path / "one", **{CRATE: b"crate", MODULE: b"module"})
    for name in (CRATE, MODULE):
        os.utime(store.folder / name, (1000, 1000))
    with store.offered(tmp_path / "two"):
        (tmp_path / "two" / OFFER / "fetched/used").write_text(f"{CRATE}\n{COMMIT}\n")
    used = {download.name: download.used for download in store.files()}
    assert used[MODULE] == 1000
    assert time.time() - used[CRATE] < 60
    assert names(store) == {CRATE, MODULE}


def test_two_bakes_at_a_time_and_a_cleaning_do_not_disturb_each_other(store: DownloadStore, tmp_path: Path) -> None:
    keep(store, tmp_path / "first", **{CRATE: b"crate"})
    with store.offered(tmp_path / "one"), store.offered(tmp_path / "two"):
        for place in ("one", "two"):
            (tmp_path / place / OFFER / "fetched" / MODULE).write_bytes(b"module")
        store.collect(unused_s=-1)
        for place in ("one", "two"):
            assert (tmp_path / place / OFFER / "downloads" / CRATE).read_bytes() == b"crate"
    assert names(store) == {MODULE}
    assert [path.name for path in store.folder.iterdir()] == [MODULE]


def test_cleaning_goes_by_use_then_by_size_and_takes_what_a_killed_bake_left(
    store: DownloadStore, tmp_path: Path
) -> None:
    keep(store, tmp_path / "one", **{CRATE: b"x" * 10, MODULE: b"x" * 10, COMMIT: b"x" * 10})
    (store.folder / f".{CRATE}.1").write_bytes(b"half")
    now = time.time()
    for name, age in ((CRATE, 900), (MODULE, 500), (COMMIT, 100), (f".{CRATE}.1", 9000)):
        os.utime(store.folder / name, (now - age, now - age))
    assert [download.name for download in store.collect(unused_s=600, now=now)] == [CRATE]
    assert [download.name for download in store.collect(total_bytes=15, now=now)] == [MODULE]
    assert [path.name for path in store.folder.iterdir()] == [COMMIT]
