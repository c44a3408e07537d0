"""FileTree: compiled output in memory, checked paths, no disk. Writing it is ``tdxc.writer``'s job."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from types import MappingProxyType

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan


@records.frozen
class Origin:
    """Where an output file stems from: the recipe line, and which pass or emitter made it, as a sentence."""

    span: SourceSpan
    cause: str = ""


@records.frozen(kw_only=True)
class TreeFile:
    """A regular file. Modes are 0644 or 0755: what git keeps, and so all that a tree in a repository can mean."""

    data: bytes
    executable: bool = False
    origin: Origin | None = records.field(default=None, eq=False)

    @classmethod
    def text(cls, text: str, *, executable: bool = False, origin: Origin | None = None) -> TreeFile:
        """A file of UTF-8 text."""
        return cls(data=text.encode(), executable=executable, origin=origin)


@records.frozen(kw_only=True)
class TreeLink:
    """A symbolic link; ``target`` is written as given."""

    target: str
    origin: Origin | None = records.field(default=None, eq=False)


@records.frozen(kw_only=True)
class TreeDirectory:
    """A directory that exists even if nothing is in it."""

    origin: Origin | None = records.field(default=None, eq=False)


Entry = TreeFile | TreeLink | TreeDirectory


def check_tree_path(path: str) -> str:
    """Return ``path`` if it is relative, normalised and inside the tree; raises E_OUTPUT otherwise."""
    normal = posixpath.normpath(path)
    if not path or path != normal or path.startswith(("/", "../")) or path in {".", ".."} or "\0" in path:
        raise DiagnosticError.of(Code.E_OUTPUT, f"output path {path!r} is not a normalised path inside the tree")
    return path


def _sorted_proxy(entries: Mapping[str, Entry]) -> Mapping[str, Entry]:
    return MappingProxyType(dict(sorted(entries.items())))


@records.frozen
class FileTree:
    """An immutable mapping from relative POSIX paths to entries, iterated in sorted order."""

    entries: Mapping[str, Entry] = records.field(factory=dict, converter=_sorted_proxy)

    def __iter__(self) -> Iterator[str]:
        return iter(self.entries)

    def __len__(self) -> int:
        return len(self.entries)

    def __contains__(self, path: object) -> bool:
        return path in self.entries

    def __getitem__(self, path: str) -> Entry:
        return self.entries[path]

    def text(self, path: str) -> str:
        """The UTF-8 text of a regular file. Raises KeyError where there is none."""
        entry = self.entries[path]
        if not isinstance(entry, TreeFile):
            raise KeyError(path)
        return entry.data.decode()

    def under(self, prefix: str) -> FileTree:
        """The same tree below ``prefix``."""
        return FileTree({f"{prefix}/{path}": entry for path, entry in self.entries.items()})

    def merge(self, *others: FileTree) -> FileTree:
        """All trees as one; raises E_OUTPUT where two of them have different entries at one path."""
        merged = dict(self.entries)
        for other in others:
            for path, entry in other.entries.items():
                if merged.setdefault(path, entry) != entry:
                    raise DiagnosticError.of(Code.E_OUTPUT, f"two emitters write {path!r} with different content")
        return FileTree(merged)


class TreeBuilder:
    """Collects entries for a FileTree, refusing bad paths and clashes as they come."""

    def __init__(self) -> None:
        self._entries: dict[str, Entry] = {}

    def add(self, path: str, entry: Entry) -> None:
        """Add one entry; raises E_OUTPUT for a bad path or for a second, different entry at the same path."""
        check_tree_path(path)
        if self._entries.setdefault(path, entry) != entry:
            raise DiagnosticError.of(Code.E_OUTPUT, f"two things of the image want the output path {path!r}")

    def build(self) -> FileTree:
        """The finished tree."""
        return FileTree(self._entries)
