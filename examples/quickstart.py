"""The quickstart: an image in a dozen lines, compiled, locked and baked by ``python examples/quickstart.py``.

Under ``tdxc`` (``tdxc build examples/quickstart.py``) the three verbs at the end are taken note of, not executed.
"""

from tdx import Image
from tdx.backends import LocalLinuxBackend

img = Image(backend=LocalLinuxBackend())
img.install("systemd", "curl", "jq")
img.file("/etc/motd", content="TDX node\n")
img.user("app", system=True, shell="/bin/false")  # noqa: S604 - a login shell
img.service("app", exec="/usr/bin/app")
img.debloat(enabled=True)
img.output_targets("qemu")

img.compile("build/mkosi")  # emit mkosi project tree
img.lock()  # write build/tdx.lock
result = img.bake(frozen=True)  # build with lockfile enforcement
