"""Where a path of the image lies in mkosi's copy of the root file system."""

from __future__ import annotations

from tdxc.diagnostics import Code, DiagnosticError, SourceSpan
from tdxc.ir import Base

_VOLATILE = ("/proc", "/sys", "/dev", "/run", "/tmp")  # noqa: S108 - names of mount points, nothing is made there
"""Mount points of the running system: what an image has there is never seen."""


def image_path(path: str, span: SourceSpan, base: Base) -> str:
    """The path relative to the image's root, with ``/bin`` and its like resolved to where they point.

    A folder of that name in an extra tree would meet the link; a trailing slash says that the folder is meant. Raises
    E_EMIT for a path that the image cannot carry.
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
    relative = path.strip("/")
    if not relative or any(part in {"", ".", ".."} for part in relative.split("/")):
        raise DiagnosticError.of(Code.E_EMIT, f"path {path!r} is not a normalised path in the image", span)
    place = base.place(f"/{relative}/")[1:-1]
    if place != relative and "/" not in relative and not path.endswith("/"):
        raise DiagnosticError.of(
            Code.E_EMIT, f"{path!r} is a link of the distribution", span, fix=f"choose a place below '/{place}'"
        )
    return place
