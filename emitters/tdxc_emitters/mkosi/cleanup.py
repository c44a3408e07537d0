"""The last script of a reproducible image: what differs between two builds of the same recipe goes."""

from __future__ import annotations

from tdxc import quoting
from tdxc.ir import ResolvedImage

from tdxc_emitters.mkosi.project import Phase, PhaseScript, origin_of
from tdxc_emitters.mkosi.templates import read_template

_RANK = 90


def cleanup_scripts(image: ResolvedImage) -> tuple[PhaseScript, ...]:
    """The clean-up, where the recipe does not give up reproducibility."""
    if not image.reproducibility.enabled:
        return ()
    return (
        PhaseScript(
            phase=Phase.FINALIZE,
            rank=_RANK,
            what="reproducible",
            purpose="Remove what differs between two builds of the same recipe.",
            body=f"image_version={quoting.shell_word(image.version)}\n{read_template('cleanup.sh')}",
            origin=origin_of(image.reproducibility, "two bakes give the same bytes"),
        ),
    )
