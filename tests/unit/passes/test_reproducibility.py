"""The seed and the epoch depend on the image's name and nothing else."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st
from support.images import image, run
from tdxc.ir import Reproducibility
from tdxc.passes.reproducibility import MakeReproducible, image_seed


def test_a_reproducible_image_has_a_fixed_seed_and_epoch() -> None:
    after, _ = run(MakeReproducible(), image(name="prover"))
    assert after.reproducibility == Reproducibility(
        enabled=True, source_date_epoch=0, seed="0b563e4e-2003-51b5-b7df-4b932bfd5252"
    )
    assert after.reproducibility.cause


def test_giving_reproducibility_up_leaves_both_unset() -> None:
    before = image(reproducibility=Reproducibility(enabled=False, source_date_epoch=0, seed=""))
    after, _ = run(MakeReproducible(), before)
    assert after == before


@given(names=st.lists(st.text(min_size=1), unique=True, max_size=20))
def test_seeds_are_uuids_of_version_5_and_differ(names: list[str]) -> None:
    seeds = [image_seed(name) for name in names]
    assert all(uuid.UUID(seed).version == 5 for seed in seeds)
    assert len(set(seeds)) == len(names)
