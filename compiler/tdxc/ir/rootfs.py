"""What a recipe puts into the root file system: packages, files, users and groups."""

from __future__ import annotations

from typing import NewType

from tdxc import records
from tdxc.ir.blob import Blob
from tdxc.ir.node import Node

CanonicalJson = NewType("CanonicalJson", str)
"""A JSON text with sorted keys, no spaces and no floats: a frozen, comparable mapping."""


@records.frozen(kw_only=True)
class Package(Node):
    """A package by APT's (or apk's) name, optionally ``name=version`` or ``name/suite``."""

    name: str


@records.frozen(kw_only=True)
class File(Node):
    """A regular file; ``mode`` holds permission bits, ``owner`` and ``group`` are names inside the image."""

    path: str
    content: Blob
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"


@records.frozen(kw_only=True)
class Template(Node):
    """A jinja2 template that render-templates turns into a :class:`File`; ``source`` names its file or is empty."""

    path: str
    text: str
    source: str = ""
    variables: CanonicalJson = CanonicalJson("{}")
    mode: int = 0o644
    owner: str = "root"
    group: str = "root"


@records.frozen(kw_only=True)
class Directory(Node):
    """A directory that exists in the image even when nothing is in it."""

    path: str
    mode: int = 0o755
    owner: str = "root"
    group: str = "root"


@records.frozen(kw_only=True)
class Symlink(Node):
    """A symbolic link; ``target`` is written as given."""

    path: str
    target: str


@records.frozen(kw_only=True)
class Group(Node):
    """A group; ``gid`` is None until the assign-ids pass gives it one."""

    name: str
    gid: int | None = None


@records.frozen(kw_only=True)
class User(Node):
    """A user; ``uid`` is None until assign-ids; ``group`` is the primary group's name (the user's own when empty)."""

    name: str
    uid: int | None = None
    group: str = ""
    groups: tuple[str, ...] = ()
    system: bool = True
    home: str = ""
    shell: str = "/usr/sbin/nologin"
    description: str = ""
