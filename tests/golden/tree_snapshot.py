"""A syrupy extension whose snapshot is a folder: ``golden/<example>/`` as a reviewer diffs it in a pull request."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from syrupy.data import SnapshotCollection, SnapshotCollections
from syrupy.extensions.base import AbstractSyrupyExtension
from tdxc.tree import Entry, FileTree, TreeFile, TreeLink

if TYPE_CHECKING:
    from syrupy.location import PyTestLocation

GOLDEN = Path(__file__).resolve().parents[2] / "golden"


def tree_text(tree: FileTree) -> str:
    """The whole tree as one text, from which :func:`write_text` makes the same files again."""
    return "".join(f"=== {path} {_mark(entry)}\n{_content(entry)}" for path, entry in tree.entries.items())


def read_tree(root: Path) -> FileTree:
    """All files and links below ``root``."""
    entries: dict[str, Entry] = {}
    for path in root.rglob("*"):
        name = path.relative_to(root).as_posix()
        if path.is_symlink():
            entries[name] = TreeLink(target=str(path.readlink()))
        elif path.is_file():
            entries[name] = TreeFile(data=path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))
    return FileTree(entries)


def write_tree_files(tree: FileTree, root: Path) -> None:
    """Replace ``root`` by ``tree``."""
    shutil.rmtree(root, ignore_errors=True)
    for name, entry in tree.entries.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        if isinstance(entry, TreeLink):
            path.symlink_to(entry.target)
        elif isinstance(entry, TreeFile):
            path.write_bytes(entry.data)
            path.chmod(0o755 if entry.executable else 0o644)


def _mark(entry: Entry) -> str:
    if isinstance(entry, TreeLink):
        return "link"
    return "0755" if isinstance(entry, TreeFile) and entry.executable else "0644"


def _content(entry: Entry) -> str:
    if isinstance(entry, TreeLink):
        return f"{entry.target}\n"
    if isinstance(entry, TreeFile):
        text = entry.data.decode()
        return text if text.endswith("\n") else f"{text}\n(no final newline)\n"
    return ""


class TreeSnapshot(AbstractSyrupyExtension):
    """Missing, changed and stale files all fail with their difference; ``--snapshot-update`` mends all three."""

    trees: dict[str, FileTree] = {}  # noqa: RUF012 - serialized text to the tree behind it, for writing

    def serialize(self, data: Any, **_options: Any) -> str:
        text = tree_text(data)
        self.trees[text] = data
        return text

    @classmethod
    def get_location(cls, *, test_location: PyTestLocation, index: Any) -> str:
        return str(GOLDEN / str(index))

    @classmethod
    def matches_test_location(cls, *, test_location: PyTestLocation, snapshot_location: str) -> bool:
        return Path(snapshot_location).parent == GOLDEN

    def discover_snapshots(self, **_options: Any) -> SnapshotCollections:
        return SnapshotCollections()

    def read_snapshot_collection(self, *, snapshot_location: str) -> SnapshotCollection:
        return SnapshotCollection(location=snapshot_location)

    def read_snapshot_data_from_location(
        self, *, snapshot_location: str, snapshot_name: str, session_id: str
    ) -> str | None:
        root = Path(snapshot_location)
        return tree_text(read_tree(root)) if root.is_dir() else None

    @classmethod
    def write_snapshot_collection(cls, *, snapshot_collection: SnapshotCollection, **_options: Any) -> None:
        snapshot = next(iter(snapshot_collection))
        write_tree_files(cls.trees[str(snapshot.data)], Path(snapshot_collection.location))

    def delete_snapshots(self, *, snapshot_location: str, snapshot_names: set[str]) -> None:
        shutil.rmtree(snapshot_location)
