"""Shell texts that need no values: each is the body of a script, with its facts in comments."""

from __future__ import annotations

import functools
from pathlib import Path


@functools.cache
def read_template(name: str) -> str:
    """The text of one template. Raises FileNotFoundError for a name that the package does not hold."""
    return Path(__file__).with_name(name).read_text(encoding="utf-8")
