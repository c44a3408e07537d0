"""Ways to break bytes, and a measure of what a parser costs on them."""

import contextlib
import tracemalloc
from collections.abc import Callable, Iterator

from hypothesis import strategies as st
from tdxc.diagnostics import Code, DiagnosticError

INTERESTING = (0, 1, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFFFFFFFFFFF)
# Interpreter, hypothesis and lazily imported modules allocate this much whatever the input is.
MEMORY_FLOOR = 2 * 1024 * 1024


@contextlib.contextmanager
def only_diagnosed(code: Code, name: str) -> Iterator[None]:
    """Let the block fail, but with diagnostics of ``code`` about the file ``name`` and nothing else."""
    try:
        yield
    except DiagnosticError as error:
        found = {(diagnostic.code, diagnostic.span.file) for diagnostic in error.diagnostics}
        if found != {(code, name)}:
            raise AssertionError(f"wrong diagnostics: {found}") from error


@st.composite
def mutations(draw: st.DrawFn, data: bytes) -> bytes:
    """``data`` with some bytes flipped, integers replaced by awkward ones, parts cut out, doubled or appended."""
    result = bytearray(data)
    for _ in range(draw(st.integers(1, 6))):
        at = draw(st.integers(0, len(result)))
        match draw(st.integers(0, 5)):
            case 0 if at < len(result):
                result[at] ^= 1 << draw(st.integers(0, 7))
            case 1:
                width = draw(st.sampled_from((1, 2, 4, 8)))
                value = draw(st.sampled_from(INTERESTING)) & ((1 << 8 * width) - 1)
                result[at : at + width] = value.to_bytes(width, "little")
            case 2:
                del result[at:]
            case 3:
                del result[at : at + draw(st.integers(1, 64))]
            case 4:
                result[at:at] = result[at : at + draw(st.integers(1, 64))]
            case _:
                result[at:at] = draw(st.binary(max_size=16))
    return bytes(result)


def peak_memory(action: Callable[[], object]) -> int:
    """The most bytes that ``action`` had allocated at once."""
    tracemalloc.start()
    try:
        action()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
