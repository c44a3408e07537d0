"""Where a path of the image lies in mkosi's copy of the root file system."""

from __future__ import annotations

from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

_MERGED = ("bin", "sbin", "lib", "lib32", "lib64", "libx32")
"""Folders that are links into ``/usr`` on Debian and Ubuntu (and as mkosi makes them); a folder of that name in an
extra tree would meet the link."""

_VOLATILE = ("/proc", "/sys", "/dev", "/run", "/tmp")  # noqa: S108 - names of mount points, nothing is made there
"""Mount points of the running system: what an image has there is never seen."""


def image_path(path: str, span: SourceSpan, *, merged_usr: bool = True) -> str:
    """The path relative to the image's root, with ``/bin`` and its like resolved to where they point.

    A trailing slash says that a folder is meant, not the link. Raises E_EMIT for a path that the image cannot carry.
    """
    for folder in _VOLATILE:
        if path == folder or path.startswith(f"{folder}/"):
            raise DiagnosticError.of(
                Code.E_EMIT,
                f"nothing at {path!r} would be seen: {folder} is mounted over when the image boots",
                span,
                fix="use tmpfiles.d, a service's RuntimeDirectory= or a boot step",
            )
    if "\n" in path or "\0" in path:
        raise DiagnosticError.of(
            Code.E_EMIT, f"path {path!r} holds a line break", span, fix="choose a name without line breaks"
        )
    relative = path.lstrip("/").rstrip("/")
    if not relative or any(part in {"", ".", ".."} for part in relative.split("/")):
        raise DiagnosticError.of(Code.E_EMIT, f"path {path!r} is not a normalised path in the image", span)
    first, _, rest = relative.partition("/")
    if not merged_usr or first not in _MERGED:
        return relative
    if not rest and path.endswith("/"):
        return f"usr/{first}"
    if not rest:
        raise DiagnosticError.of(Code.E_EMIT, f"{path!r} is a link of the distribution", span)
    return f"usr/{first}/{rest}"
