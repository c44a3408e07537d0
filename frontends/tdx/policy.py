"""Policy: the rules that a recipe sets for its own bakes. Evaluation is the compiler's (``docs/policy.md``)."""

from __future__ import annotations

from typing import Literal

from tdxc import records
from tdxc.ir import MutableRefPolicy, NetworkMode
from tdxc.ir import Policy as PolicyNode

from tdx._declare import describes, here


@records.frozen(init=False)
class Policy:
    """Rules for ``image.set_policy``.

    ``require_frozen_lock``: refuse a bake without ``frozen=True``. ``mutable_ref_policy``: what to do about sources
    that can change under the same name. ``require_integrity``: refuse what nothing verifies. ``network_mode``:
    ``offline`` refuses a bake that may use the network. ``production``: refuse to bake what is for development.
    """

    node: PolicyNode

    @describes
    def __init__(
        self,
        *,
        require_frozen_lock: bool = False,
        mutable_ref_policy: Literal["allow", "warn", "error"] = "warn",
        require_integrity: bool = False,
        network_mode: Literal["online", "offline"] = "online",
        production: bool = False,
    ) -> None:
        node = PolicyNode(
            require_frozen_lock=require_frozen_lock,
            mutable_ref_policy=MutableRefPolicy(mutable_ref_policy),
            require_integrity=require_integrity,
            network_mode=NetworkMode(network_mode),
            production=production,
            span=here(),
        )
        self.__attrs_init__(node)
