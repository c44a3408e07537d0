"""Quoting: the one place where a value becomes text that a shell, systemd, mkosi, nft or the kernel reads back.

Every function takes the value that the consumer shall see and returns the text to write, or raises E_VALUE with the
reason when the consumer's syntax cannot express it. Nothing is ever altered silently.

Two kinds of value meet in unit files, and two functions keep them apart: :func:`unit_directive` takes text that is
*already* in systemd's syntax (what a recipe gives as ``exec`` or in a raw unit, where ``%n`` is a specifier and quotes
group words) and only guards the line; the other ``unit_*`` functions take *data* and quote it.

Sources: systemd.syntax(7), systemd.unit(5) "Specifiers", systemd.service(5) "Command lines", systemd.exec(5)
``Environment=``; sysusers.d(5); tmpfiles.d(5); mkosi 25.3 and 27.1 ``parse_ini`` and list parsers; kernel
``Documentation/admin-guide/kernel-parameters.rst``; nft(8). The property tests run each real reader.

>>> exec_line(["/bin/echo", "50% of $HOME", ""])
'/bin/echo "50%% of $$HOME" ""'
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable
from typing import NoReturn

from tdxc.diagnostics import UNKNOWN_SPAN, Code, DiagnosticError, SourceSpan

_UNIT_LINE_MAX = 1024 * 1024
"""systemd refuses longer lines (LONG_LINE_MAX, systemd src/basic/def.h)."""

_BARE_UNIT_WORD = re.compile(r"[A-Za-z0-9_@+=:,./-]+")
_UNIT_NAME_CHARACTERS = frozenset("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789:_.")
_ENVIRONMENT_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_PYTHON_LINE_BREAKS = "\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029"


def _refuse(what: str, value: str, reason: str, span: SourceSpan, fix: str = "") -> NoReturn:
    shown = value if len(value) <= 60 else value[:57] + "..."
    raise DiagnosticError.of(Code.E_VALUE, f"{what} {shown!r} cannot be written: {reason}", span, fix=fix)


def _has_control(value: str, allowed: str = "") -> bool:
    return not value.isprintable() and any((ch < " " or ch == "\x7f") and ch not in allowed for ch in value)


def _is_portable_text(value: str) -> bool:
    """Whether systemd takes the text as UTF-8: neither surrogates nor Unicode noncharacters."""
    return value.isascii() or not any(
        0xD800 <= (code := ord(ch)) <= 0xDFFF or 0xFDD0 <= code <= 0xFDEF or code & 0xFFFE == 0xFFFE for ch in value
    )


def _has_surrogate(value: str) -> bool:
    return not value.isascii() and any(0xD800 <= ord(ch) <= 0xDFFF for ch in value)


def _check_text(what: str, value: str, span: SourceSpan, *, allowed_controls: str = "") -> None:
    if not _is_portable_text(value):
        _refuse(what, value, "it holds a code point that is not valid in UTF-8 text", span)
    if _has_control(value, allowed_controls):
        _refuse(what, value, "it holds a control character", span)


# Shell


def shell_word(value: str, *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """One word of POSIX shell; any text but NUL and lone surrogates."""
    if "\0" in value or _has_surrogate(value):
        _refuse("shell word", value, "no program argument can hold NUL or a lone surrogate", span)
    return shlex.quote(value)


def shell_words(values: Iterable[str], *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """Words of POSIX shell, joined by single spaces."""
    return " ".join(shell_word(value, span=span) for value in values)


def environment_name(name: str, *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """The name of an environment variable as a shell can export it."""
    if not _ENVIRONMENT_NAME.fullmatch(name):
        _refuse("environment variable name", name, "it is not letters, digits and underscores", span)
    return name


def shell_comment(value: str) -> str:
    """Text for after ``# ``: line breaks and control characters become spaces, since a comment has no meaning."""
    if value.isprintable():
        return value
    return "".join(" " if ch in _PYTHON_LINE_BREAKS or _has_control(ch) else ch for ch in value)


# systemd units


def unit_directive(value: str, *, span: SourceSpan = UNKNOWN_SPAN, what: str = "unit value") -> str:
    """The text right of ``Key=`` as given, in systemd's own syntax; only what one line cannot hold is refused."""
    _check_text(what, value, span, allowed_controls="\t")
    if value != value.strip(" \t"):
        _refuse(what, value, "systemd strips leading and trailing blanks", span, fix="quote the blank or leave it out")
    if value.endswith("\\"):
        _refuse(what, value, "a backslash at the end of a line continues it", span, fix="end with something else")
    if len(value.encode()) > _UNIT_LINE_MAX - 256:
        _refuse(what, value, "systemd reads no line of more than 1 MiB", span)
    return value


def unit_text(value: str, *, span: SourceSpan = UNKNOWN_SPAN, what: str = "unit value") -> str:
    """Free text or a whole-line path as data (``Description=``, ``WorkingDirectory=``): specifiers are escaped."""
    return unit_directive(value.replace("%", "%%"), span=span, what=what)


def unit_path(value: str, *, span: SourceSpan = UNKNOWN_SPAN, what: str = "path") -> str:
    """An absolute, normalised path that is a directive's whole value (``WorkingDirectory=``)."""
    _check_path(what, value, span)
    return unit_text(value, span=span, what=what)


def unit_word(value: str, *, span: SourceSpan = UNKNOWN_SPAN, what: str = "unit value") -> str:
    """One element of a directive that is a list of words (``ReadWritePaths=``, ``SupplementaryGroups=``)."""
    _check_text(what, value, span, allowed_controls="\t")
    return _quoted(value.replace("%", "%%"))


def unit_name_of_path(path: str) -> str:
    r"""A path as the stem of its unit's name (systemd.unit(5), "String Escaping for Inclusion in Unit Names").

    >>> unit_name_of_path("/var/lib/my-app")
    'var-lib-my\\x2dapp'
    """
    escaped = "".join(_unit_name_byte(byte) for byte in path.strip("/").encode()) or "-"
    return rf"\x2e{escaped[1:]}" if escaped.startswith(".") else escaped


def _unit_name_byte(byte: int) -> str:
    character = chr(byte)
    if character == "/":
        return "-"
    return character if character in _UNIT_NAME_CHARACTERS else rf"\x{byte:02x}"


def unit_path_word(value: str, *, span: SourceSpan = UNKNOWN_SPAN, what: str = "path") -> str:
    """One absolute, normalised path in a directive that is a list of paths."""
    _check_path(what, value, span)
    return unit_word(value, span=span, what=what)


def unit_reference(name: str, *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """A unit's name in ``After=`` and its like, where a backslash is part of the name (``dev-disk-by\\x2dlabel``)."""
    if not re.fullmatch(r"[A-Za-z0-9:_.\\@-]{1,255}", name):
        _refuse("unit name", name, "it is not 1 to 255 letters, digits and ':_.@-' or '\\'", span)
    return name


def environment_file(path: str, *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """The path in ``EnvironmentFile=``; systemd reads it as a pattern, and names that would be one are refused."""
    if any(ch in "*?[\\" for ch in path):
        _refuse("environment file", path, "systemd takes '*', '?', '[' and backslash there for a pattern", span)
    return unit_path(path, span=span, what="environment file")


def environment_assignment(name: str, value: str, *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """One quoted ``NAME=value`` for ``Environment=``; ``$`` has no meaning there, newline and tab are kept."""
    if not _ENVIRONMENT_NAME.fullmatch(name):
        _refuse("environment variable name", name, "it is not letters, digits and underscores", span)
    _check_text("environment value", value, span, allowed_controls="\t\n")
    return _quoted(f"{name}={value}".replace("%", "%%"), escape_newline=True)


def exec_program(path: str, *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """The program of an ``Exec*=`` line: an absolute path; systemd refuses quotes and backslashes in it."""
    _check_path("program", path, span)
    if any(ch in "\"'\\$" for ch in path):
        _refuse("program", path, "systemd takes no quote, backslash or dollar sign in a program's path", span)
    return _quoted(path.replace("%", "%%"))


def exec_word(value: str, *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """One argument of an ``Exec*=`` line, seen by the program as it is: no variables, no specifiers, no splitting."""
    _check_text("program argument", value, span, allowed_controls="\t\n")
    return _quoted(value.replace("%", "%%").replace("$", "$$"), escape_newline=True)


def exec_line(argv: Iterable[str], *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """A whole ``Exec*=`` value from a program's path and its arguments."""
    program, *arguments = argv
    return " ".join([exec_program(program, span=span), *(exec_word(word, span=span) for word in arguments)])


def _quoted(value: str, *, escape_newline: bool = False) -> str:
    """Double quotes as systemd's extract_first_word reads them; backslash escapes nothing but itself and the quote."""
    if _BARE_UNIT_WORD.fullmatch(value):
        return value
    escaped = value.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + (escaped.replace("\n", "\\n") if escape_newline else escaped) + '"'


def _check_path(what: str, value: str, span: SourceSpan) -> None:
    if not value.startswith("/"):
        _refuse(what, value, "it is not absolute", span, fix=f"write '/{value}'")
    if "//" in value or any(part in {".", ".."} for part in value.split("/")):
        _refuse(what, value, "it is not normalised", span)
    if value != value.strip():
        _refuse(what, value, "a path there must not begin or end with a blank", span)
    if len(value.encode(errors="surrogatepass")) > 4095:
        _refuse(what, value, "it is longer than 4095 bytes", span)


# sysusers.d and tmpfiles.d


def sysusers_field(value: str, *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """A field of sysusers.d(5). ``-`` alone means "unset" and colons would end up in /etc/passwd: both are refused."""
    _check_text("sysusers field", value, span)
    if value in {"", "-"} or ":" in value:
        _refuse("sysusers field", value, "an empty field, a lone dash and a colon have another meaning", span)
    return _quoted(value.replace("%", "%%"))


def tmpfiles_path(value: str, *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """The path field of tmpfiles.d(5) for line types that take no glob."""
    _check_path("tmpfiles path", value, span)
    _check_text("tmpfiles path", value, span, allowed_controls="\t\n")
    return _quoted(value.replace("%", "%%"), escape_newline=True)


def tmpfiles_link_target(value: str, *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """The argument of an ``L`` line, which is the rest of the line: no quoting there, only specifiers."""
    return unit_text(value, span=span, what="link target")


# mkosi


def mkosi_value(value: str, *, span: SourceSpan = UNKNOWN_SPAN, what: str = "mkosi value") -> str:
    """A whole value in mkosi.conf: a string, or one line of a list without a delimiter.

    mkosi cuts each line at the first ``#``, splits lines as Python's ``str.splitlines`` does, strips Unicode blanks,
    and expands ``%`` specifiers. An empty value resets the setting.
    """
    if "\0" in value or _has_surrogate(value):
        _refuse(what, value, "it is not UTF-8 text", span)
    if not value.isprintable() and any(ch in _PYTHON_LINE_BREAKS for ch in value):
        _refuse(what, value, "mkosi reads it line by line", span)
    if "#" in value:
        _refuse(what, value, "mkosi takes everything behind '#' for a comment, even inside quotes", span)
    if not value or value != value.strip():
        _refuse(what, value, "mkosi strips blanks, and an empty value resets the setting", span)
    if value.startswith("["):
        _refuse(what, value, "mkosi takes a line of a list that begins with '[' for a section", span)
    return value.replace("%", "%%")


def mkosi_item(value: str, delimiter: str, *, span: SourceSpan = UNKNOWN_SPAN, what: str = "mkosi list item") -> str:
    """An element of a list that mkosi splits at ``delimiter`` without unquoting (``Packages=``, ``BindUser=``...)."""
    if delimiter in value:
        _refuse(what, value, f"mkosi splits this list at {delimiter!r} and has no way to quote it", span)
    return mkosi_value(value, span=span, what=what)


def mkosi_word(value: str, *, span: SourceSpan = UNKNOWN_SPAN, what: str = "mkosi list item") -> str:
    """An element of a list that mkosi reads with shell quotes (``Environment=``, ``Credentials=``, ``QemuArgs=``)."""
    return shlex.quote(mkosi_value(value, span=span, what=what))


def mkosi_environment(name: str, value: str, *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """``NAME=value`` for mkosi's ``Environment=``; mkosi strips blanks around the value, so those are refused."""
    if not _ENVIRONMENT_NAME.fullmatch(name):
        _refuse("environment variable name", name, "it is not letters, digits and underscores", span)
    if value != value.strip():
        _refuse("environment value", value, "mkosi strips leading and trailing blanks of values", span)
    return mkosi_word(f"{name}={value}", span=span, what="environment value")


def mkosi_path(value: str, *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """A path in mkosi.conf; ``$NAME`` and a leading ``~`` are expanded, ``:`` and ``,`` split, none can be quoted."""
    if any(ch in "$:," for ch in value) or value.startswith("~"):
        _refuse("mkosi path", value, "mkosi expands '$' and '~' and splits at ':' and ','", span)
    return mkosi_value(value, span=span, what="mkosi path")


# nft and the kernel command line


def nft_string(value: str, *, span: SourceSpan = UNKNOWN_SPAN, what: str = "nft string") -> str:
    """A quoted string of nft(8), such as a comment: at most 127 bytes, and no escape exists for the double quote."""
    _check_text(what, value, span, allowed_controls="\t")
    if '"' in value or not value or len(value.encode()) > 127:
        _refuse(what, value, "nft takes 1 to 127 bytes without a double quote", span)
    return f'"{value}"'


def nft_interface(name: str, *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """A network interface name that nft matches literally (the kernel's dev_valid_name, and no nft wildcard)."""
    if name in {".", ".."} or not re.fullmatch(r"[A-Za-z0-9_.@+-]{1,15}", name):
        _refuse("interface", name, "an interface name is 1 to 15 letters, digits and '_.@+-'", span)
    return f'"{name}"'


def kernel_word(value: str, *, span: SourceSpan = UNKNOWN_SPAN) -> str:
    """One argument of the kernel command line, quoted so that the kernel and systemd both read it as one word.

    Neither knows an escape for the double quote; systemd reads single quotes as well; mkosi joins runs of blanks; and
    the firmware's UTF-16 step makes other characters than printable ASCII unreliable.
    """
    if not value or not value.isascii() or _has_control(value) or any(ch in "\"'\\#" for ch in value):
        _refuse("kernel argument", value, "only printable ASCII without quotes, backslash and '#' survives", span)
    if "  " in value or value != value.strip(" "):
        _refuse("kernel argument", value, "blanks at the ends or in a row do not survive", span)
    if " " not in value:
        return value
    key, equals, rest = value.partition("=")
    return f'{key}="{rest}"' if equals and " " not in key and not rest.startswith(" ") else f'"{value}"'
