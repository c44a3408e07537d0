"""SecretReference: a secret as a recipe holds it. It has a name and no value, and it never becomes text.

Whatever would turn it into text (``str``, an f-string, ``+``, ``%``, ``join``) raises E_SECRET with the lines on which
it went from its declaration to there; so does what Python itself refuses it for (:func:`misused`). It is consumed by
``image.service(secrets=[…])`` and by its own targets.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import FrameType, TracebackType
from typing import NoReturn

from tdxc.diagnostics import Code, Diagnostic, DiagnosticError, Note, SourceSpan

from tdx._callsite import frame_span, is_internal
from tdx._session import active_session

FIX = "name it in service(secrets=[…]), or give it a target: SecretTarget.file(…) or SecretTarget.env(…)"


class SecretLeakError(DiagnosticError, RecursionError):
    """A secret would become text.

    It passes for a RecursionError as those are the only ones that handlers of :mod:`logging` let through: they would
    print a traceback of any other one, and the recipe would go on (CPython, ``logging.StreamHandler.emit``).
    """


class SecretReference:
    """A secret by name; ``span`` is where the recipe declares it."""

    __slots__ = ("name", "span")

    def __init__(self, name: str, span: SourceSpan) -> None:
        self.name = name
        self.span = span

    def __repr__(self) -> str:
        return f"<secret {self.name!r}>"

    def __str__(self) -> str:
        raise self._leak("turned into text")

    def __format__(self, spec: str) -> str:
        raise self._leak("formatted into text")

    def __add__(self, other: object) -> NoReturn:
        raise self._leak("joined to text")

    __radd__ = __mod__ = __rmod__ = __add__

    def __bytes__(self) -> bytes:
        raise self._leak("turned into bytes")

    def __fspath__(self) -> str:
        raise self._leak("used as a path")

    def __iter__(self) -> NoReturn:
        raise self._leak("read character by character")

    def __len__(self) -> int:
        raise self._leak("measured")

    def __bool__(self) -> bool:
        return True

    def notes(self) -> tuple[Note, ...]:
        """Where it comes from."""
        return (Note(message=f"the secret '{self.name}' is declared here", span=self.span),)

    def _leak(self, what: str) -> SecretLeakError:
        message = f"the secret '{self.name}' is {what}, and text of a recipe ends up where everybody can read it"
        first, *rest = _places() or [SourceSpan()]
        way = tuple(Note(message="it came here by this call", span=span) for span in rest)
        notes = (*way, *self.notes())
        return SecretLeakError([Diagnostic(code=Code.E_SECRET, message=message, span=first, notes=notes, fix=FIX)])


def misused(error: BaseException) -> tuple[SecretReference, ...] | None:
    """The secrets that may be meant by what Python says of one that is used as a value; None for any other error.

    Joining, indexing or serialising one ends in a TypeError of Python's own, which names the type and not the secret.
    """
    if not isinstance(error, (TypeError, AttributeError)) or SecretReference.__name__ not in str(error):
        return None
    trace, found = error.__traceback__, dict[int, SecretReference]()
    while trace is not None:
        found = {id(secret): secret for secret in _held(trace)} or found
        trace = trace.tb_next
    return tuple(found.values())


def _held(trace: TracebackType) -> Iterator[SecretReference]:
    """The secrets among a frame's variables, and in the lists and mappings among these."""
    for value in list(trace.tb_frame.f_locals.values()):
        items = value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else (value,)
        yield from (item for item in items if isinstance(item, SecretReference))


def _places() -> list[SourceSpan]:
    """The recipe's lines that led to the use, innermost first."""
    session = active_session()
    root = session.root if session else None
    frame: FrameType | None = sys._getframe(2)  # noqa: SLF001 - the only way to a caller's position
    places: list[SourceSpan] = []
    while frame is not None:
        filename = frame.f_code.co_filename
        if not is_internal(filename):
            if filename.startswith(str(root or "")) and not filename.startswith("<"):
                places.append(frame_span(frame, root))
            if frame.f_code.co_name == "<module>":
                break
        frame = frame.f_back
    return places
