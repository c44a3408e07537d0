"""A YAML document as nodes with their places: composed here from ruamel.yaml's events, within limits.

YAML 1.2's core schema decides what a plain scalar is (YAML 1.2.2, section 10.3): ``no`` and ``on`` are text, ``0o644``
is an octal number. Tags, several documents and keys that repeat are refused; aliases are copies, and their number and
the depth of nesting are bounded, so that a small file cannot become a large recipe.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError, Note, SourceSpan

DEPTH_LIMIT = 48
NODE_LIMIT = 500_000
"""Nodes of a document once its aliases are expanded."""

_INTEGER_DIGITS = 40

_SYNTAX_FIXES = (
    (r"'\t' that cannot start", "indent with spaces: YAML takes no tabs there"),
    ("mapping values are not allowed", "put text that holds ': ' into quotes, or correct the indentation"),
    ("expected <block end>", "begin the line in the column of its neighbours; inside of '…' a quote is written twice"),
    ("could not find expected ':'", "write `key: value`, or '- ' with its blank before an item"),
    ("unexpected end of stream", "close the quote"),
    ("'<stream end>'", "close the bracket"),
)
"""What ruamel.yaml says is wrong, and what is then mostly meant."""


@records.frozen
class Scalar:
    """Text, a number, a boolean or nothing; ``text`` is as written."""

    value: str | int | float | bool | None
    text: str
    span: SourceSpan


@records.frozen
class Sequence:
    """A list; ``size`` counts all nodes below, itself included."""

    items: tuple[Node, ...]
    span: SourceSpan
    size: int


@records.frozen
class Mapping:
    """A mapping with text keys, in the document's order."""

    entries: tuple[tuple[Scalar, Node], ...]
    span: SourceSpan
    size: int


Node = Scalar | Sequence | Mapping


def parse_document(text: str, file: str) -> Node | None:
    """The one document of a YAML text, or None when it is empty.

    Raises E_SYNTAX for malformed text, E_KEY for a repeated key, E_LIMIT for one that is too deep or too large.
    """
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    try:
        return _Composer(YAML(typ="safe", pure=True).parse(text), file).document()
    except MarkedYAMLError as error:
        fix = next((fix for part, fix in _SYNTAX_FIXES if part in (error.problem or "")), "")
        raise DiagnosticError.of(Code.E_SYNTAX, _sentence(error), _error_span(error, file), fix=fix) from error
    except YAMLError as error:
        span = SourceSpan(file=file, line=1, column=1)
        position = getattr(error, "position", None)
        if isinstance(position, int):
            span = _offset_span(text, position, file)
        raise DiagnosticError.of(Code.E_SYNTAX, f"malformed YAML: {getattr(error, 'reason', error)}", span) from error


def to_python(node: Node) -> Any:
    """The node as plain Python data."""
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return [to_python(item) for item in node.items]
        case Mapping():
            return {str(key.value): to_python(value) for key, value in node.entries}


class _Composer:
    """Reads events into nodes; one per document."""

    def __init__(self, events: Iterator[Any], file: str) -> None:
        self._events = events
        self._file = file
        self._anchors: dict[str, Node] = {}
        self._size = 0

    def document(self) -> Node | None:
        """The first document; raises E_SYNTAX when there is a second."""
        found: Node | None = None
        documents = 0
        for event in self._events:
            kind = type(event).__name__
            if kind == "DocumentStartEvent":
                documents += 1
                if documents > 1:
                    raise self._error(Code.E_SYNTAX, "a recipe is one YAML document; here a second one begins", event)
                found = self._node(next(self._events), 0)
        if isinstance(found, Scalar) and found.value is None:
            return None
        return found

    def _node(self, event: Any, depth: int) -> Node:
        if depth > DEPTH_LIMIT:
            raise self._error(Code.E_LIMIT, f"the recipe is nested more than {DEPTH_LIMIT} levels deep", event)
        kind = type(event).__name__
        if kind == "AliasEvent":
            return self._alias(event)
        if event.ctag is not None and str(event.ctag) not in {"", "!"}:
            message = f"the tag '{event.ctag}' is not allowed: a recipe has plain values only"
            raise self._error(Code.E_SYNTAX, message, event)
        self._grow(1, event)
        node: Node
        if kind == "ScalarEvent":
            node = self._scalar(event)
        elif kind == "SequenceStartEvent":
            node = self._sequence(event, depth)
        else:
            node = self._mapping(event, depth)
        if event.anchor is not None:
            self._anchors[event.anchor] = node
        return node

    def _alias(self, event: Any) -> Node:
        target = self._anchors.get(event.anchor)
        if target is None:
            raise self._error(Code.E_SYNTAX, f"the alias '*{event.anchor}' names no anchor before it", event)
        self._grow(1 if isinstance(target, Scalar) else target.size, event)
        return target

    def _grow(self, nodes: int, event: Any) -> None:
        self._size += nodes
        if self._size > NODE_LIMIT:
            message = f"the recipe has more than {NODE_LIMIT} values once its aliases are expanded"
            raise self._error(Code.E_LIMIT, message, event)

    def _scalar(self, event: Any) -> Scalar:
        span = self._span(event)
        if event.style is not None or (event.ctag is not None and str(event.ctag) == "!"):
            return Scalar(event.value, event.value, span)
        return Scalar(resolve_plain(event.value, span), event.value, span)

    def _sequence(self, event: Any, depth: int) -> Sequence:
        items: list[Node] = []
        while type(following := next(self._events)).__name__ != "SequenceEndEvent":
            items.append(self._node(following, depth + 1))
        return Sequence(tuple(items), self._span(event), _total(items))

    def _mapping(self, event: Any, depth: int) -> Mapping:
        entries: list[tuple[Scalar, Node]] = []
        seen: dict[str, Scalar] = {}
        while type(following := next(self._events)).__name__ != "MappingEndEvent":
            key = self._key(following, depth)
            if (first := seen.setdefault(key.text, key)) is not key:
                raise DiagnosticError.of(
                    Code.E_KEY,
                    f"the key '{key.text}' is given twice",
                    key.span,
                    notes=(Note(message="it is given here already", span=first.span),),
                    fix="merge the two",
                )
            entries.append((key, self._node(next(self._events), depth + 1)))
        return Mapping(tuple(entries), self._span(event), _total(value for _key, value in entries) + len(entries))

    def _key(self, event: Any, depth: int) -> Scalar:
        key = self._node(event, depth + 1)
        if not isinstance(key, Scalar) or not isinstance(key.value, str):
            what = f"'{key.text}'" if isinstance(key, Scalar) else "a list or mapping"
            raise self._error(Code.E_TYPE, f"a key must be text, not {what}", event, fix="put it into quotes")
        return key

    def _span(self, event: Any) -> SourceSpan:
        return SourceSpan(file=self._file, line=event.start_mark.line + 1, column=event.start_mark.column + 1)

    def _error(self, code: Code, message: str, event: Any, fix: str = "") -> DiagnosticError:
        return DiagnosticError.of(code, message, self._span(event), fix=fix)


_INTEGER = re.compile(r"[-+]?[0-9]+|0o[0-7]+|0x[0-9a-fA-F]+")
_FLOAT = re.compile(
    r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN)"
)
_WORDS: dict[str, bool | None] = {
    **dict.fromkeys(("", "~", "null", "Null", "NULL")),
    **dict.fromkeys(("true", "True", "TRUE"), True),
    **dict.fromkeys(("false", "False", "FALSE"), False),
}


def resolve_plain(text: str, span: SourceSpan) -> str | int | float | bool | None:
    """What a scalar without quotes means; raises E_LIMIT for an integer of more than 40 digits.

    >>> resolve_plain("0o644", SourceSpan()), resolve_plain("no", SourceSpan())
    (420, 'no')
    """
    if text in _WORDS:
        return _WORDS[text]
    if _INTEGER.fullmatch(text):
        if len(text) > _INTEGER_DIGITS:
            raise DiagnosticError.of(Code.E_LIMIT, f"the number has more than {_INTEGER_DIGITS} digits", span)
        return int(text, 0) if text.startswith(("0o", "0x")) else int(text)
    if _FLOAT.fullmatch(text):
        return float(
            text.replace(".inf", "inf").replace(".Inf", "inf").replace(".INF", "inf").lower().replace(".nan", "nan")
        )
    return text


def _total(nodes: Any) -> int:
    return 1 + sum(1 if isinstance(node, Scalar) else node.size for node in nodes)


def _error_span(error: Any, file: str) -> SourceSpan:
    mark = error.problem_mark or error.context_mark
    if mark is None:
        return SourceSpan(file=file, line=1, column=1)
    return SourceSpan(file=file, line=mark.line + 1, column=mark.column + 1)


def _sentence(error: Any) -> str:
    parts = [part for part in (error.context, error.problem) if part]
    return "malformed YAML: " + ", ".join(parts)


def _offset_span(text: str, offset: int, file: str) -> SourceSpan:
    line = text.count("\n", 0, offset) + 1
    return SourceSpan(file=file, line=line, column=offset - (text.rfind("\n", 0, offset) + 1) + 1)
