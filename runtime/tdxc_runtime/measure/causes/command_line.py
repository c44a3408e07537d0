"""How a command line differs: from the log's own text, or from what hashes to its digest.

A log holds the digest of the kernel's command line, not the command line. The usual changes are few, so they are tried:
a common word added at either end, one word removed.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tdxc_runtime.measure.causes.view import expected_text
from tdxc_runtime.measure.differences import Difference

# Words that people and tools add to a kernel's command line, most of them to look for a fault.
_USUAL = """
debug quiet single 1 3 rescue emergency rw ro nomodeset nokaslr ignore_loglevel loglevel=7 loglevel=8 initcall_debug
earlyprintk=ttyS0 earlycon efi=debug panic=-1 panic=0 console=ttyS0 console=ttyS0,115200 console=ttyS0,115200n8
console=hvc0 console=tty0 console=ttyS1 console=uart,io,0x3f8 init=/bin/sh init=/bin/bash rd.break rd.debug rd.shell
printk.devkmsg=on systemd.unit=rescue.target systemd.unit=emergency.target systemd.debug_shell systemd.debug_shell=1
systemd.debug-shell systemd.debug-shell=1 systemd.log_level=debug systemd.log_target=console
systemd.journald.forward_to_console=1 mitigations=off audit=0 selinux=0 apparmor=0 nosmp
"""
USUAL_WORDS = tuple(_USUAL.split())


def command_line_change(section: Difference | None, options: Difference | None, logged: Sequence[str]) -> str:
    """How the command line differs, from the log's own text where it has one, else from what hashes to its digest."""
    expected = expected_text(options) or expected_text(section)
    if logged:
        return _text_change(expected, logged[0])
    for difference in (options, section):
        if difference is None or difference.found is None or not expected:
            continue
        digests = {digest for _, digest in difference.found.digests}
        for text in _candidates(expected):
            if any(a.digest(data) in digests for data in _encodings(text) for a, _ in difference.found.digests):
                return _text_change(expected, text)
    return f"is not '{expected}'" if expected else "differs"


def _text_change(expected: str, actual: str) -> str:
    """``has 'debug' appended``, ``lacks 'quiet'``, or the text itself."""
    if expected == actual:
        return "reads the same, with other bytes at its end"
    if expected and actual.startswith(f"{expected} "):
        return f"has `{actual[len(expected) + 1 :]}` appended"
    if expected and actual.endswith(f" {expected}"):
        return f"has `{actual[: -len(expected) - 1]}` put in front"
    missing = [word for word in expected.split() if word not in actual.split()]
    if missing and set(actual.split()) < set(expected.split()):
        return f"lacks `{' '.join(missing)}`"
    return f"is '{actual}'"


def _candidates(expected: str) -> Iterator[str]:
    """The expected command line with a usual word added at either end, or without one of its words."""
    yield expected
    for word in USUAL_WORDS:
        yield f"{expected} {word}"
        yield f"{word} {expected}"
    words = expected.split(" ")
    if len(words) <= 64:
        for position in range(len(words)):
            yield " ".join(words[:position] + words[position + 1 :])


def _encodings(text: str) -> tuple[bytes, ...]:
    """A command line as the kernel's load options have it, and as a UKI section may have it."""
    plain = text.encode()
    return (text.encode("utf-16-le", "surrogatepass") + b"\0\0", plain + b"\0", plain, plain + b"\n", plain + b"\n\0")
