"""What a recipe says of a secret: what its value must look like (SecretSchema) and where it may go (SecretTarget).

A recipe never holds a secret's value. ``SecretDelivery.secret(...)`` gives a reference to it, which only targets and
``image.service(secrets=[...])`` may consume.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import DEFAULT_MAX_LENGTH
from tdxc.ir import SecretTarget as TargetNode

from tdx import _values as v
from tdx._declare import describes, here
from tdx._kinds import Constraint, Problem

Kind = Literal["string", "int", "json", "pem", "base64"]

_RESERVED = ("PATH", "NOTIFY_SOCKET", "CREDENTIALS_DIRECTORY")
_RESERVED_PREFIXES = ("LD_", "LISTEN_")
_LONGEST_VARIABLE = 128
_LARGEST_INTEGER = 2**63


def _pattern(value: str) -> Problem | None:
    from tdxc.grammar.re2 import PatternError, check_pattern

    try:
        check_pattern(value)
    except PatternError as fault:
        return Problem(Code.E_VALUE, f"{value!r} {fault} (character {fault.position + 1})", fault.fix)
    return None


def _length(value: int) -> Problem | None:
    return None if 0 <= value <= 1 << 20 else Problem(Code.E_VALUE, f"{value} is not between 0 and 1048576")


def _runtime_path(value: str) -> Problem | None:
    if not value.startswith("/run/"):
        message = f"'{value}' is not below /run, which is in memory: a secret is never written anywhere else"
        return Problem(Code.E_SECRET, message, f"write '/run/secrets/{value.rpartition('/')[2] or 'name'}'")
    if value == "/run/tdx-guest" or value.startswith("/run/tdx-guest/"):
        return Problem(Code.E_VALUE, f"'{value}' is in the folder of the guest's program", "write '/run/secrets/…'")
    return None


def _file_mode(value: int | str) -> Problem | None:
    if v.mode_bits(value) & ~0o660:
        text = f"{v.mode_bits(value):04o} lets others than the owner and the group at the secret"
        return Problem(Code.E_VALUE, text, "write 0o400 or 0o440")
    return None


def _variable(value: str) -> Problem | None:
    if value in _RESERVED or value.startswith(_RESERVED_PREFIXES):
        return Problem(Code.E_VALUE, f"'{value}' means something to systemd or to the loader", "give another name")
    if len(value) > _LONGEST_VARIABLE:
        return Problem(Code.E_VALUE, f"has {len(value)} characters; the limit is {_LONGEST_VARIABLE}")
    return None


def _scope(value: str) -> Problem | None:
    if "\\" in value:
        text = f"{value!r} has a backslash, and the scope becomes the name of a file of the guest's program"
        return Problem(Code.E_VALUE, text, "give the service a name without one, or the secret a file")
    return None


def _out_of_reach(values: tuple[str, ...], kind: str, min_length: int, max_length: int) -> str:
    """The first value of an enum that no secret can have under the other rules; empty when there is none."""
    for value in values:
        is_integer = re.fullmatch(r"-?[1-9][0-9]{0,18}|0", value) is not None
        if kind == "int" and not (is_integer and -_LARGEST_INTEGER <= int(value) < _LARGEST_INTEGER):
            return f"{value!r} is no integer of 64 bits in its decimal form"
        if not min_length <= len(value) <= max_length:
            return f"{value!r} has {len(value)} characters, and {min_length} to {max_length} are allowed"
    return ""


Pattern = Annotated[v.Line, Constraint(check=_pattern, noun="a regular expression in RE2's syntax")]
Length = Annotated[int, Constraint(check=_length, noun="a length", minimum=0, maximum=1 << 20)]
RuntimePath = Annotated[v.ProgramPath, Constraint(check=_runtime_path, noun="a path below /run", pattern="^/run/.")]
SecretMode = Annotated[v.Mode, Constraint(check=_file_mode, noun="a file mode without rights for others")]
Variable = Annotated[v.EnvironmentName, Constraint(check=_variable, noun="an environment variable name")]
Scope = Annotated[v.ServiceName, Constraint(check=_scope, noun="'global', or the name of a service")]


class SecretSchema:
    """What a secret's value must look like; the guest refuses every other value.

    Lengths count characters of text, bytes of JSON and of what base64 stands for. ``pattern`` is searched for, in RE2's
    syntax. ``enum`` lists all that is allowed.
    """

    __slots__ = ("enum", "kind", "max_length", "min_length", "pattern")

    @describes
    def __init__(
        self,
        kind: Kind = "string",
        *,
        min_length: Length = 0,
        max_length: Length = DEFAULT_MAX_LENGTH,
        pattern: Pattern = "",
        enum: v.Strings = (),
    ) -> None:
        if max_length < max(min_length, 1):
            message = f"SecretSchema(): max_length {max_length} is less than {max(min_length, 1)}"
            raise DiagnosticError.of(Code.E_VALUE, message, here())
        if pattern and kind not in {"string", "int", "pem"}:
            message = f"SecretSchema(): a secret of the kind '{kind}' has no pattern"
            raise DiagnosticError.of(Code.E_VALUE, message, here(), fix="leave pattern out, or use the kind 'string'")
        if enum and kind not in {"string", "int"}:
            message = f"SecretSchema(): a secret of the kind '{kind}' has no enum"
            raise DiagnosticError.of(Code.E_VALUE, message, here(), fix="leave enum out, or use the kind 'string'")
        if fault := _out_of_reach(tuple(enum), kind, min_length, max_length):
            message = f"SecretSchema(): {fault}, so no secret of the kind '{kind}' can be that"
            raise DiagnosticError.of(Code.E_VALUE, message, here(), fix="correct enum, or leave the value out")
        self.kind = kind
        self.min_length = min_length
        self.max_length = max_length
        self.pattern = pattern
        self.enum = tuple(enum)


class SecretTarget:
    """Where a secret goes; made by :meth:`file` and :meth:`env`."""

    __slots__ = ("node",)

    def __init__(self, node: TargetNode) -> None:
        self.node = node

    @classmethod
    @describes
    def file(
        cls, path: RuntimePath, *, mode: SecretMode = 0o400, owner: v.UserName = "root", group: v.UserName = "root"
    ) -> SecretTarget:
        """A file below /run, which is in the guest's memory."""
        node = TargetNode(kind="file", path=path, mode=v.mode_bits(mode), owner=owner, group=group, span=here())
        return cls(node)

    @classmethod
    @describes
    def env(cls, name: Variable, *, scope: Scope = "global") -> SecretTarget:
        """An environment variable of every service of the image (``global``), or of the service that is named."""
        scope = scope if scope == "global" else f"{scope.removesuffix('.service')}.service"
        return cls(TargetNode(kind="env", variable=name, scope=scope, span=here()))
