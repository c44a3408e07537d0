"""The cpio reader: what cpio(1) would list, and a diagnostic for everything else."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.initrd import CpioEntry, read_cpio, size_by_folder


def member(path: str, content: bytes, mode: int = 0o100644) -> bytes:
    name = path.encode(errors="surrogateescape") + b"\0"
    fields = (1, mode, 0, 0, 1, 0, len(content), 0, 0, 0, 0, len(name), 0)
    head = b"070701" + b"".join(b"%08X" % field for field in fields) + name
    return head.ljust(-(-len(head) // 4) * 4, b"\0") + content.ljust(-(-len(content) // 4) * 4, b"\0")


TRAILER = member("TRAILER!!!", b"")
names = st.text(st.characters(codec="utf-8", exclude_characters="\0"), min_size=1, max_size=12).filter(
    lambda name: name != "TRAILER!!!" and not name.startswith("./")
)


@given(st.lists(st.tuples(names, st.binary(max_size=40)), max_size=6))
def test_members_come_back_as_written(members: list[tuple[str, bytes]]) -> None:
    data = b"".join(member(name, content) for name, content in members) + TRAILER
    expected = [CpioEntry(path=name, mode=0o100644, size=len(content)) for name, content in members]
    assert list(read_cpio(data, name="x")) == expected


@given(st.binary(max_size=300))
def test_no_bytes_crash_it(data: bytes) -> None:
    with pytest.raises(DiagnosticError) as caught:
        list(read_cpio(data, name="x"))
    assert caught.value.diagnostics[0].code is Code.E_ARTIFACT


def _members(data: bytes) -> list[CpioEntry]:
    """The members, or none where the reader says that the archive is damaged."""
    with contextlib.suppress(DiagnosticError):
        return list(read_cpio(data, name="x"))
    return []


@given(st.integers(0, 200), st.integers(0, 255))
def test_a_changed_or_truncated_archive_gives_members_or_a_diagnostic(place: int, value: int) -> None:
    data = bytearray(member("usr/bin/a", b"x" * 20) + TRAILER)
    data[place % len(data)] = value
    for damaged in (bytes(data), bytes(data[:place])):
        assert all(entry.size <= len(damaged) for entry in _members(damaged))


def test_sizes_add_up_by_folder() -> None:
    sizes = {"usr/lib/x86_64-linux-gnu/libc.so": 7, "usr/lib/x86_64-linux-gnu/deep/er/x": 2, "init": 1}
    entries = [CpioEntry(path=path, mode=0, size=size) for path, size in sizes.items()]
    assert size_by_folder(iter(entries)) == [("/usr/lib/x86_64-linux-gnu", 9), ("/", 1)]
