"""The kernel command line on its way through systemd-stub.

Source: systemd ``src/boot/efi-string.c`` (decoding) and ``mangle_stub_cmdline`` in ``src/boot/util.c``,
at v252 to v257.
"""

from __future__ import annotations

import re

from .versions import Mangling

_CONSOLE = re.compile(r"(?:^|.* )console=", re.DOTALL)


def decode_section(data: bytes) -> str:
    """Decode a text section as the stub does: UTF-8 up to the first NUL, what UCS-2 cannot hold left out."""
    text = data.split(b"\0", 1)[0].decode("utf-8", errors="ignore")
    return "".join(character for character in text if ord(character) <= 0xFFFF)


def mangle(text: str, mangling: Mangling) -> str:
    """Clean a command line."""
    if mangling is Mangling.NONE:
        return text
    if mangling is Mangling.TRAILING:
        return "".join(" " if c <= "\x1f" else c for c in text).rstrip(" ")
    return "".join(" " if c <= " " or c == "\x7f" else c for c in text).strip(" ")


def utf16(text: str) -> bytes:
    """UTF-16LE with its terminating NUL: the form in which a command line is passed on and measured."""
    return text.encode("utf-16-le", errors="surrogatepass") + b"\0\0"


def has_console(text: str) -> bool:
    """Whether the command line names a console, so that newer stubs leave it alone."""
    return _CONSOLE.match(text) is not None
