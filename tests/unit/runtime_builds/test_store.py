"""The cache of source builds: atomic, verified on read, one builder per key, with real processes."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tdxc_runtime.builds import BuildStore, CacheEntry, cache_key
from tdxc_runtime.builds import store as module
from tdxc_runtime.builds.store import CorruptEntryError

INPUTS = {"source": "sha256:aa", "flag.ldflags": "-s -w"}


@pytest.fixture
def store(tmp_path: Path) -> BuildStore:
    return BuildStore(tmp_path / "builds")


def add(store: BuildStore, tmp_path: Path, data: bytes = b"program", **more: str) -> CacheEntry:
    archive = tmp_path / "made.tar"
    archive.write_bytes(data)
    return store.add(archive, {**INPUTS, **more}, build="hello", language="go", network=False, seconds=1.5)


def files(folder: Path) -> set[str]:
    # not rglob(), which raises where a folder is removed meanwhile by another process
    return {str((Path(place) / name).relative_to(folder)) for place, _, names in os.walk(folder) for name in names}


def test_what_was_stored_comes_back_whole(store: BuildStore, tmp_path: Path) -> None:
    entry = add(store, tmp_path)
    found = store.find(cache_key(INPUTS))
    assert found == entry
    assert (entry.build, entry.language, entry.seconds, entry.size_bytes) == ("hello", "go", 1.5, 7)
    assert entry.sha256 == hashlib.sha256(b"program").hexdigest()
    store.copy_out(entry, tmp_path / "out.tar")
    assert (tmp_path / "out.tar").read_bytes() == b"program"


def test_nothing_is_found_in_an_empty_cache(store: BuildStore) -> None:
    assert store.find("0" * 64) is None
    assert store.entries() == ()
    assert store.collect(unused_s=0) == ()
    store.remove("0" * 64)
    assert not store.folder.exists()


def test_a_second_result_replaces_the_first_and_leaves_nothing_behind(store: BuildStore, tmp_path: Path) -> None:
    first = add(store, tmp_path)
    second = add(store, tmp_path, b"other program")
    assert first.key == second.key
    assert store.find(first.key) == second
    assert files(store.folder) == {f"{first.key}/{name}" for name in ("rootfs.tar", "inputs.json", "entry.json")}


def test_an_archive_of_which_one_bit_flipped_is_not_handed_out(store: BuildStore, tmp_path: Path) -> None:
    entry = add(store, tmp_path)
    archive = store.folder / entry.key / "rootfs.tar"
    data = bytearray(archive.read_bytes())
    data[3] ^= 1
    archive.write_bytes(data)
    with pytest.raises(CorruptEntryError, match="archive has changed"):
        store.copy_out(entry, tmp_path / "out.tar")
    assert not (tmp_path / "out.tar").exists()


def test_an_archive_that_is_gone_is_corruption_and_not_a_crash(store: BuildStore, tmp_path: Path) -> None:
    entry = add(store, tmp_path)
    (store.folder / entry.key / "rootfs.tar").unlink()
    with pytest.raises(CorruptEntryError, match="archive is missing"):
        store.copy_out(entry, tmp_path / "out.tar")
    assert not (tmp_path / "out.tar").exists()


def test_a_target_that_cannot_be_written_is_no_corruption(store: BuildStore, tmp_path: Path) -> None:
    entry = add(store, tmp_path)
    with pytest.raises(FileNotFoundError):
        store.copy_out(entry, tmp_path / "missing" / "out.tar")


@pytest.mark.parametrize("name", ["entry.json", "inputs.json"])
@pytest.mark.parametrize("text", ["", "{", "[]", "null", "{}", '{"format": 2}', '"\udcff"'])
def test_a_damaged_description_is_corruption(store: BuildStore, tmp_path: Path, name: str, text: str) -> None:
    entry = add(store, tmp_path)
    (store.folder / entry.key / name).write_text(text, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(CorruptEntryError):
        store.find(entry.key)
    assert store.damaged() == (entry.key,)
    assert store.entries() == ()


def test_an_entry_under_the_key_of_other_inputs_is_not_taken(store: BuildStore, tmp_path: Path) -> None:
    entry = add(store, tmp_path)
    (store.folder / entry.key / "inputs.json").write_text(json.dumps({**INPUTS, "source": "sha256:bb"}))
    with pytest.raises(CorruptEntryError, match="not those of its key"):
        store.find(entry.key)


def test_entries_are_listed_newest_first(store: BuildStore, tmp_path: Path) -> None:
    made = [add(store, tmp_path, version=str(number)) for number in range(3)]
    assert [entry.key for entry in store.entries()] == [entry.key for entry in reversed(made)]


def test_collection_by_age_counts_from_the_last_use(store: BuildStore, tmp_path: Path) -> None:
    kept, gone = add(store, tmp_path, version="1"), add(store, tmp_path, version="2")
    for entry in (kept, gone):
        os.utime(store.folder / entry.key / "entry.json", (1000, 1000))
    store.copy_out(kept, tmp_path / "out.tar")
    assert [entry.key for entry in store.collect(unused_s=3600)] == [gone.key]
    assert [entry.key for entry in store.entries()] == [kept.key]


def test_collection_by_size_removes_the_longest_unused_first(store: BuildStore, tmp_path: Path) -> None:
    made = [add(store, tmp_path, b"x" * 100, version=str(number)) for number in range(4)]
    for number, entry in enumerate(made):
        os.utime(store.folder / entry.key / "entry.json", (1000 + number, 1000 + number))
    removed = store.collect(total_bytes=250)
    assert [entry.key for entry in removed] == [entry.key for entry in made[:2]]
    assert {entry.key for entry in store.entries()} == {entry.key for entry in made[2:]}
    assert sum(entry.size_bytes for entry in store.entries()) <= 250


def test_collection_removes_damaged_entries_and_spares_those_in_use(store: BuildStore, tmp_path: Path) -> None:
    used, damaged = add(store, tmp_path, version="1"), add(store, tmp_path, version="2")
    (store.folder / damaged.key / "entry.json").write_text("{")
    with store.locked(used.key):
        assert store.collect(unused_s=0, now=time.time() + 10) == ()
    assert store.remove_damaged() == (damaged.key,)
    assert files(store.folder) >= {f"{used.key}/rootfs.tar"}
    assert not (store.folder / damaged.key).exists()
    assert [entry.key for entry in store.collect(unused_s=0, now=time.time() + 10)] == [used.key]
    assert files(store.folder) == set()


BUILD_ONCE = """
import sys, time
from pathlib import Path
from tdxc_runtime.builds import BuildStore, cache_key
folder, number = Path(sys.argv[1]), sys.argv[2]
store, inputs = BuildStore(folder / "builds"), {"source": "a"}
key = cache_key(inputs)
with store.locked(key):
    entry = store.find(key)
    if entry is None:
        with (folder / "built").open("a") as log:
            log.write(number + "\\n")
        time.sleep(0.05)
        archive = folder / f"archive-{number}"
        archive.write_bytes(number.encode() * 100_000)
        entry = store.add(archive, inputs, build="b", language="c", network=False, seconds=0)
    store.copy_out(entry, folder / f"out-{number}")
"""


def start(script: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", script, *map(str, arguments)])


def test_of_many_processes_one_builds_and_all_get_the_same(tmp_path: Path) -> None:
    processes = [start(BUILD_ONCE, tmp_path, number) for number in range(8)]
    assert [process.wait(60) for process in processes] == [0] * 8
    assert len((tmp_path / "built").read_text().split()) == 1
    assert len({(tmp_path / f"out-{number}").read_bytes() for number in range(8)}) == 1


ADD_AND_COLLECT = """
import sys
from pathlib import Path
from tdxc_runtime.builds import BuildStore, cache_key
folder, number = Path(sys.argv[1]), sys.argv[2]
store = BuildStore(folder / "builds")
for turn in range(15):
    inputs = {"source": str(turn % 3)}
    key = cache_key(inputs)
    with store.locked(key):
        entry = store.find(key)
        if entry is None:
            archive = folder / f"archive-{number}"
            archive.write_bytes(key.encode())
            entry = store.add(archive, inputs, build="b", language="c", network=False, seconds=0)
        out = folder / f"out-{number}"
        store.copy_out(entry, out)
        assert out.read_text() == key
    if turn % 4 == 0:
        store.collect(total_bytes=64)
"""


def test_collecting_beside_building_never_takes_what_is_being_used(tmp_path: Path) -> None:
    processes = [start(ADD_AND_COLLECT, tmp_path, number) for number in range(6)]
    assert [process.wait(120) for process in processes] == [0] * 6
    assert [path for path in (tmp_path / "builds").iterdir() if path.name.endswith(".partial")] == []


DIE_WHILE_HOLDING = """
import os, sys, time
from pathlib import Path
from tdxc_runtime.builds import BuildStore
store = BuildStore(Path(sys.argv[1]))
with store.locked("0" * 64):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_builder_that_is_killed_leaves_no_lock(store: BuildStore) -> None:
    with subprocess.Popen([sys.executable, "-c", DIE_WHILE_HOLDING, str(store.folder)], stdout=subprocess.PIPE) as one:
        assert one.stdout is not None
        assert one.stdout.readline() == b"held\n"
        one.send_signal(signal.SIGKILL)
        one.wait(60)
    waited: list[bool] = []
    with store.locked("0" * 64, lambda: waited.append(True)):
        assert waited == []


def test_who_has_to_wait_is_told_once(store: BuildStore) -> None:
    script = DIE_WHILE_HOLDING.replace("time.sleep(60)", "sys.stdin.read()")
    command = [sys.executable, "-c", script, str(store.folder)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as one:
        assert one.stdin is not None
        assert one.stdout is not None
        assert one.stdout.readline() == b"held\n"
        told: list[bool] = []

        def let_go() -> None:
            assert one.stdin is not None
            told.append(True)
            one.stdin.close()

        with store.locked("0" * 64, let_go):
            assert told == [True]
        assert one.wait(60) == 0


DIE_WHILE_ADDING = """
import os, signal, sys
from pathlib import Path
from tdxc_runtime.builds import BuildStore, store as module
write = module._write_synced
def die(path, words):
    write(path, words)
    if path.name == sys.argv[2]:
        os.kill(os.getpid(), signal.SIGKILL)
module._write_synced = die
store = BuildStore(Path(sys.argv[1]) / "builds")
store.add(Path(sys.argv[1]) / "archive", {"source": "a"}, build="b", language="c", network=False, seconds=0)
"""


@pytest.mark.parametrize("name", ["inputs.json", "entry.json"])
def test_a_builder_that_is_killed_while_it_stores_leaves_nothing(tmp_path: Path, name: str) -> None:
    (tmp_path / "archive").write_bytes(b"x" * 10_000)
    process = start(DIE_WHILE_ADDING, tmp_path, name)
    assert process.wait(60) == -signal.SIGKILL
    store, key = BuildStore(tmp_path / "builds"), cache_key({"source": "a"})
    assert store.find(key) is None
    deadline = time.monotonic() + 60
    while files(store.folder) and time.monotonic() < deadline:
        time.sleep(0.05)  # the guard removes the half-made entry
    assert files(store.folder) == set()


def test_of_several_builds_of_one_name_the_closest_is_compared(store: BuildStore, tmp_path: Path) -> None:
    mine = add(store, tmp_path, flag="mine", patch="1")
    other = add(store, tmp_path, flag="other", patch="2", more="x")
    assert store.closest("hello", {**INPUTS, "flag": "mine", "patch": "3"}) == mine
    assert store.closest("hello", {**INPUTS, "flag": "other", "patch": "3", "more": "x"}) == other
    assert store.closest("hello", {**INPUTS, "flag": "third", "patch": "3", "more": "y"}) == other
    assert store.closest("another", INPUTS) is None


@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_archives_that_are_not_what_was_stored_are_removed(store: BuildStore, tmp_path: Path, harm: str) -> None:
    whole, spoiled = add(store, tmp_path), add(store, tmp_path, number="2")
    archive = store.folder / spoiled.key / "rootfs.tar"
    if harm == "gone":
        archive.unlink()
    else:
        archive.write_bytes(b"x")
    assert store.damaged() == ()
    assert store.remove_damaged() == (spoiled.key,)
    assert store.entries() == (whole,)


def test_an_entry_that_is_replaced_while_it_is_read_is_read_again(
    store: BuildStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = add(store, tmp_path)
    read = module._read_entry

    def replaced(place: Path) -> CacheEntry:
        monkeypatch.setattr(module, "_read_entry", read)
        add(store, tmp_path, b"another result")
        raise FileNotFoundError("what was there is gone")

    monkeypatch.setattr(module, "_read_entry", replaced)
    found = store.find(old.key)
    assert found is not None
    assert found.sha256 == hashlib.sha256(b"another result").hexdigest()


@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_an_entry_that_changes_while_all_are_looked_at_is_not_damaged(
    store: BuildStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    entry = add(store, tmp_path)
    verify = BuildStore._verify

    def too_late(self: BuildStore, seen: CacheEntry) -> None:
        monkeypatch.setattr(BuildStore, "_verify", verify)
        if how == "removed":
            self.remove(entry.key)
        else:
            add(self, tmp_path, b"another result")
        verify(self, seen)

    monkeypatch.setattr(BuildStore, "_verify", too_late)
    assert store.remove_damaged() == ()
    assert len(store.entries()) == (how == "replaced")


def test_an_entry_that_is_made_whole_before_it_is_removed_stays(
    store: BuildStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    entry = add(store, tmp_path)
    (store.folder / entry.key / "rootfs.tar").write_bytes(b"x")
    lock = BuildStore._try_lock

    def made_again(self: BuildStore, key: str) -> int | None:
        monkeypatch.setattr(BuildStore, "_try_lock", lock)
        add(self, tmp_path)
        return lock(self, key)

    monkeypatch.setattr(BuildStore, "_try_lock", made_again)
    assert store.remove_damaged() == ()
    assert store.damaged(archives=True) == ()
    assert store.entries() != ()


def test_what_somebody_else_has_removed_is_not_removed_once_more(
    store: BuildStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = add(store, tmp_path, b"x" * 100, number="1"), add(store, tmp_path, b"x" * 100, number="2")
    os.utime(store.folder / first.key / "entry.json", (1000, 1000))
    lock = BuildStore._try_lock

    def others_collect(self: BuildStore, key: str) -> int | None:
        monkeypatch.setattr(BuildStore, "_try_lock", lock)
        self.remove(first.key)
        return lock(self, key)

    monkeypatch.setattr(BuildStore, "_try_lock", others_collect)
    assert store.collect(total_bytes=150) == ()
    assert [entry.key for entry in store.entries()] == [second.key]
    assert files(store.folder / "locks") == set()
