"""Kernel .config fragments: ``CONFIG_X=y``, ``# CONFIG_X is not set``, numbers, strings, comments.

Spellings that kconfig would skip without a word (``CONFIG_X = y``, ``#CONFIG_X is not set``) are errors here.
"""

from __future__ import annotations

import re

from tdxc import records
from tdxc.diagnostics import UNKNOWN_SPAN, Code, Diagnostic, DiagnosticError, Note, SourceSpan
from tdxc.grammar.syntax import Grammar, SyntaxFault, quote
from tdxc.ir import KconfigOption

OPTION_NAME = re.compile(r"[A-Za-z0-9_]+")
OPTION_VALUE = re.compile(r'[ymn]|-?[0-9]+|0[xX][0-9A-Fa-f]+|"(?:[^"\\\n\0]|\\[^\n\0])*"')

_GRAMMAR = Grammar(
    files=("kconfig.lark",),
    words={
        "NAME": ("'CONFIG_NAME=value'",),
        "EQUAL": ("'=' right after the name",),
        "TRISTATE": ("'y'", "'m'", "'n'"),
        "NUMBER": ("a number",),
        "STRING": ("a string in double quotes",),
        "UNSET": ("'# CONFIG_NAME is not set'",),
        "COMMENT": ("a comment",),
        "$END": ("the end of the line",),
    },
)
_FAULTS_SHOWN = 3

_PLAIN = re.compile(r"CONFIG_([A-Za-z0-9_]+)=([ymn]|-?[0-9]+)[ \t\r]*")
_UNSET = re.compile(r"# CONFIG_([A-Za-z0-9_]+) is not set[ \t\r]*")
_FALSE_UNSET = re.compile(r"\s*#\s*CONFIG_([A-Za-z0-9_]+)\s+is\s+not\s+set\b.*", re.IGNORECASE)


def parse_kconfig(text: str, span: SourceSpan = UNKNOWN_SPAN, *, file: str = "") -> tuple[KconfigOption, ...]:
    """The options of a fragment in its order, repetitions included.

    ``file`` names the fragment's own file: then spans point into it; otherwise they are ``span``, the recipe line
    that holds the text. Raises E_SYNTAX with the first bad lines: of a file that is something else, all are.
    """
    options: list[KconfigOption] = []
    faults: list[Diagnostic] = []
    for number, line in enumerate(text.split("\n"), start=1):
        at = SourceSpan(file=file, line=number, column=1) if file else span
        try:
            option = _line(line, at)
        except SyntaxFault as fault:
            faults.append(_diagnostic(line, number, fault, at, in_file=bool(file)))
        else:
            options += [option] if option else []
    if len(faults) > _FAULTS_SHOWN:
        more = Note(
            message=f"{len(faults) - _FAULTS_SHOWN} more lines are none either: is this a kernel configuration?"
        )
        faults = [*faults[: _FAULTS_SHOWN - 1], records.evolve(faults[_FAULTS_SHOWN - 1], notes=(more,))]
    if faults:
        raise DiagnosticError(faults)
    return tuple(options)


def print_option(option: KconfigOption) -> str:
    """The option's line in a .config, without a newline."""
    if option.value == "n":
        return f"# CONFIG_{option.name} is not set"
    return f"CONFIG_{option.name}={option.value}"


def check_option(option: KconfigOption) -> str:
    """What is wrong with an option that was not read from text, as a clause; empty when nothing is."""
    if not OPTION_NAME.fullmatch(option.name):
        return f"{quote(option.name)} is not the name of a kernel option (letters, digits and '_', without 'CONFIG_')"
    if not OPTION_VALUE.fullmatch(option.value):
        return f"{quote(option.value)} is not a value for CONFIG_{option.name}: y, m, n, a number, or a quoted string"
    return ""


def canonical_value(value: str) -> str:
    """One spelling for equal values: hexadecimal in lower case, no needless escapes in strings."""
    if value.startswith('"'):
        plain = re.sub(r"\\(.)", r"\1", value[1:-1], flags=re.DOTALL)
        return '"' + plain.replace("\\", "\\\\").replace('"', '\\"') + '"'
    return value.lower()


def _line(line: str, span: SourceSpan) -> KconfigOption | None:
    if not line or line.isspace():
        return None
    if match := _PLAIN.fullmatch(line):
        return KconfigOption(span=span, name=match[1], value=match[2])
    if match := _UNSET.fullmatch(line):
        return KconfigOption(span=span, name=match[1], value="n")
    if match := _FALSE_UNSET.fullmatch(line):
        raise SyntaxFault(line=1, column=1, found=f"{quote(line)} is only a comment to kconfig", expected=())
    if line.startswith("#"):
        return None
    children = _GRAMMAR.parse(line).children
    return _option([c for node in children if not isinstance(node, str) for c in node.children], span)


def _option(tokens: list[object], span: SourceSpan) -> KconfigOption | None:
    words = [str(token) for token in tokens]
    if len(words) < len(("name", "=", "value")):
        return None
    return KconfigOption(span=span, name=words[0].removeprefix("CONFIG_"), value=canonical_value(words[2]))


def _diagnostic(line: str, number: int, fault: SyntaxFault, at: SourceSpan, *, in_file: bool) -> Diagnostic:
    where = f"line {number}: " if not in_file else ""
    span = records.evolve(at, column=fault.column) if in_file else at
    fix = "write 'CONFIG_NAME=value' without spaces, or '# CONFIG_NAME is not set'"
    if match := _FALSE_UNSET.fullmatch(line):
        fix = f"write '# CONFIG_{match[1]} is not set', with single spaces"
    return Diagnostic(code=Code.E_SYNTAX, message=f"kernel fragment, {where}{fault}", span=span, fix=fix)
