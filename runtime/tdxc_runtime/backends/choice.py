"""From what a recipe or a command line says to a backend that runs."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from tdxc.diagnostics import Code, DiagnosticError

from tdxc_runtime.backends.base import Backend
from tdxc_runtime.backends.lima import LimaBackend
from tdxc_runtime.backends.local import LocalBackend
from tdxc_runtime.backends.nix import NixBackend


@runtime_checkable
class LimaDescription(Protocol):
    """A recipe's description of a Lima machine; ``memory`` and ``disk`` are sizes such as ``12GiB``."""

    @property
    def cpus(self) -> int:
        """Number of virtual processors."""
        ...

    @property
    def memory(self) -> str:
        """Size of memory."""
        ...

    @property
    def disk(self) -> str:
        """Size of the disk."""
        ...


def backend_for(choice: object) -> Backend:
    """The backend of a name (``local``, ``nix``, ``lima``) or of a recipe's description; None is the local one.

    A description is known by its class name, since this layer does not import the recipe's. Raises DiagnosticError
    (E_BACKEND_UNAVAILABLE) for anything else.
    """
    name = choice if isinstance(choice, str) else type(choice).__name__
    match name:
        case "NoneType" | "local" | "LocalLinuxBackend":
            return LocalBackend()
        case "nix" | "NixMkosiBackend":
            return NixBackend()
        case "lima":
            return LimaBackend()
        case "LimaMkosiBackend" if isinstance(choice, LimaDescription):
            return LimaBackend(cpus=choice.cpus, memory=choice.memory, disk=choice.disk)
        case _:
            raise DiagnosticError.of(
                Code.E_BACKEND_UNAVAILABLE, f"there is no backend {name}", fix="use one of: local, nix, lima"
            )
