"""Shell texts that need no values."""

from __future__ import annotations

from importlib import resources


def read_template(name: str) -> str:
    """The text of one template. Raises FileNotFoundError for a name that the package does not hold."""
    return (resources.files(__name__) / name).read_text(encoding="utf-8")
