"""Machines that get their secrets by other ways than a post to their network: vsock, a disk, credentials.

All come from one bake. What another method's recipe compiles to is laid over it in an initrd of its own, which the
kernel unpacks last; nothing else of the tree depends on the method, but modules that the baked image has already.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from pathlib import Path

import attrs
from support.consoles import BOOT_TIMEOUT_S, wait_for_all
from support.guest_disk import direct, said
from tdxc import driver
from tdxc.tree import TreeFile
from tdxc_runtime.vm import ConsoleLine, Credential, DirectKernel, Disk, Machine, boot

TOKEN, PORT = "tok_0123456789abcdef", 8443
WRONG = "Sup3rS3cret"
SETTLED = r"reader: done|Dependency failed for reader"
VSOCK_PORT, BRIDGE_PORT = 8080, 9000
_LOGIN = "usr/lib/systemd/system/devtools-console.service"
_IMAGE_FOLDER = "mkosi.extra/"

RECIPE = '''\
from tdx import Image, SecretSchema, SecretTarget
from tdx.modules import Devtools, SecretDelivery

img = Image("guest-methods", base="debian/trixie")
img.output_targets("qemu")
Devtools(root_password="random", authorized_keys=[{key!r}], packages=["socat"]).apply(img)
delivery = SecretDelivery({arguments})
token = delivery.secret("api_token", schema=SecretSchema(kind="string", min_length=8, pattern="^tok_"))
delivery.secret("port", schema=SecretSchema(kind="int"), targets=[SecretTarget.env("PORT", scope="reader")])
delivery.apply(img)
img.file(
    "/usr/bin/reader",
    content="""#!/bin/sh
set -eu
echo "reader: credential $(sha256sum <"$CREDENTIALS_DIRECTORY/api_token" | cut -c1-64)"
echo "reader: port $PORT"
echo "reader: done"
""",
    mode=0o755,
)
console = {{"Service": {{"StandardOutput": "journal+console", "StandardError": "journal+console"}}}}
img.service("reader", exec="/usr/bin/reader", type="oneshot", secrets=[token], extra_unit=console)
img.debloat(keep_modules=["vsock_loopback"])
bridge = "/usr/bin/socat TCP-LISTEN:{bridge},fork,reuseaddr VSOCK-CONNECT:1:{port}"
img.service("bridge", exec=bridge, ports=[{bridge}], user="bridge")
img.user("bridge", system=True)
'''
"""The image. Its service ``bridge`` leads a TCP port to vsock's loopback (context 1), as no host's vsock is here."""


@attrs.frozen(kw_only=True)
class Variants:
    """The image with each method: what was baked is ``base``."""

    key: str
    base: DirectKernel
    folder: Path

    @classmethod
    def of(cls, uki: Path, *, key: str, folder: Path) -> Variants:
        """The variants of a baked UKI whose recipe had this key."""
        return cls(key=key, base=direct(uki, folder / "kernel"), folder=folder)

    def with_method(self, name: str, arguments: str, *words: str) -> DirectKernel:
        """The image with ``SecretDelivery(arguments)`` and further words on its kernel command line.

        It has no login on the console, as systemd shows no more failures there once somebody may be typing.
        """
        recipe = self.folder / f"{name}.py"
        recipe.write_text(recipe_text(key=self.key, arguments=arguments))
        tree = driver.compile_image(driver.load_recipe(str(recipe)).image).tree
        files = {path: entry.data for path, entry in tree.entries.items() if isinstance(entry, TreeFile)}
        own = {path.removeprefix(_IMAGE_FOLDER): data for path, data in files.items() if _is_methods(path)}
        own[_LOGIN] = b""  # an empty unit is a masked one
        assert self.base.initrd is not None
        data = self.base.initrd.read_bytes()
        initrd = self.folder / f"{name}.initrd"
        initrd.write_bytes(data + bytes(-len(data) % 4) + newc(own))
        return attrs.evolve(self.base, initrd=initrd, command_line=" ".join((self.base.command_line, *words)))


def _is_methods(path: str) -> bool:
    """Whether a file of the tree goes into the image and says how secrets come."""
    return path.startswith(_IMAGE_FOLDER) and path.endswith((".service", "/tdx-guest/config.json"))


def recipe_text(*, key: str, arguments: str) -> str:
    """The recipe whose delivery has these arguments."""
    return RECIPE.format(key=key, arguments=arguments, bridge=BRIDGE_PORT, port=VSOCK_PORT)


def newc(files: Mapping[str, bytes]) -> bytes:
    """A cpio archive of files for folders that are there (Linux, early-userspace/buffer-format.rst)."""
    records = b""
    for inode, (name, data) in enumerate((*files.items(), ("TRAILER!!!", b"")), 1):
        encoded = name.encode() + b"\0"
        fields = (inode, stat.S_IFREG | 0o644, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(encoded), 0)
        for part in (b"070701" + b"".join(b"%08x" % field for field in fields) + encoded, data):
            records += part + bytes(-len(part) % 4)
    return records


def source_disk(folder: Path, secrets: Mapping[str, object]) -> tuple[Disk, Disk]:
    """A first disk with nothing, and a second one that begins with the secrets and ends with NUL bytes."""
    folder.mkdir()
    (folder / "first.raw").write_bytes(bytes(1 << 20))
    (folder / "second.raw").write_bytes(json.dumps({"secrets": secrets}).encode().ljust(1 << 20, b"\0"))
    return Disk(path=folder / "first.raw"), Disk(path=folder / "second.raw")


def credentials(folder: Path, secrets: Mapping[str, object]) -> tuple[Credential, ...]:
    """The secrets as credentials of the machine."""
    folder.mkdir()
    for name, value in secrets.items():
        (folder / name).write_text(str(value))
    return tuple(Credential(name=f"tdx.secret.{name}", path=folder / name) for name in secrets)


def console_of(machine: Machine) -> str:
    """The console of a boot until the service has run or cannot run."""
    lines: list[ConsoleLine] = []
    with boot(machine, on_line=lines.append) as running:
        if "Dependency" in running.console.wait_for(SETTLED, BOOT_TIMEOUT_S)[0]:
            wait_for_all(running, lines, r"start the machine again")
    for line in lines:
        if any(mark in line.text for mark in ("tdx-guest", "reader")):
            print(f"{line.seconds:7.2f} s  {line.text}")
    return said(lines)
