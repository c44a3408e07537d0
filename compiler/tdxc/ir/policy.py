"""Policy as data; evaluation is tdxc.policy."""

from __future__ import annotations

import enum

from tdxc import records
from tdxc.ir.node import Node


class MutableRefPolicy(enum.StrEnum):
    """What to do about references that can change under the same name (branches, unpinned mirrors)."""

    ALLOW = "allow"
    WARN = "warn"
    ERROR = "error"


class NetworkMode(enum.StrEnum):
    """Whether a bake may use the network."""

    ONLINE = "online"
    OFFLINE = "offline"


@records.frozen(kw_only=True)
class Policy(Node):
    """Rules that a recipe sets for its own bakes."""

    require_frozen_lock: bool = False
    mutable_ref_policy: MutableRefPolicy = MutableRefPolicy.WARN
    require_integrity: bool = False
    network_mode: NetworkMode = NetworkMode.ONLINE
    production: bool = False
