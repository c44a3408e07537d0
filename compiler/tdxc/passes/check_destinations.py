"""Checks of paths in the image: well-formed, in a place that keeps them, and each given once."""

from __future__ import annotations

import posixpath
from collections.abc import Iterable, Iterator

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, Note
from tdxc.ir import Base, Directory, File, Layer, Node, Symlink, Template

VOLATILE = {
    "/proc": "the kernel mounts its own file system there",
    "/sys": "the kernel mounts its own file system there",
    "/dev": "the kernel mounts its own file system there",
    "/run": "it is empty at each boot; use tmpfiles.d or RuntimeDirectory=",
    "/var/run": "it is a link to /run, which is empty at each boot; use tmpfiles.d or RuntimeDirectory=",
    "/var/lock": "it is a link to /run/lock, which is empty at each boot; use tmpfiles.d",
}
"""Folders whose content in the image is never seen once it runs."""


@records.frozen
class Destination:
    """A path that something of the image wants: ``what`` it is in words, the node that says so."""

    path: str
    what: str
    node: Node


def destinations(layer: Layer) -> Iterator[Destination]:
    """Every path that the layer puts something at, in the order of kinds and then of the recipe."""
    for file in layer.files:
        yield Destination(path=file.path, what="file", node=file)
    for template in layer.templates:
        yield Destination(path=template.path, what="template", node=template)
    for directory in layer.directories:
        yield Destination(path=directory.path, what="directory", node=directory)
    for link in layer.symlinks:
        yield Destination(path=link.path, what="symbolic link", node=link)
    for build in layer.builds:
        for artifact in build.artifacts:
            node = artifact if artifact.span.file else build
            yield Destination(path=artifact.dest, what=f"artifact of '{build.name}'", node=node)


def check_paths(layer: Layer) -> Iterator[Diagnostic]:
    """Paths that are not absolute and normalised, or that the running system hides."""
    for destination in destinations(layer):
        if fault := path_fault(destination.path, folder=destination.what.startswith("artifact")):
            yield Diagnostic(
                code=Code.E_PATH,
                message=f"{destination.what}: '{destination.path}' {fault}",
                span=destination.node.span,
                fix="give an absolute path without '.', '..' or '//'",
            )
            continue
        for root, reason in VOLATILE.items():
            if destination.path == root or destination.path.startswith(root + "/"):
                yield Diagnostic(
                    code=Code.E_PATH,
                    message=f"{destination.what}: '{destination.path}' is below {root}, which the running system hides",
                    span=destination.node.span,
                    notes=(Note(message=reason),),
                    fix="choose a path that the image keeps",
                )


def path_fault(path: str, *, folder: bool = False) -> str:
    """What is wrong with a destination, as the end of a sentence; a ``folder`` may be written with a final slash."""
    plain = path.rstrip("/") if folder and path != "/" else path
    if not plain.startswith("/"):
        return "is not absolute"
    if plain == "/":
        return "is the root directory itself"
    if plain.startswith("//") or posixpath.normpath(plain) != plain:
        return "is not normalised"
    if not plain.isprintable() and any(ch < " " or ch == "\x7f" for ch in plain):
        return "holds a control character"
    return ""


def check_clashes(wanted: Iterable[Destination], base: Base) -> Iterator[Diagnostic]:
    """Paths that two nodes want, and paths below something that is not a directory. Equal directories may repeat.

    Paths are the same where they lead to one place of the base: ``/bin/sh`` is ``/usr/bin/sh``.
    """
    first: dict[str, Destination] = {}
    for destination in wanted:
        path = base.place(destination.path).rstrip("/") or "/"
        before = first.setdefault(path, destination)
        if before is not destination and not _same(before.node, destination.node):
            yield _clash(destination, before, f"'{destination.path}' is already the destination of the {before.what}")
    folders: dict[str, list[str]] = {}
    for path in first:
        folders.setdefault(path.rpartition("/")[0], []).append(path)
    for folder, paths in folders.items():
        for parent in (folder, *_parents(folder)):
            above = first.get(parent)
            if above is not None and isinstance(above.node, File | Template | Symlink):
                yield from (
                    _clash(first[path], above, f"'{path}' is below '{parent}', which is a {above.what}")
                    for path in paths
                )


def _parents(path: str) -> Iterator[str]:
    """The folders that a path is in, without the root; each is shorter than the one before."""
    cut = path.rfind("/")
    while cut > 0:
        yield path[:cut]
        cut = path.rfind("/", 0, cut)


def _same(first: Node, second: Node) -> bool:
    return isinstance(first, Directory | Symlink) and first == second


def _clash(later: Destination, earlier: Destination, sentence: str) -> Diagnostic:
    spelled = "" if later.path.startswith(earlier.path) else f", as '{earlier.path}'"
    return Diagnostic(
        code=Code.E_CONFLICT,
        message=f"{later.what}: {sentence}",
        span=later.node.span,
        notes=(Note(message=f"the {earlier.what} is declared here{spelled}", span=earlier.node.span),),
        fix="give each its own path",
    )
