"""Where this program keeps what it can make again: the tools roots, package caches, logs."""

from __future__ import annotations

import os
from pathlib import Path

CACHE_VARIABLE = "TDXVM_CACHE"
"""Environment variable: the folder to use instead of ``~/.cache/tdxvm``."""


def cache_folder() -> Path:
    """The cache of this user, absolute; not created."""
    chosen = os.environ.get(CACHE_VARIABLE)
    if chosen:
        return Path(chosen).expanduser().absolute()
    import platformdirs

    return Path(platformdirs.user_cache_path("tdxvm"))
