"""The script that holds the packaged kernel's configuration against what the image requires."""

from __future__ import annotations

from tdxc.ir import KernelSource, ResolvedImage

from tdxc_emitters.kconfig import check_script
from tdxc_emitters.mkosi.project import Phase, PhaseScript, origin_of

_HEAD_LINES = 3
"""Shebang, comment and strict mode, which every script of the tree gets anew."""


def kernel_check_scripts(image: ResolvedImage) -> tuple[PhaseScript, ...]:
    """The check, where anything is required of a packaged kernel; one from source is checked where it is built."""
    if not image.kernel.options or image.kernel.source is KernelSource.SOURCE:
        return ()
    body = check_script(image).split("\n", _HEAD_LINES)[_HEAD_LINES]
    return (
        PhaseScript(
            phase=Phase.POSTINST,
            rank=80,
            what="kernel-config",
            purpose="Check that the installed kernel is configured as this image requires.",
            body=body,
            adds_up=True,
            origin=origin_of(image.kernel, "what is required of the kernel"),
        ),
    )
