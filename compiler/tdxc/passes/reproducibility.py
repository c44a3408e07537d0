"""reproducibility: the inputs of a build that would otherwise be chosen anew each time.

::

    Image("prover")    ->  seed 5f0c...  (UUIDv5 of the name), source_date_epoch 0
"""

from __future__ import annotations

import uuid
from typing import ClassVar

from tdxc import records
from tdxc.ir import ResolvedImage
from tdxc.passes.base import PassContext

SEED_NAMESPACE = uuid.UUID("0a7f0a52-6d2b-5b6e-9d0e-2f6f3a1f7b11")
"""Namespace of image names for UUIDv5 (RFC 9562, section 5.5); fixed for ever, as disks take identifiers from it."""

SOURCE_DATE_EPOCH = 0
"""1 January 1970: the one time that no build can be earlier than, so that clamping leaves no other time."""


class MakeReproducible:
    """Fixes the epoch and derives the seed from the image's name; both stay unset when the recipe gives that up."""

    name: ClassVar[str] = "reproducibility"
    description: ClassVar[str] = "fix the clock, the seed of identifiers and what else a build would choose"
    requires: ClassVar[frozenset[str]] = frozenset()
    establishes: ClassVar[frozenset[str]] = frozenset({"reproducibility"})

    def run(self, image: ResolvedImage, ctx: PassContext) -> ResolvedImage:
        """Decide the epoch and the seed."""
        chosen = image.reproducibility
        if not chosen.enabled:
            return image
        fixed = records.evolve(
            chosen,
            span=chosen.span if chosen.span.line else image.span,
            cause="reproducibility: two bakes of one recipe give the same bytes",
            source_date_epoch=SOURCE_DATE_EPOCH,
            seed=image_seed(image.name),
        )
        return records.evolve(image, reproducibility=fixed)


def image_seed(name: str) -> str:
    """The UUID from which mkosi derives identifiers of partitions and file systems; one image name, one seed."""
    return str(uuid.uuid5(SEED_NAMESPACE, name))
