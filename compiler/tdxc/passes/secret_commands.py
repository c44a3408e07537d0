"""Command lines that put a secret where others can read it: on a command line, or into the log.

Nothing here understands a shell. A command line may name a secret in two shapes, and everything else is refused::

    /bin/app --token-file /run/secrets/token            an argument of a program that is not there to print files
    /bin/sh -c 'exec app --quiet </run/secrets/token'   the standard input of such a program

So a shell's text that names a secret has no substitution, no pipe, no here-document, and keeps it in no variable.
"""

from __future__ import annotations

import itertools
import re
import shlex
from collections.abc import Iterator

from tdxc import records

_READERS = frozenset(
    {
        "awk", "base32", "base64", "basenc", "bat", "bzcat", "cat", "cmp", "column", "comm", "csplit", "cut", "dd",
        "diff", "ed", "egrep", "envsubst", "ex", "expand", "fgrep", "find", "fmt", "fold", "gawk", "grep", "hd",
        "head", "hexdump", "iconv", "join", "jq", "less", "logger", "mail", "mawk", "more", "nawk", "nl", "od",
        "parallel", "paste", "pr", "rev", "rg", "sed", "sort", "split", "strings", "systemd-cat", "tac", "tail",
        "tee", "tr", "unexpand", "uniq", "vi", "vim", "wall", "write", "xargs", "xxd", "xzcat", "yq", "zcat",
        "zgrep", "zstdcat",
    }
)  # fmt: skip
"""Programs that are there to put out what they read, or to make a command line of it."""

_SHELL_READERS = frozenset(
    {
        ".", "alias", "case", "cd", "declare", "done", "esac", "eval", "fi", "for", "mapfile", "pushd", "read",
        "readarray", "select", "set", "source", "trap", "typeset", "}",
    }
)  # fmt: skip
"""Words of shells behind which a path means something else than an argument of a program."""

_SHOWING_VARIABLES = frozenset(("printenv", "eval", "declare", "typeset", "for", "set"))
_SHOWING_ALL = frozenset(("export", "declare", "typeset", "readonly", "set"))
_PREFIXES = frozenset(("exec", "command", "builtin", "!", "if", "then", "else", "elif", "while", "until", "do", "{"))
_WRAPPERS = frozenset(
    {
        "busybox", "capsh", "chroot", "chrt", "doas", "env", "flock", "ionice", "nice", "nohup", "nsenter",
        "prlimit", "runuser", "script", "setpriv", "setsid", "stdbuf", "su", "sudo", "systemd-inhibit",
        "systemd-run", "taskset", "time", "timeout", "toybox", "unshare", "watch",
    }
)  # fmt: skip
"""Programs that start another one, which is named among their arguments."""

_SHELLS = frozenset(("ash", "bash", "dash", "fish", "ksh", "mksh", "sh", "zsh"))
_STARTERS = frozenset(("flock", "runuser", "script", "su"))
"""Programs beside shells that read what follows ``-c`` as a shell's text."""

_CREDENTIAL_TOOL = "systemd-creds"

_TEXT_FOLLOWS = re.compile(r"-[a-zA-Z]*c|--command")
_SPLIT_FOLLOWS = re.compile(r"-[a-zA-Z0]*S|--split-string")
_INLINE = {
    "python": r"-[a-zA-Z]*c",
    "pypy": r"-[a-zA-Z]*c",
    "perl": r"-[a-zA-Z0-9]*[eE]",
    "php": r"-r|--run",
    "node": r"(?s:-[ep]+|--(?:eval|print)(?:=.*)?)",
    "nodejs": r"(?s:-[ep]+|--(?:eval|print)(?:=.*)?)",
    "ruby": r"-[a-zA-Z]*e",
    "lua": r"-e",
}
"""Interpreters, and the option behind which their code stands on the command line."""

_SEPARATOR = re.compile(r"[()|;&<>]*[()|;][()|;&<>]*|&+")
_CODE = re.compile(r"[\s;|&<>`()]")
_TAKEN_APART = re.compile(r"\$\(|`|<<|[<>]\(|(?<!\|)\|(?!\|)")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*\+?=.*", re.DOTALL)
_ENVIRON = re.compile(r"/proc/[^/\s]+/(?:task/[^/\s]+/)?environ\b")


@records.frozen(kw_only=True)
class SecretNames:
    """By what a command line can name one secret: a variable (or none), its files, and folders that hold them.

    A path that ends with a slash stands for all that is below. ``credentials`` are its names for systemd-creds(1).
    """

    variable: str = ""
    paths: tuple[str, ...] = ()
    credentials: tuple[str, ...] = ()

    def named_in(self, text: str) -> str:
        """The path by which text names the secret, empty for none."""
        return next((path for path in self.paths if path in text and names_path(path, text)), "")

    def is_hinted_in(self, text: str) -> bool:
        """Whether text may name the secret at all; quick."""
        by_tool = self.credentials and _CREDENTIAL_TOOL in text
        return bool(by_tool or (self.variable and self.variable in text)) or any(path in text for path in self.paths)


def names_path(path: str, text: str) -> bool:
    """Whether text holds a path as a whole, or a pattern of a shell for what is in it."""
    if path.endswith("/"):
        return path in text
    return re.search(rf"(?<![\w./-]){re.escape(path)}(?:/[\w.-]*[*?\[{{]|/?(?![\w./-]))", text) is not None


def exposure(command: str, names: SecretNames) -> str:
    """What a command line does to a secret, as the end of a sentence; empty when it keeps it.

    ``command`` is the value of ``ExecStart=`` and its like, with specifiers and ``$$`` resolved.
    """
    if names.variable and _expands(names.variable, command):
        return f"expands ${{{names.variable}}}"
    printed = next((name for name in names.credentials if _prints(name, command)), "")
    if printed:
        return f"lets '{_CREDENTIAL_TOOL}' print the credential {printed}"
    return next((found for words in _commands(command) if (found := _judge(words, names, in_shell=False))), "")


def shows_variables(command: str) -> bool:
    """Whether a command line puts out all variables of its environment."""
    return _ENVIRON.search(command) is not None or any(_shows_all(words) for words in _commands(command))


def _judge(words: list[str], names: SecretNames, *, in_shell: bool) -> str:
    """What one command does to the secret."""
    for place, word in enumerate(words):
        if _is_text(words, place):
            if found := _judge_text(word, names):
                return found
            continue
        programs = _programs(words if "<" in words else words[:place])
        path = names.named_in(word)
        if path and any(_follows_command_option(words, before) for before in range(place)):
            return f"hands {path} to a text of a shell as a parameter"
        is_kept = in_shell or any(_is_text(words, behind) for behind in range(place + 1, len(words)))
        if path and (found := _taking(path, word, programs, is_kept=is_kept, in_shell=in_shell)):
            return found
        if not path and _mentions(names.variable, word):
            reader = next((name for name in programs if name in _SHOWING_VARIABLES), "")
            if reader or (in_shell and _ASSIGNMENT.fullmatch(word)):
                return f"lets '{reader or word}' take the variable {names.variable}"
    return _judge_inline(words, names)


def _taking(path: str, word: str, programs: list[str], *, is_kept: bool, in_shell: bool) -> str:
    """What a command does with a path among its words; ``is_kept`` where a shell sees what is assigned."""
    readers = _READERS | _SHELL_READERS if in_shell else _READERS
    reader = next((name for name in programs if name in readers), "")
    if reader:
        return f"lets '{reader}' read {path}"
    if is_kept and _ASSIGNMENT.fullmatch(word):
        return f"keeps {path} in a variable of the shell"
    return f"reads {path} with no program before it" if programs[:1] == ["<"] else ""


def _programs(words: list[str]) -> list[str]:
    """What a command starts, by the names of the files: its first word, and all words behind one that starts others."""
    place = 0
    while place < len(words) and (words[place] in _PREFIXES or _ASSIGNMENT.fullmatch(words[place])):
        place += 1
    names = [_base(word) for word in words[place:]]
    return names if names[:1] and names[0] in _WRAPPERS else names[:1]


def _judge_text(text: str, names: SecretNames) -> str:
    """A word that is a command line itself: what follows ``sh -c``, or is more than one word."""
    plain = re.sub(r"[\"'\\]", "", text)
    subject = names.named_in(plain)
    if not subject and _mentions(names.variable, plain):
        subject = f"the variable {names.variable}"
    if not subject:
        return ""
    if _TAKEN_APART.search(plain):
        return f"has {subject} in a text with a substitution, a pipe or a here-document"
    try:
        commands = list(_statements(text))
    except ValueError:
        return f"has {subject} in a text whose quotes do not match"
    return next((found for words in commands if (found := _judge(words, names, in_shell=True))), "")


def _judge_inline(words: list[str], names: SecretNames) -> str:
    """Code of another language than the shell's on the command line."""
    for place, word in enumerate(words):
        option = _INLINE.get(_base(word).rstrip("0123456789."))
        if option is None:
            continue
        rest = words[place + 1 :]
        options = list(itertools.takewhile(lambda each: each.startswith("-"), rest))
        code = " ".join(rest) if any(re.fullmatch(option, each) for each in options) else ""
        named = names.named_in(code) or (names.variable if _mentions(names.variable, code) else "")
        if named:
            return f"has code for '{_base(word)}' on the command line that names {named}"
    return ""


def _shows_all(words: list[str]) -> bool:
    """Whether a command prints its environment, or a text in it does."""
    for place, word in enumerate(words):
        if _is_text(words, place):
            try:
                if any(_shows_all(statement) for statement in _statements(word)):
                    return True
            except ValueError:
                continue
    rest = [word for word in words if word not in _PREFIXES]
    while rest and _ASSIGNMENT.fullmatch(rest[0]):
        rest = rest[1:]
    program, arguments = _base(rest[0]) if rest else "", rest[1:]
    if program == "printenv":
        return all(word.startswith("-") for word in arguments)
    if program == "env":
        return all(word.startswith("-") or _ASSIGNMENT.fullmatch(word) for word in arguments)
    return program in _SHOWING_ALL and arguments in ([], ["-p"], ["-x"])


def _commands(command: str) -> Iterator[list[str]]:
    """The command lines of one directive: a word ``;`` parts them (systemd.service(5), "Command lines")."""
    text = command.lstrip("@-:+!| ")
    try:
        words = shlex.split(text)
    except ValueError:
        words = text.split()
    yield from _parted(words)


def _statements(text: str) -> Iterator[list[str]]:
    """The words of a shell's text, from one separator to the next; ValueError for quotes that do not match.

    None for a text that has nothing to part and would be looked at again and again.
    """
    reader = shlex.shlex(text.replace("\\\n", " ").replace("\n", " ; "), posix=True, punctuation_chars=True)
    reader.whitespace_split = True
    reader.commenters = ""
    words = list(reader)
    if words != [text] or _CODE.search(text) is None:
        yield from _parted(words)


def _parted(words: list[str]) -> Iterator[list[str]]:
    part: list[str] = []
    for word in words:
        if _SEPARATOR.fullmatch(word):
            yield part
            part = ["<"] if "<" in word else []
        else:
            part.append(word)
    yield part


def _is_text(words: list[str], place: int) -> bool:
    """Whether a word is a command line itself, or may be one: more than one word of a shell."""
    return _follows_command_option(words, place) or (len(words[place]) > 2 and _CODE.search(words[place]) is not None)


def _follows_command_option(words: list[str], place: int) -> bool:
    """Whether a word stands behind ``sh -c`` or its like."""
    if not place:
        return False
    before = words[: place - 1]
    if _SPLIT_FOLLOWS.fullmatch(words[place - 1]):
        return any(_base(word) == "env" for word in before)
    if not _TEXT_FOLLOWS.fullmatch(words[place - 1]):
        return False
    program = len(before) - 1
    while program > 0 and (before[program][:1] in "-+" or re.fullmatch(r"[-+]\w*o", before[program - 1])):
        program -= 1
    return (program >= 0 and _base(before[program]) in _SHELLS) or any(_base(word) in _STARTERS for word in before)


def _mentions(variable: str, text: str) -> bool:
    return bool(variable) and re.search(rf"(?<![\w./-]){re.escape(variable)}(?![\w./-])", text) is not None


def _expands(variable: str, text: str) -> bool:
    return re.search(rf"\$\{{?[#!]?{re.escape(variable)}(?![A-Za-z0-9_])", text) is not None


def _prints(credential: str, text: str) -> bool:
    """Whether systemd-creds(1) puts out a credential, which it finds by its name."""
    place = text.find(_CREDENTIAL_TOOL)
    words = re.split(r"[^\w.-]+", text[place:]) if place >= 0 else []
    return "cat" in words and credential in words[words.index("cat") :]


def _base(word: str) -> str:
    return word.rpartition("/")[2]
