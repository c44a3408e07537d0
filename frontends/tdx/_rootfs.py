"""Declarations of what the root file system holds: packages, files, users and groups."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import cast

from tdxc.diagnostics import Code
from tdxc.ir import Blob, CanonicalJson, Directory, File, Group, Package, Symlink, Template, User

from tdx import _values as v
from tdx._declarations import Declarations
from tdx._declare import declares
from tdx._source import Source, read_file


class RootfsDeclarations(Declarations):
    """``image.install``, ``image.file`` and their like."""

    @declares
    def install(self, *packages: v.PackageName) -> None:
        """Install packages by name; ``name=version`` and ``name/suite`` are allowed."""
        self._add("packages", (Package(name=name, span=self._span) for name in packages))

    @declares
    def build_packages(self, *packages: v.PackageName) -> None:
        """Install packages for build scripts only; they do not end up in the image."""
        self._add("build_packages", (Package(name=name, span=self._span) for name in packages))

    @declares
    def file(
        self,
        dest: v.GuestFile,
        *,
        content: str | bytes | None = None,
        src: v.HostPath | None = None,
        mode: v.Mode = 0o644,
        owner: v.UserName = "root",
        group: v.UserName = "root",
        outside: bool = False,
    ) -> None:
        """Put a file at ``dest``: either ``content``, or the bytes of ``src`` from the recipe's folder.

        ``outside=True`` allows a ``src`` outside of that folder.
        """
        if (content is None) == (src is None):
            raise self._one_of("file()", "content", "src")
        if src is not None:
            blob = Blob.of(self._read(src, outside=outside).data)
        else:
            blob = Blob.of(content if isinstance(content, bytes) else cast(str, content).encode())
        self._add(
            "files", [File(path=dest, content=blob, mode=v.mode_bits(mode), owner=owner, group=group, span=self._span)]
        )

    @declares
    def template(
        self,
        dest: v.GuestFile,
        *,
        src: v.HostPath | None = None,
        content: v.Text | None = None,
        vars: v.Variables | None = None,  # noqa: A002 - the name that recipes use
        mode: v.Mode = 0o644,
        owner: v.UserName = "root",
        group: v.UserName = "root",
        outside: bool = False,
    ) -> None:
        """Put a file at ``dest`` that jinja2 renders with ``vars``; a variable that is not given is an error."""
        if (content is None) == (src is None):
            raise self._one_of("template()", "src", "content")
        name, text = "", content or ""
        if src is not None:
            source = self._read(src, outside=outside)
            name, text = source.name, source.text(self._place("src"))
        node = Template(
            path=dest,
            text=text,
            source=name,
            variables=canonical_json(vars or {}),
            mode=v.mode_bits(mode),
            owner=owner,
            group=group,
            span=self._span,
        )
        self._add("templates", [node])

    @declares
    def directory(
        self, path: v.GuestFile, *, mode: v.Mode = 0o755, owner: v.UserName = "root", group: v.UserName = "root"
    ) -> None:
        """Make a directory."""
        self._add(
            "directories", [Directory(path=path, mode=v.mode_bits(mode), owner=owner, group=group, span=self._span)]
        )

    @declares
    def symlink(self, path: v.GuestFile, target: v.Line) -> None:
        """Make a symbolic link at ``path``; ``target`` is written as given."""
        if not target:
            raise self._fault(Code.E_VALUE, f"the symbolic link '{path}' has an empty target")
        self._add("symlinks", [Symlink(path=path, target=target, span=self._span)])

    @declares
    def user(
        self,
        name: v.UserName,
        *,
        uid: v.Id | None = None,
        group: v.OptionalUserName = "",
        groups: v.UserNames = (),
        system: bool = True,
        home: v.OptionalGuestPath = "",
        shell: v.GuestPath = "/usr/sbin/nologin",
        description: v.Line = "",
    ) -> None:
        """Make a user; ``group`` is the primary group (one of the user's own name by default)."""
        node = User(
            name=name,
            uid=uid,
            group=group,
            groups=tuple(groups),
            system=system,
            home=home,
            shell=shell,
            description=description,
            span=self._span,
        )
        self._add("users", [node])

    @declares
    def group(self, name: v.UserName, *, gid: v.Id | None = None) -> None:
        """Make a group."""
        self._add("groups", [Group(name=name, gid=gid, span=self._span)])

    def _read(self, given: v.HostPath, *, outside: bool) -> Source:
        return read_file(self._root, given, outside=outside, span=self._place("src"))

    def _one_of(self, label: str, first: str, second: str) -> Exception:
        return self._fault(
            Code.E_VALUE, f"{label} needs exactly one of {first} and {second}", f"give either {first} or {second}"
        )


def canonical_json(value: Mapping[str, object]) -> CanonicalJson:
    """A mapping as JSON with sorted keys and no spaces."""
    return CanonicalJson(json.dumps(value, sort_keys=True, separators=(",", ":"), ensure_ascii=False))
