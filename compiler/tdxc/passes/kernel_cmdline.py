"""The kernel command line: our defaults in a fixed order, then the recipe's words.

It is measured (PCR 11 and 12, RTMR 2) word for word, so its order is fixed, and a console is always named: without one
the kernel picks by firmware tables, which a host controls.
"""

from __future__ import annotations

from tdxc import records
from tdxc.diagnostics import Code, DiagnosticError, DiagnosticSink, Note, SourceSpan
from tdxc.ir import Kernel, KernelArgument
from tdxc.quoting import kernel_word

COMMAND_LINE_SIZE = 2048
"""x86's limit in bytes with the final NUL (arch/x86/include/asm/setup.h); the kernel cuts what is longer."""


@records.frozen
class DefaultArgument:
    """An argument that every image gets unless its recipe sets the same key, with the reason."""

    text: str
    reason: str


DEFAULT_ARGUMENTS: tuple[DefaultArgument, ...] = (
    DefaultArgument(text="console=tty0", reason="the firmware's screen, where there is one"),
    DefaultArgument(text="console=ttyS0,115200n8", reason="the serial console; the last one is /dev/console"),
    DefaultArgument(text="random.trust_cpu=on", reason="RDRAND is inside the trust domain's boundary"),
    DefaultArgument(text="random.trust_bootloader=off", reason="seeds from the host's firmware are not credited"),
    DefaultArgument(text="oops=panic", reason="a kernel that went wrong once must not go on with secrets"),
    DefaultArgument(text="panic=30", reason="reboots after a panic, with time to read the console"),
    DefaultArgument(text="slab_nomerge", reason="keeps kinds of kernel objects apart"),
    DefaultArgument(text="init_on_alloc=1", reason="kernel memory never shows old content"),
    DefaultArgument(text="page_alloc.shuffle=1", reason="makes page addresses hard to guess"),
    DefaultArgument(text="randomize_kstack_offset=on", reason="makes stack addresses hard to guess"),
    DefaultArgument(text="vsyscall=none", reason="no code at a fixed address"),
    DefaultArgument(text="debugfs=off", reason="no debugging interface in production"),
)
"""Documentation/admin-guide/kernel-parameters.txt. Speculation mitigations stay at the kernel's own default (auto)."""

_SINGLE_VALUED = {argument.text.partition("=")[0] for argument in DEFAULT_ARGUMENTS} - {"console"} | {
    *("init", "rdinit", "root", "rootfstype", "lockdown", "mitigations", "systemd.unit", "loglevel", "init_on_free"),
}
_DEVELOPMENT = {
    "systemd.debug_shell": "opens a root shell without a password",
    "systemd.debug-shell": "opens a root shell without a password",
    "rd.break": "stops in a root shell",
    "rd.shell": "falls back to a root shell",
    "nokaslr": "turns address randomisation off",
    "nosmep": "turns a memory protection off",
    "nosmap": "turns a memory protection off",
    "mitigations=off": "turns the defences against speculation attacks off",
    "debugfs=on": "opens the kernel's debugging interface",
    "init=/bin/sh": "replaces the init system by a root shell",
    "init=/bin/bash": "replaces the init system by a root shell",
    "rdinit=/bin/sh": "replaces the init system by a root shell",
}


def kernel_cmdline(kernel: Kernel, sink: DiagnosticSink) -> tuple[KernelArgument, ...]:
    """The words in order. Where the recipe sets a key of ours, its own word stands instead of ours."""
    words = _words(kernel.cmdline, kernel.span, sink)
    _check_words(words, kernel.span, sink)
    ours = {default.text for default in DEFAULT_ARGUMENTS}
    keys = {_key(word) for word in words if word not in ours} - {"console"}
    defaults = [
        KernelArgument(span=kernel.span, cause=f"default kernel argument: {default.reason}", text=default.text)
        for default in DEFAULT_ARGUMENTS
        if _key(default.text) not in keys
    ]
    own = [KernelArgument(span=kernel.span, text=word) for word in dict.fromkeys(words) if word not in ours]
    _check_length((*defaults, *own), kernel.span, sink)
    return (*defaults, *own)


def _words(text: str, span: SourceSpan, sink: DiagnosticSink) -> list[str]:
    """Words as the kernel splits them (lib/cmdline.c): at blanks outside of double quotes."""
    if text.count('"') % 2:
        sink.add(Code.E_SYNTAX, "the kernel command line has an unmatched double quote", span)
        return []
    words: list[str] = []
    word, quoted = "", False
    for ch in text + " ":
        if ch.isspace() and not quoted:
            words += [word] if word else []
            word = ""
        else:
            quoted ^= ch == '"'
            word += ch
    return [checked for word in words if (checked := _checked(word, span, sink))]


def _checked(word: str, span: SourceSpan, sink: DiagnosticSink) -> str:
    try:
        return kernel_word(word.replace('"', ""), span=span)
    except DiagnosticError as error:
        sink.extend(error.diagnostics)
        return ""


def _key(word: str) -> str:
    """The parameter's name; the kernel takes ``-`` and ``_`` for the same (kernel/params.c, parameq)."""
    return word.partition("=")[0].replace("-", "_")


def _check_words(words: list[str], span: SourceSpan, sink: DiagnosticSink) -> None:
    first: dict[str, str] = {}
    for word in words:
        before = first.setdefault(_key(word), word)
        if before != word and _key(word) in _SINGLE_VALUED:
            sink.add(
                Code.E_CONFLICT,
                f"the kernel command line says both '{before}' and '{word}'",
                span,
                fix="keep one of them: the kernel would take the last one without a word",
            )
        if reason := _development_reason(word):
            sink.add(
                Code.W_DEVELOPMENT,
                f"kernel argument '{word}' {reason}",
                span,
                notes=(Note(message="the command line is measured: a verifier sees it, and may refuse the image"),),
                fix="keep it to a profile that is never deployed",
            )


def _development_reason(word: str) -> str:
    key, _, value = word.partition("=")
    return _DEVELOPMENT.get(word, "" if value in {"0", "no", "off"} else _DEVELOPMENT.get(key, ""))


def _check_length(arguments: tuple[KernelArgument, ...], span: SourceSpan, sink: DiagnosticSink) -> None:
    length = len(" ".join(argument.text for argument in arguments))
    if length >= COMMAND_LINE_SIZE:
        sink.add(
            Code.E_LIMIT,
            f"the kernel command line has {length} characters; the kernel reads {COMMAND_LINE_SIZE - 1}",
            span,
            fix="shorten cmdline",
        )
