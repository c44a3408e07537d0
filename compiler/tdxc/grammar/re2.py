r"""Patterns of secrets: the part of regular expressions that Go's ``regexp`` (RE2) and Python's ``re`` read alike.

The guest matches with RE2, which has neither look-around nor backreferences and so takes linear time; recipe authors
think in Python's or Perl's syntax. What RE2 does not know is refused, and so is what it knows as something else (such
as ``{,3}``, which is text to it). Three differences are left: ``$`` matches at the very end only; ``\d``, ``\w``,
``\s`` and ``\b`` know ASCII only; and empty text has no ``\B`` to Python before 3.14.

Sources: RE2's syntax as of Go's ``regexp/syntax`` (package documentation and its limits on repetition), Python's
``re``.
"""

from __future__ import annotations

from tdxc import records

MAX_PATTERN = 1024
"""Bytes of UTF-8 that the guest takes."""
_MAX_REPEAT = 1000
"""Go's limit, for one repetition and for the product of nested ones."""

_CLASSES = "dwsDWS"
_PUNCTUATION = frozenset("!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~")
_SET_OPERATIONS = frozenset({"--", "&&", "||", "~~"})
"""Characters to both, for now: Python keeps them for operations between classes (``re``, "[]")."""
_HEX_DIGITS = frozenset("0123456789abcdefABCDEF")
_CONTROLS = {"n": "\n", "t": "\t", "r": "\r", "f": "\f", "v": "\v", "a": "\a"}
_GROUPS = (
    ("(?=", "look-ahead"),
    ("(?!", "look-ahead"),
    ("(?<=", "look-behind"),
    ("(?<!", "look-behind"),
    ("(?P=", "a backreference"),
    ("(?P<", "a named group, which a search does not need"),
    ("(?<", "a named group, which a search does not need"),
    ("(?(", "a condition"),
    ("(?>", "an atomic group"),
    ("(?#", "a comment"),
)
_ESCAPES = {
    "Z": ("the end of the text is spelled otherwise", "write $"),
    "z": ("the end of the text is spelled otherwise", "write $"),
    "N": ("characters by name", "write the character itself"),
    "u": ("characters by number", "write the character itself"),
    "U": ("characters by number", "write the character itself"),
    "p": ("Unicode classes", "list the characters"),
    "P": ("Unicode classes", "list the characters"),
}


class PatternError(ValueError):
    """What is wrong with a pattern, at ``position`` (from 0), and what to write instead."""

    def __init__(self, message: str, position: int, fix: str = "") -> None:
        super().__init__(message)
        self.position = position
        self.fix = fix


@records.frozen
class _Atom:
    """What was read: whether it may be repeated, and the product of the repetitions inside."""

    repeatable: bool
    product: int


def check_pattern(text: str) -> None:
    """Raise PatternError for a pattern that RE2 refuses, or reads otherwise than Python does.

    >>> check_pattern("^tok_[a-z0-9]{8,}$")
    """
    size = len(text.encode())
    if size > MAX_PATTERN:
        raise PatternError(f"has {size} bytes; the limit is {MAX_PATTERN}", 0)
    reader = _Reader(text)
    reader.flags()
    reader.alternatives(depth=0)
    if reader.at < len(text):
        raise reader.fault("has a ')' without its '('")


class _Reader:
    """A recursive descent over the text; ``at`` is the place of the next character."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.at = 0

    def fault(self, message: str, fix: str = "", at: int | None = None) -> PatternError:
        """What is wrong, with its place."""
        return PatternError(message, self.at if at is None else at, fix)

    def flags(self) -> None:
        """``(?ims)`` at the start."""
        end = self.text.find(")")
        if self.text.startswith("(?") and end > 2 and set(self.text[2:end]) <= set("ims"):
            self.at = end + 1

    def alternatives(self, depth: int) -> int:
        """Branches up to ``)`` or the end; gives the greatest product of nested repetitions."""
        if depth > 100:
            raise self.fault("is nested more than 100 levels deep")
        product = 1
        while self.at < len(self.text) and self.text[self.at] != ")":
            if self.text[self.at] == "|":
                self.at += 1
                continue
            product = max(product, self._repeated(self._atom(depth)))
        return product

    def _repeated(self, atom: _Atom) -> int:
        """The atom with the repetition behind it, if there is one."""
        start = self.at
        times = self._repetition()
        if times is None:
            return atom.product
        if not atom.repeatable:
            raise self.fault("repeats something that has no width", at=start)
        if self.text.startswith("?", self.at):
            self.at += 1
        elif self.text.startswith("+", self.at):
            raise self.fault("has a possessive repetition, which RE2 does not know", "leave the last '+' out")
        if self._repetition() is not None:
            raise self.fault("repeats a repetition", "put a group around the inner one", at=start)
        product = atom.product * max(times, 1)
        if product > _MAX_REPEAT:
            raise self.fault(f"repeats more than {_MAX_REPEAT} times in all, which is RE2's limit", at=start)
        return product

    def _repetition(self) -> int | None:
        """``* + ?`` or ``{m}``, ``{m,}``, ``{m,n}``: the greater bound (1 for none); None where there is no such."""
        head = self.text[self.at : self.at + 1]
        if head in {"*", "+", "?"}:
            self.at += 1
            return 1
        end = self.text.find("}", self.at)
        if head != "{" or end < 0:
            return None
        low, comma, high = self.text[self.at + 1 : end].partition(",")
        numbers = all(number.isascii() and number.isdigit() for number in (low, high) if number)
        if not numbers or not (low or comma):
            return None
        if not low:
            fix = f"write {{0,{high}}}, or \\{{,{high}}} for the text itself"
            raise self.fault(f"has {{,{high}}}, which is plain text to RE2 and a repetition to Python", fix)
        if high and int(high) < int(low):
            raise self.fault("has a repetition whose upper bound is below its lower one")
        self.at = end + 1
        return max(int(low), int(high or 0))

    def _atom(self, depth: int) -> _Atom:
        start, ch = self.at, self.text[self.at]
        if self._repetition() is not None:
            raise self.fault("repeats nothing", f"write \\{ch} for the character itself", at=start)
        if ch == "(":
            return self._group(depth)
        self.at += 1
        if ch == "[":
            self._set(start)
        elif ch == "\\":
            return _Atom(self._escape(start, in_set=False) is not None, 1)
        return _Atom(ch not in "^$", 1)

    def _group(self, depth: int) -> _Atom:
        start = self.at
        for head, what in _GROUPS:
            if self.text.startswith(head, start):
                raise self.fault(f"has {what} '{head}', which RE2 does not know or which means nothing here", at=start)
        if self.text.startswith("(?:", start):
            self.at += 3
        elif self.text.startswith("(?", start):
            raise self.fault("has flags that are not 'i', 'm' or 's' at the very start", "begin with (?i)", at=start)
        else:
            self.at += 1
        product = self.alternatives(depth + 1)
        if not self.text.startswith(")", self.at):
            raise self.fault("has a '(' without its ')'", at=start)
        self.at += 1
        return _Atom(repeatable=True, product=product)

    def _set(self, start: int) -> None:
        """A character class behind its ``[``."""
        if self.text.startswith("^", self.at):
            self.at += 1
        first = True
        while first or not self.text.startswith("]", self.at):
            first = False
            self._no_operation()
            low = self._member(start)
            self._no_operation()
            if self.text.startswith("-", self.at) and self.text[self.at + 1 : self.at + 2] not in {"", "]"}:
                self.at += 1
                high = self._member(start)
                if not low or not high or high < low:
                    raise self.fault("has a class with a range that goes nowhere", at=start)
        self.at += 1

    def _no_operation(self) -> None:
        pair = self.text[self.at : self.at + 2]
        if pair in _SET_OPERATIONS:
            raise self.fault(f"has '{pair}' inside of a class, where Python warns of it", f"write \\{pair[0]}")

    def _member(self, start: int) -> str:
        """One member of a class: its character, or empty for a class of its own."""
        if self.at >= len(self.text):
            raise self.fault("has a '[' without its ']'", at=start)
        ch = self.text[self.at]
        self.at += 1
        if ch == "[":
            raise self.fault("has '[' inside of a class", "write \\[ for the character itself", at=self.at - 1)
        return ch if ch != "\\" else self._escape(self.at - 1, in_set=True) or ""

    def _escape(self, start: int, *, in_set: bool) -> str | None:
        """The character that an escape stands for; empty for a class, None for what has no width."""
        ch = self.text[self.at : self.at + 1]
        self.at += 1
        if not ch:
            raise self.fault("ends with a backslash", at=start)
        if ch in _PUNCTUATION:
            return ch
        if ch in _CLASSES:
            return ""
        if ch in "bBA" and not in_set:
            return None
        if ch in _CONTROLS:
            return _CONTROLS[ch]
        digits = self.text[self.at : self.at + 2]
        if ch == "x" and len(digits) == 2 and set(digits) <= _HEX_DIGITS:
            self.at += 2
            return chr(int(digits, 16))
        if ch.isdigit():
            raise self.fault(f"has \\{ch}, a backreference or an octal number", "repeat the pattern itself", at=start)
        what, fix = _ESCAPES.get(ch, ("it", ""))
        raise self.fault(f"has \\{ch}, which RE2 does not know or reads otherwise ({what})", fix, at=start)
