"""The tools root: made once, pinned by a manifest, entered for each command. See :class:`ToolsRoot`."""

from tdxc_runtime.process import Bind as Bind
from tdxc_runtime.toolsroot.apt_sources import MIRROR_VARIABLE as MIRROR_VARIABLE
from tdxc_runtime.toolsroot.apt_sources import Mirror as Mirror
from tdxc_runtime.toolsroot.apt_sources import find_mirror as find_mirror
from tdxc_runtime.toolsroot.cache import CACHE_VARIABLE as CACHE_VARIABLE
from tdxc_runtime.toolsroot.cache import cache_folder as cache_folder
from tdxc_runtime.toolsroot.make import Manifest as Manifest
from tdxc_runtime.toolsroot.root import ToolsRoot as ToolsRoot
