"""Modules: units of an image that can be composed. A module is any class with ``apply(image)``."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tdx.modules.devtools import Devtools as Devtools
    from tdx.modules.disk_encryption import DiskEncryption as DiskEncryption
    from tdx.modules.key_generation import KeyGeneration as KeyGeneration
    from tdx.modules.secret_delivery import SecretDelivery as SecretDelivery
    from tdx.modules.tdxs import Tdxs as Tdxs
    from tdx.modules.time_synchronisation import TimeSynchronisation as TimeSynchronisation

_FILES = {
    "Devtools": "devtools",
    "DiskEncryption": "disk_encryption",
    "KeyGeneration": "key_generation",
    "SecretDelivery": "secret_delivery",
    "Tdxs": "tdxs",
    "TimeSynchronisation": "time_synchronisation",
}
"""The file of each module, imported when a recipe asks for it: few recipes use all of them."""


def __getattr__(name: str) -> Any:
    """A module's class."""
    if name not in _FILES:
        raise AttributeError(f"module 'tdx.modules' has no attribute {name!r}")
    return getattr(import_module(f"tdx.modules.{_FILES[name]}"), name)


def __dir__() -> list[str]:
    return sorted(_FILES)
