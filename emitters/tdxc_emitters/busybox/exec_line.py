"""systemd command lines as POSIX shell (systemd.service(5), "Command lines"; systemd.syntax(7), "Quoting").

::

    -/usr/bin/app "a b" ${HOME}/x $ARGS 100%%   ->   /usr/bin/app 'a b' "${HOME-}"/x ${ARGS-} 100%
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from tdxc import quoting, records
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

_ESCAPES = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v", "\\": "\\", '"': '"', "'": "'",
    "s": " ",
}  # fmt: skip
_HEX_LENGTHS = {"x": 2, "u": 4, "U": 8}


@records.frozen(kw_only=True)
class Command:
    """One command: ``words`` in shell syntax, and whether its failure is to be ignored."""

    words: tuple[str, ...]
    ignores_failure: bool = False

    @property
    def shell(self) -> str:
        """The command as shell text. It relies on ``set -f``: a variable that is split must not match files."""
        return " ".join(self.words)


def parse_exec_line(text: str, span: SourceSpan) -> Command:
    """Read one ``Exec*=`` value; raises E_EMIT for what a shell without systemd cannot mean."""
    ignores, expands = False, True
    while text[:1] in {"-", ":", "@", "+", "!", "|"}:
        if text[0] not in {"-", ":"}:
            raise _refusal(f"the prefix '{text[0]}' of a command", span)
        ignores = ignores or text[0] == "-"
        expands = expands and text[0] != ":"
        text = text[1:]
    words = list(split_words(text, span))
    if not words:
        raise _refusal("an empty command", span)
    if any(word == ";" and not quoted for word, quoted in words):
        raise _refusal("several commands in one line", span)
    plain = [_without_specifiers(word, span) for word, _ in words]
    shell = [quoting.shell_word(plain[0], span=span)]
    shell += (_expanded(word, span) if expands else quoting.shell_word(word, span=span) for word in plain[1:])
    return Command(words=tuple(shell), ignores_failure=ignores)


def split_words(text: str, span: SourceSpan) -> Iterator[tuple[str, bool]]:
    """Words with quotes and C escapes undone, and whether any part of them was quoted or escaped."""
    position = 0
    while position < len(text):
        if text[position] in " \t":
            position += 1
            continue
        if re.match(r"\\;(?:[ \t]|$)", text[position:]):  # an escape only as a word of its own
            yield ";", True
            position += 2
            continue
        word, quoted, quote = "", False, ""
        while position < len(text) and (quote or text[position] not in " \t"):
            character = text[position]
            if character == "\\":
                piece, position = _escape(text, position + 1, span)
                word, quoted = word + piece, True
                continue
            if character == quote:
                quote = ""
            elif character in "\"'" and not quote:
                quote, quoted = character, True
            else:
                word += character
            position += 1
        if quote:
            raise _refusal("a command with an open quote", span)
        yield word, quoted


def _escape(text: str, position: int, span: SourceSpan) -> tuple[str, int]:
    """The character that the escape at ``position`` (behind the backslash) stands for, and where to go on."""
    letter = text[position : position + 1]
    if letter in _ESCAPES and letter:
        return _ESCAPES[letter], position + 1
    if letter in _HEX_LENGTHS and letter:
        digits = text[position + 1 : position + 1 + _HEX_LENGTHS[letter]]
        if re.fullmatch(r"[0-9A-Fa-f]+", digits) and len(digits) == _HEX_LENGTHS[letter] and int(digits, 16):
            return chr(int(digits, 16)), position + 1 + len(digits)
    if re.fullmatch(r"[0-3][0-7]{2}", text[position : position + 3]) and int(text[position : position + 3], 8):
        return chr(int(text[position : position + 3], 8)), position + 3
    raise _refusal(f"the escape '\\{letter}'", span)


def _without_specifiers(word: str, span: SourceSpan) -> str:
    found = re.search(r"%(?!%)(.)", word.replace("%%", ""))
    if found:
        raise _refusal(f"the specifier '%{found.group(1)}'", span)
    return word.replace("%%", "%")


def _expanded(word: str, span: SourceSpan) -> str:
    """A word with its variables in shell syntax: ``$NAME`` alone is split, ``${NAME}`` is not (as in systemd)."""
    alone = re.fullmatch(r"\$([A-Za-z_][A-Za-z0-9_]*)", word)
    if alone:
        return f"${{{alone.group(1)}-}}"
    pieces: list[str] = []
    end = 0
    for match in re.finditer(r"\$\$|\$\{([A-Za-z_][A-Za-z0-9_]*)\}", word):
        pieces.append(quoting.shell_word(word[end : match.start()], span=span) if match.start() > end else "")
        pieces.append(f'"${{{match.group(1)}-}}"' if match.group(1) else "'$'")
        end = match.end()
    rest = word[end:]
    pieces.append(quoting.shell_word(rest, span=span) if rest or not pieces else "")
    return "".join(pieces)


def _refusal(what: str, span: SourceSpan) -> DiagnosticError:
    return DiagnosticError.of(
        Code.E_EMIT, f"{what} needs systemd; the image's init is BusyBox", span, fix="put the command into a script"
    )
