"""Boots that are made again where QEMU itself crashed, which says nothing about the image."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from tdxc.diagnostics import DiagnosticError
from tdxc_runtime.vm.console import QEMU_CRASHED

Result = TypeVar("Result")


def unless_qemu_crashes(attempt: Callable[[], Result]) -> Result:
    """The result of a whole boot; made a second time, from the start, where QEMU crashed in the first."""
    try:
        return attempt()
    except DiagnosticError as fault:
        if fault.diagnostics[0].fix != QEMU_CRASHED:
            raise
        print(f"once more, as QEMU crashed: {fault}")
        return attempt()
