"""Diagnostics: what the tool says to its user when something is wrong, as data.

A :class:`Diagnostic` carries a frozen code, one plain sentence, the place in the recipe, notes on why, and a concrete
fix. Libraries raise :class:`DiagnosticError`; only ``tdxc.cli`` renders them and turns their codes into an exit status.

Example::

    raise DiagnosticError.of(Code.E_PATH, "destination 'etc/motd' is not absolute", span, fix="write '/etc/motd'")
"""

from __future__ import annotations

import enum
from collections.abc import Iterable

from tdxc import records


class Severity(enum.StrEnum):
    """How bad a diagnostic is; only errors stop the tool."""

    ERROR = "error"
    WARNING = "warning"


class Code(enum.StrEnum):
    """The frozen catalogue of codes; ``tdxc explain CODE`` prints each one's long form (``diagnostic_texts.py``)."""

    E_RECIPE = "E_RECIPE"
    E_SYNTAX = "E_SYNTAX"
    E_ENCODING = "E_ENCODING"
    E_KEY = "E_KEY"
    E_TYPE = "E_TYPE"
    E_VALUE = "E_VALUE"
    E_LIMIT = "E_LIMIT"
    E_PATH = "E_PATH"
    E_TEMPLATE = "E_TEMPLATE"
    E_REFERENCE = "E_REFERENCE"
    E_CONFLICT = "E_CONFLICT"
    E_CYCLE = "E_CYCLE"
    E_MODULE = "E_MODULE"
    E_SECRET = "E_SECRET"  # noqa: S105 - a code, no password
    E_KCONFIG = "E_KCONFIG"
    E_EMIT = "E_EMIT"
    E_UNSUPPORTED = "E_UNSUPPORTED"
    E_OUTPUT = "E_OUTPUT"
    E_TREE_MODIFIED = "E_TREE_MODIFIED"
    E_LOCKFILE = "E_LOCKFILE"
    E_POLICY = "E_POLICY"
    E_DEPLOYMENT = "E_DEPLOYMENT"
    E_FIRMWARE = "E_FIRMWARE"
    E_ARTIFACT = "E_ARTIFACT"
    E_EVENTLOG = "E_EVENTLOG"
    E_QUOTE = "E_QUOTE"
    E_MEASUREMENT = "E_MEASUREMENT"
    E_VERIFY = "E_VERIFY"
    E_BUILD = "E_BUILD"
    E_BACKEND_UNAVAILABLE = "E_BACKEND_UNAVAILABLE"
    E_BACKEND_EXECUTION = "E_BACKEND_EXECUTION"
    E_INTERNAL = "E_INTERNAL"
    E_USAGE = "E_USAGE"
    W_UNKNOWN_UNIT = "W_UNKNOWN_UNIT"
    W_UNKNOWN_DIRECTIVE = "W_UNKNOWN_DIRECTIVE"
    W_BOOT_ORDER = "W_BOOT_ORDER"
    W_MEASUREMENT = "W_MEASUREMENT"
    W_FIRMWARE = "W_FIRMWARE"
    W_MUTABLE_REF = "W_MUTABLE_REF"
    W_UNMEASURED = "W_UNMEASURED"
    W_DEVELOPMENT = "W_DEVELOPMENT"
    W_OVERRIDE = "W_OVERRIDE"
    W_CACHE = "W_CACHE"

    @property
    def severity(self) -> Severity:
        """Errors are spelled ``E_``, warnings ``W_``."""
        return Severity.WARNING if self.value.startswith("W_") else Severity.ERROR

    @property
    def exit_status(self) -> int:
        """The exit status that this code asks for: 1 recipe or input, 2 usage, 3 environment, 4 failed check."""
        if self.severity is Severity.WARNING:
            return 0
        return _EXIT_STATUS.get(self, 1)


_EXIT_STATUS = {
    Code.E_USAGE: 2,
    Code.E_BACKEND_UNAVAILABLE: 3,
    Code.E_BACKEND_EXECUTION: 3,
    Code.E_OUTPUT: 3,
    Code.E_LOCKFILE: 4,
    Code.E_POLICY: 4,
    Code.E_VERIFY: 4,
    Code.E_INTERNAL: 70,
}


@records.frozen(kw_only=True, order=True)
class SourceSpan:
    """A place in a recipe: file relative to the recipe's folder (POSIX), 1-based line and column; 0 means unknown."""

    file: str = ""
    line: int = 0
    column: int = 0

    def __str__(self) -> str:
        if not self.line:
            return self.file
        return f"{self.file}:{self.line}:{self.column}"


UNKNOWN_SPAN = SourceSpan()


@records.frozen(kw_only=True)
class Note:
    """A further sentence about a diagnostic, with the place it speaks of where there is one."""

    message: str
    span: SourceSpan = UNKNOWN_SPAN


@records.frozen(kw_only=True)
class Diagnostic:
    """One finding: what is wrong (``message``), where (``span``), why (``notes``) and what to do (``fix``)."""

    code: Code
    message: str
    span: SourceSpan = UNKNOWN_SPAN
    notes: tuple[Note, ...] = ()
    fix: str = ""

    @property
    def severity(self) -> Severity:
        """Error or warning, by the code."""
        return self.code.severity

    @property
    def sort_key(self) -> tuple[SourceSpan, str, str]:
        """Source order first, so that all faults are read from top to bottom."""
        return (self.span, self.code.value, self.message)


class DiagnosticError(Exception):
    """Carries one or more diagnostics out of a library; at least one of them is an error."""

    def __init__(self, diagnostics: Iterable[Diagnostic]) -> None:
        self.diagnostics = tuple(diagnostics)
        super().__init__("; ".join(d.message for d in self.diagnostics))

    @classmethod
    def of(
        cls,
        code: Code,
        message: str,
        span: SourceSpan = UNKNOWN_SPAN,
        *,
        fix: str = "",
        notes: tuple[Note, ...] = (),
    ) -> DiagnosticError:
        """The common case: an error made of a single diagnostic."""
        return cls((Diagnostic(code=code, message=message, span=span, fix=fix, notes=notes),))

    @property
    def exit_status(self) -> int:
        """The status of the gravest code: the first error in source order decides."""
        errors = sorted((d for d in self.diagnostics if d.severity is Severity.ERROR), key=lambda d: d.sort_key)
        return errors[0].code.exit_status if errors else 1


class DiagnosticSink:
    """Collects diagnostics while a stage goes on, so that all faults are reported at once and in source order."""

    def __init__(self) -> None:
        self._found: list[Diagnostic] = []

    def add(
        self,
        code: Code,
        message: str,
        span: SourceSpan = UNKNOWN_SPAN,
        *,
        fix: str = "",
        notes: tuple[Note, ...] = (),
    ) -> None:
        """Record one diagnostic."""
        self._found.append(Diagnostic(code=code, message=message, span=span, fix=fix, notes=notes))

    def extend(self, diagnostics: Iterable[Diagnostic]) -> None:
        """Record many."""
        self._found.extend(diagnostics)

    @property
    def diagnostics(self) -> tuple[Diagnostic, ...]:
        """All that was found, without duplicates, in source order."""
        return tuple(sorted(dict.fromkeys(self._found), key=lambda d: d.sort_key))

    @property
    def has_errors(self) -> bool:
        """Whether anything found stops the tool."""
        return any(d.severity is Severity.ERROR for d in self._found)

    def raise_if_errors(self) -> None:
        """Raise everything found so far when at least one finding is an error."""
        if self.has_errors:
            raise DiagnosticError(self.diagnostics)


def nearest(name: str, candidates: Iterable[str], *, cutoff: float = 0.6) -> str:
    """The candidate closest to ``name`` for a "did you mean" note, or an empty string when none is close.

    ``cutoff`` is how alike they must be at least, from 0 to 1 (difflib's ratio).
    """
    import difflib

    matches = difflib.get_close_matches(name, list(candidates), n=1, cutoff=cutoff)
    return matches[0] if matches else ""
