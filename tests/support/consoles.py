"""Waiting for several lines of a console, in whatever order they come: systemd writes its own words to it at once, and
those of services take the way through the journal."""

from __future__ import annotations

import re

from tdxc_runtime.vm import ConsoleLine, VirtualMachine

BOOT_TIMEOUT_S = 420.0


def wait_for_all(machine: VirtualMachine, lines: list[ConsoleLine], *patterns: str) -> None:
    """Wait until each pattern has been in a line; ``lines`` is what the machine's ``on_line`` appends to."""
    for pattern in patterns:
        if not any(re.search(pattern, line.text) for line in tuple(lines)):
            machine.console.wait_for(pattern, BOOT_TIMEOUT_S)
