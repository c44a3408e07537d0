"""The Python DSL that recipes import.

>>> from tdx import Image
>>> image = Image("node", base="debian/trixie")
>>> image.install("curl")
"""

from tdx import _hook
from tdx._main import main as main
from tdx.build import Build as Build
from tdx.build import artifact as artifact
from tdx.build import git as git
from tdx.build import tarball as tarball
from tdx.image import Image as Image
from tdx.kernel import Kernel as Kernel

_hook.install()
