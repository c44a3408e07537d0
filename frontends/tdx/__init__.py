"""The Python DSL that recipes import.

>>> from tdx import Image
>>> image = Image("node", base="debian/trixie")
>>> image.install("curl")
"""

from typing import TYPE_CHECKING, Any

from tdx import _hook
from tdx._main import main as main
from tdx.build import Build as Build
from tdx.build import artifact as artifact
from tdx.build import git as git
from tdx.build import tarball as tarball
from tdx.image import Image as Image
from tdx.kernel import Kernel as Kernel

if TYPE_CHECKING:
    from tdx.secrets import SecretSchema as SecretSchema
    from tdx.secrets import SecretTarget as SecretTarget

_hook.install()


def __getattr__(name: str) -> Any:
    """What few recipes use is imported when one asks for it."""
    if name in {"SecretSchema", "SecretTarget"}:
        from tdx import secrets

        return getattr(secrets, name)
    raise AttributeError(f"module 'tdx' has no attribute {name!r}")
