"""INI files as mkosi and systemd read them: ordered sections, ordered entries, repeated keys kept.

mkosi (mkosi(1), "Configuration settings") treats ``#`` anywhere as a comment and continues a value on indented
lines; systemd (systemd.syntax(7)) knows comments as whole lines, begun by ``#`` or ``;``, and continues a value after
a backslash at the end of a line.
"""

from __future__ import annotations

import enum
import re
from typing import TYPE_CHECKING

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan
from tdxc.grammar.syntax import Grammar, SyntaxFault, quote

if TYPE_CHECKING:
    from lark import Token, Tree


class IniDialect(enum.StrEnum):
    """Whose rules apply."""

    MKOSI = "mkosi"
    SYSTEMD = "systemd"


@records.frozen(kw_only=True)
class IniEntry:
    """``key=value``. An mkosi value that spans lines keeps them, stripped; an empty value resets a list setting."""

    key: str
    value: str
    line: int = records.field(default=0, eq=False)


@records.frozen(kw_only=True)
class IniSection:
    """Entries under one ``[name]`` header; a name may repeat."""

    name: str
    entries: tuple[IniEntry, ...] = ()
    line: int = records.field(default=0, eq=False)


@records.frozen(kw_only=True)
class Ini:
    """A whole file, in its order."""

    sections: tuple[IniSection, ...] = ()

    def values(self, section: str, key: str) -> tuple[str, ...]:
        """All values of ``key`` in all sections of that name, in order."""
        return tuple(e.value for s in self.sections if s.name == section for e in s.entries if e.key == key)


_WORDS = {
    "OPEN": ("'[' of a section",),
    "NAME": ("a section name",),
    "CLOSE": ("']'",),
    "KEY": ("'Key=value'",),
    "EQUAL": ("'='",),
    "VALUE": ("a value",),
    "BREAK": ("a new line",),
    "$END": ("the end of the file",),
}
_GRAMMARS = {dialect: Grammar(files=("ini.lark", f"ini_{dialect.value}.lark"), words=_WORDS) for dialect in IniDialect}
_CONTINUATION = re.compile(r"\\\r?\n(?:[ \t]*[#;][^\n]*\n)*[ \t]*")


def parse_ini(text: str, dialect: IniDialect, *, file: str = "") -> Ini:
    """Parse a file's text. Raises E_SYNTAX at ``file:line:col``."""
    try:
        tree = _GRAMMARS[dialect].parse(text)
    except SyntaxFault as fault:
        raise DiagnosticError.of(
            Code.E_SYNTAX,
            str(fault),
            SourceSpan(file=file, line=fault.line, column=fault.column),
            fix="an INI file holds '[Section]' headers and 'Key=value' lines below them",
        ) from fault
    return Ini(sections=tuple(_section(node, dialect) for node in tree.children if not isinstance(node, str)))


def _section(tree: Tree[Token], dialect: IniDialect) -> IniSection:
    name = next(t for t in tree.children if isinstance(t, str) and t.type == "NAME")
    entries = tuple(_entry(node, dialect) for node in tree.children if not isinstance(node, str))
    return IniSection(name=str(name).strip(), entries=entries, line=name.line or 0)


def _entry(tree: Tree[Token], dialect: IniDialect) -> IniEntry:
    tokens = {t.type: t for t in tree.children if isinstance(t, str)}
    raw = str(tokens.get("VALUE", ""))
    value = _mkosi_value(raw) if dialect is IniDialect.MKOSI else _systemd_value(raw)
    return IniEntry(key=str(tokens["KEY"]).strip(), value=value, line=tokens["KEY"].line or 0)


def _mkosi_value(raw: str) -> str:
    lines = [line.partition("#")[0].strip() for line in raw.split("\n")]
    first, rest = lines[0], [line for line in lines[1:] if line]
    return "\n".join([first, *rest])


def _systemd_value(raw: str) -> str:
    return _CONTINUATION.sub(" ", raw).strip()


def describe(entry: IniEntry) -> str:
    """``Key=value`` on one line, for messages."""
    return quote(f"{entry.key}={entry.value}")
