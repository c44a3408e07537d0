"""Running a lark grammar and turning its failures into sentences.

lark takes tens of milliseconds to import, so it is imported on first use and each grammar is built once.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from tdxc import records

if TYPE_CHECKING:
    from lark import Lark, Token, Tree
    from lark.exceptions import UnexpectedInput

QUOTED_CHARACTERS = 80
"""How much of a faulty text an error message repeats."""


class SyntaxFault(Exception):  # noqa: N818 - a value that callers turn into a diagnostic, not an error of its own
    """Text outside of a grammar: 1-based ``line`` and ``column``, what stands there, what was expected (in words)."""

    def __init__(self, *, line: int, column: int, found: str, expected: tuple[str, ...]) -> None:
        self.line = line
        self.column = column
        self.found = found
        self.expected = expected
        super().__init__(f"found {found}, expected {one_of(expected)}" if expected else found)


@records.frozen(kw_only=True)
class Grammar:
    """A lark grammar: its files beside this module, and its terminals in words, in the order of messages."""

    files: tuple[str, ...]
    words: Mapping[str, tuple[str, ...]] = records.field(eq=False)

    def parse(self, text: str) -> Tree[Token]:
        """The syntax tree of ``text``; raises SyntaxFault at the first character that does not fit."""
        from lark.exceptions import UnexpectedInput

        try:
            return _parser(self.files).parse(text)
        except UnexpectedInput as error:
            raise _fault(error, text, self.words) from error


@functools.cache
def _parser(files: tuple[str, ...]) -> Lark:
    from lark import Lark

    source = "\n".join((Path(__file__).parent / name).read_text(encoding="utf-8") for name in files)
    return Lark(source, parser="lalr", lexer="contextual", propagate_positions=True, maybe_placeholders=False)


def _fault(error: UnexpectedInput, text: str, words: Mapping[str, tuple[str, ...]]) -> SyntaxFault:
    from lark.exceptions import UnexpectedCharacters, UnexpectedToken

    names: set[str] = set()
    line, column = error.line, error.column
    if isinstance(error, UnexpectedCharacters):
        names = set(error.allowed)
    elif isinstance(error, UnexpectedToken):
        names = {str(name) for name in error.accepts}
        if error.token.type == "$END":
            line, column = text.count("\n") + 1, len(text) - text.rfind("\n")
    found = _word_at(text, line, column)
    if "<END-OF-FILE>" in names:
        names.add("$END")
    expected = tuple(word for name, spelled in words.items() if name in names for word in spelled)
    return SyntaxFault(line=line, column=column, found=found, expected=expected)


def _word_at(text: str, line: int, column: int) -> str:
    """The word that starts there, quoted; or the one character where that is white space; or "the end"."""
    rest = text.split("\n")[line - 1][column - 1 :]
    if not rest:
        return "the end of the line" if line <= text.count("\n") else "the end"
    return quote(rest[:1] if rest[0].isspace() else rest.split(maxsplit=1)[0])


def one_of(words: Iterable[str]) -> str:
    """``a``, ``a or b``, ``a, b or c``."""
    listed = list(words)
    return " or ".join([", ".join(listed[:-1]), listed[-1]]) if len(listed) > 1 else "".join(listed)


def quote(text: str) -> str:
    """The text in single quotes on one line, cut when long, control characters escaped."""
    cut = text if len(text) <= QUOTED_CHARACTERS else text[: QUOTED_CHARACTERS - 1] + "…"
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in cut)
    return f"'{printable}'"
