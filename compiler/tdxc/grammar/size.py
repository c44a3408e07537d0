"""Sizes: ``2G``, ``512M``, ``1GiB`` or an exact number of bytes. Units are powers of 1024; ``GB`` is refused."""

from __future__ import annotations

import re

from tdxc.diagnostics import UNKNOWN_SPAN, Code, DiagnosticError, SourceSpan
from tdxc.grammar.syntax import Grammar, SyntaxFault, quote

LARGEST_BYTES = 2**63 - 1
"""Sizes of files and block devices are signed 64-bit in Linux (off_t)."""

_SHIFTS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40}
_GRAMMAR = Grammar(
    files=("size.lark",),
    words={
        "NUMBER": ("a whole number",),
        "UNIT": ("a unit (B, K, M, G, T, KiB, MiB, GiB or TiB)",),
        "$END": ("the end",),
    },
)
_PLAIN = re.compile(r"([0-9]+)([KMGT]?)")


def parse_size(text: str, span: SourceSpan = UNKNOWN_SPAN) -> int:
    """The size in bytes. Raises E_SYNTAX for another form, E_VALUE for zero or more than 8 EiB."""
    match = _PLAIN.fullmatch(text)
    number, unit = match.groups() if match else _parsed(text, span)
    if len(number.lstrip("0")) > len(str(LARGEST_BYTES)):
        raise _out_of_range(text, span)
    size_bytes = int(number) << _SHIFTS[unit[:1].lower()]
    if not 0 < size_bytes <= LARGEST_BYTES:
        raise _out_of_range(text, span)
    return size_bytes


def format_size(size_bytes: int) -> str:
    """The shortest exact spelling with one of the units; parsing it gives the same number."""
    for unit in "TGMK":
        if size_bytes and size_bytes % (1 << _SHIFTS[unit.lower()]) == 0:
            return f"{size_bytes >> _SHIFTS[unit.lower()]}{unit}"
    return str(size_bytes)


def _parsed(text: str, span: SourceSpan) -> tuple[str, str]:
    try:
        number, *unit = (str(token) for token in _GRAMMAR.parse(text).children)
    except SyntaxFault as fault:
        raise DiagnosticError.of(
            Code.E_SYNTAX,
            f"size {quote(text)}: column {fault.column}: {fault}",
            span,
            fix="write a whole number with a unit of 1024: 512M, 2G, or exact bytes",
        ) from fault
    return number, "".join(unit)


def _out_of_range(text: str, span: SourceSpan) -> DiagnosticError:
    return DiagnosticError.of(Code.E_VALUE, f"size {quote(text)} is not between 1 byte and 8 EiB", span)
