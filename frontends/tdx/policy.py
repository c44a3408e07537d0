"""Policy: the rules that a recipe sets for its own bakes. Evaluation is the compiler's (``docs/policy.md``)."""

from __future__ import annotations

from typing import Literal

from tdxc import records
from tdxc.ir import MutableRefPolicy, NetworkMode
from tdxc.ir import Policy as PolicyNode

from tdx._declare import describes, here


@records.frozen(init=False)
class Policy:
    """Rules for ``image.set_policy``; a rule that is left out is the loosest, and in a profile the image's.

    ``require_frozen_lock``: refuse a bake without ``frozen=True``. ``mutable_ref_policy``: what to do about sources
    that can change under the same name (``warn`` if left out). ``require_integrity``: refuse what nothing verifies.
    ``network_mode``: ``offline`` refuses a bake that may use the network. ``production``: refuse to bake what is for
    development.
    """

    node: PolicyNode

    @describes
    def __init__(
        self,
        *,
        require_frozen_lock: bool | None = None,
        mutable_ref_policy: Literal["allow", "warn", "error"] | None = None,
        require_integrity: bool | None = None,
        network_mode: Literal["online", "offline"] | None = None,
        production: bool | None = None,
    ) -> None:
        node = PolicyNode(
            require_frozen_lock=require_frozen_lock,
            mutable_ref_policy=MutableRefPolicy(mutable_ref_policy) if mutable_ref_policy else None,
            require_integrity=require_integrity,
            network_mode=NetworkMode(network_mode) if network_mode else None,
            production=production,
            span=here(),
        )
        self.__attrs_init__(node)
