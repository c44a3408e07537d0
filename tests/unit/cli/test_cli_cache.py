"""``tdxc cache`` on a cache that is made here."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from support.commands import invoke
from tdxc_runtime.builds import BuildStore, CacheEntry
from tdxc_runtime.builds.key import cache_key

GO = {"ldflags": "-s -w", "source": "sha256:aa", "package.golang-1.24-go": "1.24.4-1 sha256:00"}


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> BuildStore:
    monkeypatch.setenv("TDXVM_CACHE", str(tmp_path / "cache"))
    return BuildStore(tmp_path / "cache" / "builds")


def add(store: BuildStore, inputs: dict[str, str], *, build: str = "hello", **more: str) -> CacheEntry:
    archive = store.folder.parent / "archive"
    archive.parent.mkdir(parents=True, exist_ok=True)
    archive.write_bytes(b"x" * 2_000_000)
    return store.add(archive, inputs, build=build, language="go", network=False, seconds=12.34, **more)


def test_an_empty_cache_is_listed_as_such(store: BuildStore) -> None:
    outcome = invoke("cache", "ls")
    assert (outcome.status, outcome.out) == (0, f"0 in {store.folder}, 0.0 MB\n")
    nothing = {"builds": [], "damaged": [], "downloads": {"files": 0, "size": 0}}
    assert json.loads(invoke("cache", "ls", "--format", "json").out) == nothing
    assert not store.folder.exists()


def test_ls_tells_key_size_time_and_use(store: BuildStore) -> None:
    entry, other = add(store, GO), add(store, {}, build="other")
    out = invoke("cache", "ls").out
    assert f"{entry.key[:12]}  hello  go           2.0 MB    12.3 s  made " in out
    assert out.endswith(f"2 in {store.folder}, 4.0 MB\n")
    rows = json.loads(invoke("cache", "ls", "--format", "json").out)["builds"]
    assert [row["key"] for row in rows] == [other.key, entry.key]
    assert rows[1] | {"made": "", "used": ""} == {
        "key": entry.key,
        "build": "hello",
        "language": "go",
        "network": False,
        "made": "",
        "used": "",
        "seconds": 12.3,
        "size": 2_000_000,
        "sha256": entry.sha256,
    }
    assert other.key[:12] not in invoke("cache", "ls", "hello").out


def test_why_names_each_input_that_changed_with_both_values(store: BuildStore) -> None:
    before = add(store, GO)
    after = add(
        store,
        {**GO, "ldflags": "-s", "package.golang-1.24-go": "1.24.9-1 sha256:11", "features": "loud"},
        previous=before.key,
    )
    outcome = invoke("cache", "why", "hello")
    assert outcome.status == 0
    first, *changes = outcome.out.splitlines()
    assert first.startswith(f"hello ({after.key[:12]}), ")
    assert first.endswith(f"built again, as these inputs had changed since {before.key[:12]}")
    assert changes == [
        "  features: new, loud",
        "  ldflags: -s -w -> -s",
        "  package.golang-1.24-go: 1.24.4-1 sha256:00 -> 1.24.9-1 sha256:11",
    ]
    data = json.loads(invoke("cache", "why", after.key[:8], "--format", "json").out)
    assert data["previous"] == before.key
    assert data["changes"][0] == {"input": "features", "before": None, "after": "loud"}


def test_why_of_the_first_of_a_damaged_and_of_one_whose_forerunner_is_gone(store: BuildStore) -> None:
    add(store, GO)
    assert "nothing of that name was in the cache" in invoke("cache", "why", "hello").out
    add(store, GO, reason="its entry in the cache was damaged: its archive has changed", previous="")
    assert "its archive has changed" in invoke("cache", "why", "hello").out
    add(store, {**GO, "ldflags": ""}, previous="0" * 64)
    assert "is no longer in the cache, so nothing can be compared" in invoke("cache", "why", "hello").out


def test_why_of_an_unknown_build_suggests_the_nearest(store: BuildStore) -> None:
    add(store, GO)
    outcome = invoke("cache", "why", "helo")
    assert outcome.status == 1
    assert "E_REFERENCE" in outcome.err
    assert "did you mean 'hello'?" in outcome.err
    assert invoke("cache", "why").status == 2


def test_gc_removes_by_age_then_by_size_and_says_what(store: BuildStore) -> None:
    old, middle, new = (add(store, {**GO, "number": str(number)}) for number in range(3))
    for entry, days in ((old, 40), (middle, 5)):
        moment = entry.made - days * 86400
        os.utime(store.folder / entry.key / "entry.json", (moment, moment))
    outcome = invoke("cache", "gc")
    assert outcome.out.splitlines()[-1] == "1 removed, 2.0 MB"
    assert old.key[:12] in outcome.out
    assert invoke("cache", "gc", "--max-size", "2M").out.splitlines()[-1] == "1 removed, 2.0 MB"
    assert [entry.key for entry in store.entries()] == [new.key]
    assert invoke("cache", "gc", "--unused", "0", "--format", "json").status == 0
    assert store.entries() == ()


@pytest.mark.parametrize("name", ["entry.json", "rootfs.tar"])
def test_what_is_damaged_is_shown_and_removed(store: BuildStore, name: str) -> None:
    entry = add(store, GO)
    (store.folder / entry.key / name).write_bytes(b"damaged")
    words = f"{entry.key[:12]}  damaged, of no use to any build"
    assert (words in invoke("cache", "ls").out) is (name == "entry.json")  # to list is not to read all
    assert invoke("cache", "gc").out == f"{words}\n0 removed, 0.0 MB\n"
    assert not (store.folder / entry.key).exists()


def test_a_build_is_found_by_its_name_before_keys_that_begin_so(store: BuildStore) -> None:
    named = add(store, GO, build="a")
    number = next(n for n in range(1000) if cache_key({**GO, "number": str(n)}).startswith("a"))
    other = add(store, {**GO, "number": str(number)}, build="other")
    assert other.key.startswith("a")
    assert invoke("cache", "why", "a").out.startswith(f"a ({named.key[:12]})")


def download(store: BuildStore, name: str, size: int, days: float = 0) -> Path:
    """A file of the cache of downloads, used so many days ago."""
    path = store.folder.parent / "downloads" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * size)
    moment = time.time() - days * 86400
    os.utime(path, (moment, moment))
    return path


def test_ls_and_gc_count_downloads_and_remove_them_before_results(store: BuildStore) -> None:
    entry = add(store, GO)
    old = download(store, f"sha256-{'0' * 64}", 500_000, days=40)
    middle = download(store, "h1-AbC_d=", 1_500_000, days=2)
    new = download(store, f"git-{'a' * 40}", 300_000)
    download(store, ".git-half.17", 1_000_000)
    assert invoke("cache", "ls").out.endswith("MB\ndownloads: 3 files, 2.3 MB\n")
    assert "downloads:" not in invoke("cache", "ls", "hello").out
    assert invoke("cache", "gc").out == "0 removed, 0.0 MB\ndownloads: 1 file, 0.5 MB\n"
    assert not old.exists()
    gone = json.loads(invoke("cache", "gc", "--max-size", "3M", "--format", "json").out)
    assert gone == {"builds": [], "damaged": [], "downloads": {"files": 1, "size": 1_500_000}}
    assert (middle.exists(), new.exists()) == (False, True)
    invoke("cache", "gc", "--max-size", "2M")
    assert not new.exists()
    assert store.entries() == (entry,)


@pytest.mark.parametrize("size", ["1X", "-1", "M", "1.5.5G"])
def test_a_size_that_is_none_is_a_usage_error(store: BuildStore, size: str) -> None:
    outcome = invoke("cache", "gc", f"--max-size={size}")
    assert (outcome.status, outcome.out) == (2, "")
    assert "is not a size" in outcome.err


@pytest.mark.parametrize(
    "arguments",
    [["gc", "hello"], ["gc", "--max-size", "1X"], ["ls", "--max-size", "1G"], ["why", "hello", "--unused", "30"]],
)
def test_what_an_action_would_ignore_is_a_usage_error_before_anything_is_removed(
    store: BuildStore, arguments: list[str]
) -> None:
    entry = add(store, GO)
    (store.folder / entry.key / "rootfs.tar").write_bytes(b"damaged")
    assert invoke("cache", *arguments).status == 2
    assert (store.folder / entry.key).exists()
