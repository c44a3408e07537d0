"""A machine's serial console: lines with times as they come, and waiting for one that matches."""

from __future__ import annotations

import os
import re
import threading
import time
from collections.abc import Callable

import attrs
from tdxc.diagnostics import Code, DiagnosticError, Note

from tdxc_runtime.process import LineSplitter

_CONTROL = re.compile(r"\x1b\[[0-9:;?=]*[ -/]*[@-~]|\x1b[()][A-Z0-9]|\x1b[=>c78]|[\x00-\x08\x0b-\x1f\x7f]")
_SHOWN_LINES = 25
_PROMPT_S = 1.0
"""How long nothing comes behind a prompt; the rest of a line that is being written comes sooner."""
_OWN_WORDS = re.compile(r"\s*|qemu-system-\w+: .*")

QEMU_CRASHED = "start the machine again: it is QEMU itself that crashed, not the guest"
"""What to do then. Seen of QEMU 10 without KVM when each processor had a thread of its own: a failed assertion of
``iotlb_to_section`` (``system/physmem.c``) while a guest set up PCI."""

_CRASH = re.compile(r"qemu-system-\w+: .*\bAssertion\b.* failed")


@attrs.frozen(kw_only=True)
class ConsoleLine:
    """A line of the console without terminal control sequences, and the seconds since the machine was started."""

    seconds: float
    text: str


class Console:
    """Reads a file descriptor, of which it keeps a copy, in a thread of its own; ``on_line`` is called there."""

    def __init__(self, descriptor: int, on_line: Callable[[ConsoleLine], None] | None = None) -> None:
        self._descriptor = os.dup(descriptor)
        self._on_line = on_line
        self._started = time.monotonic()
        self._lines: list[ConsoleLine] = []
        self._partial = ""
        self._heard = self._started
        self._next = 0
        self._offset = 0  # how much of the next line has been matched while it was not complete yet
        self._ended = False
        self._changed = threading.Condition()
        self._thread = threading.Thread(target=self._read, name="console", daemon=True)
        self._thread.start()

    @property
    def lines(self) -> tuple[ConsoleLine, ...]:
        """All complete lines so far."""
        with self._changed:
            return tuple(self._lines)

    def wait_for(self, pattern: str, timeout_s: float) -> re.Match[str]:
        """The next line, after those that earlier calls have matched, in which ``pattern`` is found.

        A prompt, text without a newline behind which nothing comes for a second, counts as a line. Raises
        DiagnosticError (E_BACKEND_EXECUTION) with the last lines when the time is over or the console has ended.
        """
        wanted = re.compile(pattern)
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                match = self._search(wanted)
                if match:
                    return match
                if self._ended:
                    raise self._failure(f"the console ended without a line that matches {pattern!r}")
                prompt = wanted.search(self._partial, self._offset) if self._partial else None
                until = min(deadline, self._heard + _PROMPT_S) if prompt else deadline
                left = until - time.monotonic()
                if left > 0:
                    self._changed.wait(left)
                elif prompt:
                    self._offset = prompt.end()
                    return prompt
                else:
                    raise self._failure(f"no console line matched {pattern!r} within {timeout_s:g} s")

    def ends_without_words(self, timeout_s: float) -> bool:
        """Whether the stream ends within that time, and nothing came but messages of QEMU itself."""
        deadline = time.monotonic() + timeout_s
        with self._changed:
            while True:
                own = all(_OWN_WORDS.fullmatch(text) for text in (*(line.text for line in self._lines), self._partial))
                left = deadline - time.monotonic()
                if self._ended or not own or left <= 0:
                    return self._ended and own
                self._changed.wait(left)

    def join(self, timeout_s: float) -> None:
        """Wait until the stream has ended."""
        self._thread.join(timeout_s)

    def _search(self, wanted: re.Pattern[str]) -> re.Match[str] | None:
        while self._next < len(self._lines):
            match = wanted.search(self._lines[self._next].text, self._offset)
            self._next += 1
            self._offset = 0
            if match:
                return match
        return None

    def _failure(self, message: str) -> DiagnosticError:
        shown = [line.text for line in self._lines[-_SHOWN_LINES:]]
        if self._partial:
            shown.append(self._partial)
        return DiagnosticError.of(
            Code.E_BACKEND_EXECUTION,
            message,
            notes=tuple(Note(message=text) for text in shown),
            fix=QEMU_CRASHED
            if any(map(_CRASH.match, shown))
            else "read the console's last lines above; a slow machine may need a longer time",
        )

    def _read(self) -> None:
        splitter = LineSplitter()
        while data := os.read(self._descriptor, 65536):
            self._add(splitter.feed(data), splitter.pending)
        os.close(self._descriptor)
        self._add(splitter.rest(), "")
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _add(self, texts: list[str], partial: str) -> None:
        seconds = time.monotonic() - self._started
        lines = [ConsoleLine(seconds=seconds, text=_CONTROL.sub("", text)) for text in texts]
        for line in lines:  # first, so that whoever has waited for a line finds that it has been passed on
            if self._on_line:
                self._on_line(line)
        with self._changed:
            self._lines += lines
            self._heard = time.monotonic()
            self._partial = _CONTROL.sub("", partial)
            self._changed.notify_all()
