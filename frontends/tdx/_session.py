"""What a running load knows: the recipe's folder, the images it makes and the verbs it calls.

While a session is active (``tdxc`` loads a recipe), verbs are recorded instead of executed and relative paths start at
the recipe's folder. Without one (``python recipe.py``) they start at the folder of the file that makes the image.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import TYPE_CHECKING

from tdxc import records
from tdxc.diagnostics import SourceSpan

if TYPE_CHECKING:
    from tdx.image import Image


@records.frozen
class Action:
    """A verb that a recipe calls at module level: its name, the image's name and its arguments as name and value."""

    verb: str
    image: str
    profiles: tuple[str, ...] | None
    arguments: tuple[tuple[str, object], ...]
    span: SourceSpan


class Session:
    """``root`` is the recipe's folder, absolute and resolved; images are in the order of their making."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images: list[Image] = []
        self.actions: list[Action] = []


_ACTIVE: ContextVar[Session | None] = ContextVar("tdx_session", default=None)


def active_session() -> Session | None:
    """The load that is going on, if any."""
    return _ACTIVE.get()


@contextmanager
def recipe_session(root: Path) -> Iterator[Session]:
    """Record images and verbs until the block ends."""
    session = Session(root=root.resolve())
    token = _ACTIVE.set(session)
    try:
        yield session
    finally:
        _ACTIVE.reset(token)
