"""What an initrd holds and what takes the space: a reader of cpio archives in the "newc" format.

Format: Linux, Documentation/driver-api/early-userspace/buffer-format.rst. The input may be damaged or hostile: every
length is checked against what is there.
"""

from __future__ import annotations

import shutil
import subprocess
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

_MAGICS = (b"070701", b"070702")
_HEADER_BYTES = 110
_TRAILER = "TRAILER!!!"
_ZSTD_MAGIC = b"\x28\xb5\x2f\xfd"
_LIMIT_BYTES = 4 << 30


@attrs.frozen(kw_only=True)
class CpioEntry:
    """One member: ``path`` without leading slash, ``mode`` as st_mode, ``size`` in bytes."""

    path: str
    mode: int
    size: int


def read_cpio(data: bytes | memoryview, *, name: str) -> Iterator[CpioEntry]:
    """The members of an archive in order, up to its trailer; raises E_ARTIFACT where it is damaged."""
    offset = 0
    while True:
        header = bytes(data[offset : offset + _HEADER_BYTES])
        if len(header) < _HEADER_BYTES or header[:6] not in _MAGICS:
            raise _damaged(name, f"no cpio header at byte {offset}")
        try:
            fields = [int(header[start : start + 8], 16) for start in range(6, _HEADER_BYTES, 8)]
        except ValueError as error:
            raise _damaged(name, f"the cpio header at byte {offset} is not hexadecimal") from error
        mode, size, name_bytes = fields[1], fields[6], fields[11]
        name_end = offset + _HEADER_BYTES + name_bytes
        content = -(-name_end // 4) * 4
        following = -(-(content + size) // 4) * 4
        if not name_bytes or content + size > len(data):
            raise _damaged(name, f"the cpio member at byte {offset} ends behind the archive")
        path = bytes(data[offset + _HEADER_BYTES : name_end - 1]).decode(errors="surrogateescape")
        if path == _TRAILER:
            return
        yield CpioEntry(path=path.removeprefix("./"), mode=mode, size=size)
        offset = following


def size_by_folder(entries: Iterator[CpioEntry], depth: int = 3) -> list[tuple[str, int]]:
    """Bytes below each folder (cut at ``depth`` levels), largest first, then by name."""
    sizes: Counter[str] = Counter()
    for entry in entries:
        parts = entry.path.split("/")[:-1][:depth]
        sizes["/" + "/".join(parts)] += entry.size
    return sorted(sizes.items(), key=lambda item: (-item[1], item[0]))


def unpacked(path: Path) -> bytes:
    """The archive itself, decompressed by zstd(1) of the host or of the tools root where it is compressed."""
    data = path.read_bytes()
    if not data.startswith(_ZSTD_MAGIC):
        return data
    if shutil.which("zstd"):
        done = subprocess.run(["zstd", "-dc"], input=data, capture_output=True, check=False)
        if done.returncode or len(done.stdout) > _LIMIT_BYTES:
            raise _damaged(str(path), "zstd cannot unpack it")
        return done.stdout
    from tdxc_runtime.process import Bind
    from tdxc_runtime.toolsroot import ToolsRoot

    inside = Path("/tdxvm/initrd")
    tools = ToolsRoot.ensure()
    binds = [Bind(source=path.absolute(), target=inside)]
    return tools.run(["zstd", "-dc", str(inside)], binds=binds, capture=True).stdout


def _damaged(name: str, what: str) -> DiagnosticError:
    return DiagnosticError.of(Code.E_ARTIFACT, f"this is not an initrd: {what}", SourceSpan(file=name))
