"""File content by digest: what the IR holds instead of bytes in its JSON form."""

from __future__ import annotations

import hashlib

from tdxc import records


@records.frozen(kw_only=True)
class Blob:
    """Content identified by SHA-256 (lowercase hex); ``data`` travels beside the JSON and is excluded from equality."""

    sha256: str
    size_bytes: int
    data: bytes = records.field(eq=False, repr=False)

    @classmethod
    def of(cls, data: bytes) -> Blob:
        """Wrap bytes, hashing them once."""
        return cls(sha256=hashlib.sha256(data).hexdigest(), size_bytes=len(data), data=data)

    @classmethod
    def of_text(cls, text: str) -> Blob:
        """Wrap text as UTF-8."""
        return cls.of(text.encode())
