"""SecretReference: a secret as a recipe holds it. It has a name and no value, and it never becomes text.

Whatever would turn it into text (``str``, an f-string, ``+``, ``%``, ``join``) raises E_SECRET with the lines on which
it went from its declaration to there. It is consumed by ``image.service(secrets=[…])`` and by its own targets.
"""

from __future__ import annotations

import sys
from types import FrameType
from typing import NoReturn

from tdxc.diagnostics import Code, DiagnosticError, Note, SourceSpan

from tdx._callsite import frame_span, is_internal
from tdx._session import active_session

FIX = "name it in service(secrets=[…]), or give it a target: SecretTarget.file(…) or SecretTarget.env(…)"


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

    def _leak(self, what: str) -> DiagnosticError:
        message = f"the secret '{self.name}' is {what}, and text of a recipe ends up where everybody can read it"
        first, *rest = _places() or [SourceSpan()]
        way = tuple(Note(message="it came here by this call", span=span) for span in rest)
        return DiagnosticError.of(Code.E_SECRET, message, first, fix=FIX, notes=(*way, *self.notes()))


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
