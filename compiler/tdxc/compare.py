"""Comparison of two recipes, revisions of a recipe, or compiled trees, in terms of the recipe."""

from __future__ import annotations

import difflib
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import AuthoredImage, codec
from tdxc.ir.diff import Change, diff_nodes
from tdxc.tree import Entry, FileTree, TreeDirectory, TreeFile, TreeLink

_BOOKKEEPING = ".tdxc/"


@records.frozen(kw_only=True)
class Side:
    """One of the two things compared."""

    image: AuthoredImage
    tree: FileTree


@records.frozen(kw_only=True)
class Difference:
    """Changes of the recipe, and of the files that a reviewer sees (all outside of ``.tdxc/``)."""

    changes: tuple[Change, ...]
    before: FileTree
    after: FileTree

    @property
    def is_empty(self) -> bool:
        """Neither the recipe nor a reviewed file differs."""
        return not self.changes and not any(self.files())

    def files(self) -> Iterator[tuple[str, str]]:
        """Sign and path of each reviewed file that differs, sorted by path."""
        for path in sorted({*self.before, *self.after}):
            if path.startswith(_BOOKKEEPING):
                continue
            if path not in self.before:
                yield "+", path
            elif path not in self.after:
                yield "-", path
            elif self.before[path] != self.after[path]:
                yield "~", path

    def text(self, *, with_tree: bool = False) -> str:
        """For people: the recipe's changes, then the files they touch."""
        if self.is_empty:
            return "no change\n"
        lines = [f"{change}" + (f"  ({change.span})" if str(change.span) else "") for change in self.changes]
        files = [f"  {sign} {path}" for sign, path in self.files()]
        lines += [f"{len(files)} file{'' if len(files) == 1 else 's'} of the tree:", *files]
        if with_tree:
            lines += ["", *self._unified()]
        return "\n".join(lines) + "\n"

    def data(self) -> dict[str, Any]:
        """For tools."""
        return {
            "changes": [
                {"kind": c.kind.value, "place": c.place, "before": c.before, "after": c.after, "span": str(c.span)}
                for c in self.changes
            ],
            "files": [{"kind": sign, "path": path} for sign, path in self.files()],
        }

    def _unified(self) -> Iterator[str]:
        for _sign, path in self.files():
            old, new = (_lines(tree[path]) if path in tree else [] for tree in (self.before, self.after))
            yield from difflib.unified_diff(old, new, f"a/{path}", f"b/{path}", lineterm="")


def difference(old: Side, new: Side) -> Difference:
    """What changes from one to the other."""
    return Difference(changes=tuple(diff_nodes(old.image, new.image)), before=old.tree, after=new.tree)


def load_side(reference: str) -> Side:
    """Read one thing to compare (see ``tdxc diff --help``). Raises DiagnosticError for what cannot be read."""
    path = Path(reference)
    if path.is_dir():
        return _load_tree(path)
    if not path.exists() and ":" in reference and not Path(reference.rpartition(":")[0]).is_file():
        return _load_revision(*reference.split(":", 1))
    return _load_recipe(reference)


def _load_recipe(reference: str) -> Side:
    from tdxc import driver

    compilation = driver.compile_image(driver.load_recipe(reference).image)
    return Side(image=compilation.authored, tree=compilation.tree)


def _load_tree(folder: Path) -> Side:
    """A compiled tree: its recorded IR, and the files that the compiler wrote."""
    import json

    try:
        image = codec.loads((folder / ".tdxc/ir.json").read_text(encoding="utf-8"), AuthoredImage, None)
        recorded = json.loads((folder / ".tdxc/files.json").read_text(encoding="utf-8"))["files"]
        return Side(image=image, tree=FileTree({path: _entry(folder / path) for path in recorded}))
    except (OSError, ValueError, KeyError) as error:
        raise DiagnosticError.of(
            Code.E_PATH,
            f"'{folder}' is not a complete compiled tree: {error}",
            fix="compile the recipe again: tdxc compile RECIPE -o DIR",
        ) from error


def _entry(path: Path) -> Entry:
    if path.is_symlink():
        return TreeLink(target=str(path.readlink()))
    if path.is_dir():
        return TreeDirectory()
    return TreeFile(data=path.read_bytes(), executable=bool(path.stat().st_mode & 0o100))


def _load_revision(revision: str, reference: str) -> Side:
    """The recipe at a git revision, in a scratch copy of the whole repository since recipes import their neighbours."""
    unknown = f"'{revision}' is neither a file nor a git revision"
    top = Path(_git(["rev-parse", "--show-toplevel"], unknown).decode().strip())
    commit = _git(["rev-parse", "--verify", "--end-of-options", f"{revision}^{{commit}}"], unknown).decode().strip()
    path, name = _split_name(reference)
    try:
        inside = (Path.cwd() / path).resolve().relative_to(top.resolve())
    except ValueError as error:
        raise DiagnosticError.of(Code.E_REFERENCE, f"'{path}' lies outside of the repository '{top}'") from error
    _git(["cat-file", "-e", f"{commit}:{inside.as_posix()}"], f"there is no '{path}' at {revision}")
    with tempfile.TemporaryDirectory(prefix="tdxc-diff-") as scratch:
        archive = _git(["-C", str(top), "archive", "--format=tar", commit], f"cannot read {revision}")
        subprocess.run(["tar", "-x", "-C", scratch], input=archive, check=True)
        return _load_recipe(f"{Path(scratch) / inside}{name}")


def _split_name(reference: str) -> tuple[str, str]:
    """``recipe.py:image`` as the file and ``:image``, which is empty where no image is named."""
    path, colon, name = reference.rpartition(":")
    return (path, f":{name}") if colon and name.isidentifier() else (reference, "")


def _git(arguments: list[str], failure: str) -> bytes:
    """Standard output of git; raises E_REFERENCE with ``failure`` and git's own last line."""
    try:
        return subprocess.run(["git", *arguments], capture_output=True, check=True).stdout
    except FileNotFoundError as error:
        raise DiagnosticError.of(Code.E_BACKEND_UNAVAILABLE, "git is not installed", fix="install git") from error
    except subprocess.CalledProcessError as error:
        words = error.stderr.decode(errors="replace").strip().splitlines()
        raise DiagnosticError.of(
            Code.E_REFERENCE,
            f"{failure} (git: {words[-1] if words else error.returncode})",
            fix="name an existing file or folder, or REVISION:FILE inside of a git repository",
        ) from error


def _lines(entry: Entry) -> list[str]:
    if isinstance(entry, TreeFile):
        try:
            return entry.data.decode().splitlines()
        except UnicodeDecodeError:
            return [f"(binary, {len(entry.data)} bytes)"]
    return [f"(link to {entry.target})"] if isinstance(entry, TreeLink) else ["(directory)"]
