"""lower-users: each user and each group becomes a sysusers.d fragment of its own, with fixed ids.

::

    /usr/lib/sysusers.d/10-group-tdx.conf     g tdx 755
    /usr/lib/sysusers.d/20-user-app.conf      u app 747:app "Application" /var/lib/app /bin/false
                                              m app tdx
    /usr/lib/tmpfiles.d/20-home-app.conf      d /var/lib/app 0700 app app -

mkosi runs systemd-sysusers and systemd-tmpfiles while it makes the image, so /etc/passwd and the homes are in it. One
file for each, so that profiles add files and change none; sysusers makes groups before users whatever the file.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import ClassVar, TypeVar

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import Blob, File, Group, ResolvedImage, User
from tdxc.passes.base import PassContext
from tdxc.passes.known_accounts import STATIC_GROUPS, STATIC_USERS
from tdxc.quoting import sysusers_field, tmpfiles_path

SYSUSERS_FOLDER = "/usr/lib/sysusers.d"
TMPFILES_FOLDER = "/usr/lib/tmpfiles.d"

AccountT = TypeVar("AccountT", User, Group)


class LowerUsers:
    """Write sysusers.d and tmpfiles.d fragments; users and groups are sorted by name and unique behind it."""

    name: ClassVar[str] = "lower-users"
    description: ClassVar[str] = "users and groups to sysusers.d fragments with fixed ids, homes to tmpfiles.d"
    requires: ClassVar[frozenset[str]] = frozenset({"assign-ids"})
    establishes: ClassVar[frozenset[str]] = frozenset({"lower-users"})

    def run(self, image: ResolvedImage, ctx: PassContext) -> ResolvedImage:
        """The image with its fragments; a value that a fragment cannot hold is reported at its user."""
        users, groups = _unique(image.users), _unique(image.groups)
        placed = {d.path for d in image.directories} | {f.path for f in image.files}
        files = [_group_file(group) for group in groups if group.name not in STATIC_GROUPS]
        known = {group.name for group in groups} | set(STATIC_GROUPS)
        for user in users:
            try:
                files.append(_user_file(user, known))
                if user.home and user.home not in placed:
                    files.append(_home_file(user))
            except DiagnosticError as error:
                ctx.sink.extend(error.diagnostics)
        own = {file.path for file in image.files}
        merged = sorted((*image.files, *(f for f in files if f.path not in own)), key=lambda file: file.path)
        return records.evolve(image, users=users, groups=groups, files=tuple(merged))


def _unique(accounts: Iterable[AccountT]) -> tuple[AccountT, ...]:
    """By name, the first of each; validate has seen to it that the others are equal."""
    first: dict[str, AccountT] = {}
    for account in accounts:
        first.setdefault(account.name, account)
    return tuple(first[name] for name in sorted(first))


def _group_file(group: Group) -> File:
    cause = group.cause or f"lower-users: group '{group.name}'"
    text = f"g {group.name} {_number(group.gid, group)}\n"
    path = f"{SYSUSERS_FOLDER}/10-group-{group.name}.conf"
    return File(span=group.span, cause=cause, path=path, content=Blob.of_text(text))


def _user_file(user: User, groups: set[str]) -> File:
    """``u`` names the primary group, which must exist; ``m`` makes the others where no one else does."""
    primary = user.group or user.name
    lines = [f"g {primary} -"] if primary not in groups else []
    if user.name not in STATIC_USERS:
        fields = (
            sysusers_field(user.description, span=user.span) if user.description else "-",
            sysusers_field(user.home, span=user.span) if user.home else "-",
            sysusers_field(user.shell, span=user.span) if user.shell else "-",
        )
        lines.append(f"u {user.name} {_number(user.uid, user)}:{primary} {' '.join(fields)}")
    lines += (f"m {user.name} {group}" for group in sorted(set(user.groups) - {primary}))
    text = "".join(f"{line}\n" for line in lines)
    path = f"{SYSUSERS_FOLDER}/20-user-{user.name}.conf"
    cause = user.cause or f"lower-users: user '{user.name}'"
    return File(span=user.span, cause=cause, path=path, content=Blob.of_text(text))


def _home_file(user: User) -> File:
    """Private to its user; made at each boot too, since a home may be on a volume that is empty at first."""
    home = tmpfiles_path(user.home, span=user.span)
    text = f"d {home} 0700 {user.name} {user.group or user.name} -\n"
    path = f"{TMPFILES_FOLDER}/20-home-{user.name}.conf"
    cause = user.cause or f"lower-users: home of user '{user.name}'"
    return File(span=user.span, cause=cause, path=path, content=Blob.of_text(text))


def _number(number: int | None, node: User | Group) -> int:
    if number is None:
        raise DiagnosticError.of(Code.E_INTERNAL, f"'{node.name}' has no id: assign-ids has not run", node.span)
    return number
