"""Engines that run mkosi on a compiled tree: on this machine, through Nix, or in a Lima virtual machine."""

from tdxc_runtime.backends.base import Artifact as Artifact
from tdxc_runtime.backends.base import ArtifactKind as ArtifactKind
from tdxc_runtime.backends.base import Backend as Backend
from tdxc_runtime.backends.base import BakeOutput as BakeOutput
from tdxc_runtime.backends.base import BakeRequest as BakeRequest
from tdxc_runtime.backends.base import Durations as Durations
from tdxc_runtime.backends.base import target_kind as target_kind
from tdxc_runtime.backends.choice import backend_for as backend_for
from tdxc_runtime.backends.lima import LimaBackend as LimaBackend
from tdxc_runtime.backends.local import LocalBackend as LocalBackend
from tdxc_runtime.backends.local import bake as bake
from tdxc_runtime.backends.mkosi_tool import tool_versions as tool_versions
from tdxc_runtime.backends.nix import NixBackend as NixBackend
