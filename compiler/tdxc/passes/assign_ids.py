"""assign-ids: every user and group of every layer gets a fixed id.

Ids must not depend on what else an image holds: a volume that outlives an image version keeps its owners by number.
So an id that the recipe does not give is derived from the name: SHA-256 of the name picks a place in a range, and a
taken place moves it to the next free one. Names are taken layer by layer (the image, then its profiles in the order of
the recipe), sorted within a layer; so neither a new profile nor the order of lines changes an id.

Ranges: system accounts 600 to 899, others 5000 to 5999. Debian's adduser gives packages ids from 100 (1000) upwards
(adduser.conf(5)), and systemd-sysusers from 999 downwards (sysusers.d(5)): the middle belongs to neither.
"""

from __future__ import annotations

import hashlib
from typing import ClassVar

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticSink, Note
from tdxc.ir import AuthoredImage, Group, Layer, Node, User
from tdxc.passes.base import PassContext
from tdxc.passes.known_accounts import KNOWN_GROUPS, STATIC_GROUPS, STATIC_USERS

SYSTEM_IDS = range(600, 900)
NORMAL_IDS = range(5000, 6000)


class _Ids:
    """Ids given so far: by name, and who has each number."""

    def __init__(self, kind: str, static: dict[str, int]) -> None:
        self.kind = kind
        self.by_name = dict(static)
        self.owners: dict[int, tuple[str, Node | None]] = {number: (name, None) for name, number in static.items()}

    def claim(self, name: str, number: int, node: Node, sink: DiagnosticSink) -> None:
        """Give ``name`` the id that the recipe says; a clash is an error with both places."""
        owner, other = self.owners.get(number, (name, node))
        known = self.by_name.get(name, number)
        if owner != name or known != number:
            taken = f"belongs to '{owner}'" if owner != name else f"differs from {known}, which '{name}' already has"
            sink.add(
                Code.E_CONFLICT,
                f"{self.kind} '{name}': id {number} {taken}",
                node.span,
                notes=(Note(message=f"'{owner}' is declared here", span=other.span),) if other else (),
                fix="choose another id, or leave it out: ids derived from names stay the same from build to build",
            )
            return
        self.by_name[name] = number
        self.owners[number] = (name, node)

    def derive(self, name: str, ids: range, node: Node, wish: int | None = None) -> int:
        """The id of ``name``: the one it has, or ``wish`` where that is free, or one derived from the name."""
        if name in self.by_name:
            return self.by_name[name]
        number = wish if wish is not None and wish not in self.owners else self._free(name, ids)
        self.by_name[name] = number
        self.owners[number] = (name, node)
        return number

    def _free(self, name: str, ids: range) -> int:
        start = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big") % len(ids)
        places = (ids[(start + step) % len(ids)] for step in range(len(ids)))
        return next((number for number in places if number not in self.owners), -1)


class AssignIds:
    """Fix all uids and gids; make each user's own group explicit."""

    name: ClassVar[str] = "assign-ids"
    description: ClassVar[str] = "give every user and group a fixed id that depends on its name alone"
    requires: ClassVar[frozenset[str]] = frozenset({"expand-modules"})
    establishes: ClassVar[frozenset[str]] = frozenset({"assign-ids"})

    def run(self, image: AuthoredImage, ctx: PassContext) -> AuthoredImage:
        """The image with ids; users without a primary group get one of their own name and, where free, number."""
        users, groups = _Ids(kind="user", static=STATIC_USERS), _Ids(kind="group", static=STATIC_GROUPS)
        layer = _assigned(image.layer, users, groups, ctx.sink)
        profiles = tuple(
            records.evolve(profile, layer=_assigned(profile.layer, users, groups, ctx.sink))
            for profile in image.profiles
        )
        return records.evolve(image, layer=layer, profiles=profiles)


def _assigned(layer: Layer, users: _Ids, groups: _Ids, sink: DiagnosticSink) -> Layer:
    if not layer.users and not layer.groups:
        return layer
    for user in layer.users:
        if user.uid is not None:
            users.claim(user.name, user.uid, user, sink)
    for group in layer.groups:
        if group.gid is not None:
            groups.claim(group.name, group.gid, group, sink)
    own = _own_groups(layer)
    for user in sorted(layer.users, key=_name):
        users.derive(user.name, _range(user), user)
    for group in sorted((*layer.groups, *own), key=_name):
        groups.derive(group.name, SYSTEM_IDS, group, users.by_name.get(group.name))
    _check_room(layer, users, groups, sink)
    return records.evolve(
        layer,
        users=tuple(_with_ids(user, users) for user in layer.users),
        groups=tuple(records.evolve(group, gid=groups.by_name[group.name]) for group in (*layer.groups, *own)),
    )


def _name(node: User | Group) -> str:
    return node.name


def _range(user: User) -> range:
    return SYSTEM_IDS if user.system else NORMAL_IDS


def _with_ids(user: User, users: _Ids) -> User:
    return records.evolve(user, uid=users.by_name[user.name], group=user.group or user.name)


def _own_groups(layer: Layer) -> tuple[Group, ...]:
    """Groups of the users' own names that no one declares."""
    declared = {group.name for group in layer.groups} | KNOWN_GROUPS
    return tuple(
        Group(span=user.span, cause=f"assign-ids: the own group of user '{user.name}'", name=user.name)
        for user in dict.fromkeys(layer.users)
        if not user.group and user.name not in declared
    )


def _check_room(layer: Layer, users: _Ids, groups: _Ids, sink: DiagnosticSink) -> None:
    for node, ids in ((user, users) for user in layer.users):
        if ids.by_name[node.name] < 0:
            ids_text = f"{_range(node).start} to {_range(node).stop - 1}"
            sink.add(Code.E_LIMIT, f"no free id from {ids_text} is left for user '{node.name}'", node.span)
    for group in layer.groups:
        if groups.by_name[group.name] < 0:
            sink.add(Code.E_LIMIT, f"no free id is left for group '{group.name}'", group.span)
