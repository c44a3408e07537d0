"""Source builds on the build host: their packages resolved, their cache, and running them one by one.

:mod:`~tdxc_runtime.builds.key` says what decides a result, :mod:`~tdxc_runtime.builds.store` keeps results,
:mod:`~tdxc_runtime.builds.downloads` what was fetched.
"""

from tdxc_runtime.builds.declared import BuildRecord as BuildRecord
from tdxc_runtime.builds.declared import DeclaredBuild as DeclaredBuild
from tdxc_runtime.builds.declared import read_builds as read_builds
from tdxc_runtime.builds.downloads import DOWNLOADS_FOLDER as DOWNLOADS_FOLDER
from tdxc_runtime.builds.downloads import Download as Download
from tdxc_runtime.builds.downloads import DownloadStore as DownloadStore
from tdxc_runtime.builds.key import InputChange as InputChange
from tdxc_runtime.builds.key import cache_key as cache_key
from tdxc_runtime.builds.key import changed_inputs as changed_inputs
from tdxc_runtime.builds.store import STORE_FOLDER as STORE_FOLDER
from tdxc_runtime.builds.store import BuildStore as BuildStore
from tdxc_runtime.builds.store import CacheEntry as CacheEntry
from tdxc_runtime.builds.store import CorruptEntryError as CorruptEntryError
