"""What of this machine a bake and a boot need, whether it works, and the exact fix where it does not.

Each check is a function that looks and returns a :class:`Finding`; none changes anything or makes a tools root.
"""

from __future__ import annotations

import enum
import os
import platform
import shutil
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import attrs
from tdxc.diagnostics import DiagnosticError

from tdxc_runtime.backends.mkosi_tool import MINIMUM_VERSION, host_mkosi_version, usable_host_mkosi
from tdxc_runtime.process import Confinement, run
from tdxc_runtime.toolsroot.apt_options import DEBIAN_KEYRING, fetchable
from tdxc_runtime.toolsroot.apt_sources import find_mirror
from tdxc_runtime.toolsroot.cache import cache_folder
from tdxc_runtime.toolsroot.contents import DEFAULT_SUITE
from tdxc_runtime.toolsroot.root import ToolsRoot, root_folder
from tdxc_runtime.toolsroot.userns import find_obstacle
from tdxc_runtime.vm.accelerator import kvm_fault
from tdxc_runtime.vm.tools import MINIMUM_QEMU, VmTools, existing_vm_tools, host_qemu_version

_LEAST_FREE_GB = 8
_GB = 10**9


class Status(enum.StrEnum):
    """``WARN``: it works, with something to know. ``FAIL``: a bake or a boot cannot do without it."""

    OK = "ok"
    WARN = "warn"
    FAIL = "fail"


@attrs.frozen(kw_only=True)
class Finding:
    """The result of one check: its name, how it stands, what was found, and what to do where it is not fine."""

    name: str
    status: Status
    detail: str
    fix: str = ""


def examine(*, cache: Path | None = None, mirror: str = "") -> tuple[Finding, ...]:
    """Run all checks, in the order in which a bake and a boot would meet them."""
    cache = cache or cache_folder()
    tools = existing_vm_tools(cache=cache)
    checks: tuple[Callable[[], Finding], ...] = (
        check_platform,
        check_mkosi,
        check_mmdebstrap,
        check_keyring,
        lambda: check_tools_root(cache),
        check_namespaces,
        lambda: check_disk_space(cache),
        lambda: check_mirror(mirror),
        lambda: check_kvm(tools),
        lambda: check_qemu(tools),
        lambda: check_file(tools, "OVMF", VmTools.firmware_files),
        lambda: check_file(tools, "swtpm", VmTools.tpm_files),
    )
    return tuple(check() for check in checks)


def check_platform(system: str = sys.platform, machine: str = "") -> Finding:
    """Linux on x86-64 is what bakes and boots; elsewhere the Lima backend may."""
    machine = machine or platform.machine()
    if system != "linux":
        fix = "use LimaMkosiBackend, which bakes in a Linux machine"
        return Finding(name="platform", status=Status.FAIL, detail=f"{system}, not Linux", fix=fix)
    if machine != "x86_64":
        fix = "bake on an x86-64 machine: TDX images are for x86-64"
        return Finding(name="platform", status=Status.WARN, detail=f"Linux on {machine}", fix=fix)
    return Finding(name="platform", status=Status.OK, detail="Linux on x86-64")


def check_mkosi() -> Finding:
    """The host's own mkosi is a matter of taste: the tools root has one."""
    version, least = host_mkosi_version(), ".".join(map(str, MINIMUM_VERSION))
    if usable_host_mkosi():
        return Finding(name="mkosi", status=Status.OK, detail=f"{version}, of the host")
    if version:
        detail = f"{version} of the host is older than {least} or lacks what it calls; the tools root's is used"
        return Finding(name="mkosi", status=Status.OK, detail=detail)
    return Finding(name="mkosi", status=Status.OK, detail="not on PATH; the tools root's is used")


def check_mmdebstrap() -> Finding:
    """What the tools root is made with; no need for it where one is there, or the host's mkosi will do."""
    if shutil.which("mmdebstrap"):
        return Finding(name="mmdebstrap", status=Status.OK, detail="installed")
    status = Status.WARN if usable_host_mkosi() or ToolsRoot.find() else Status.FAIL
    return Finding(name="mmdebstrap", status=status, detail="not installed", fix="run `apt-get install mmdebstrap`")


def check_keyring(keyring: Path = DEBIAN_KEYRING) -> Finding:
    """The keys that Debian's archive is checked with."""
    if keyring.is_file():
        return Finding(name="archive keys", status=Status.OK, detail=str(keyring))
    fix = "run `apt-get install debian-archive-keyring`"
    return Finding(name="archive keys", status=Status.FAIL, detail=f"there is no {keyring}", fix=fix)


def check_tools_root(cache: Path) -> Finding:
    """Made, whole, or to be made by the first bake."""
    root = ToolsRoot.find(cache=cache)
    if root is not None:
        versions = ", ".join(f"{name} {root.manifest.packages[name]}" for name in ("mkosi", "systemd"))
        return Finding(name="tools root", status=Status.OK, detail=f"{root.folder} ({versions})")
    folder = root_folder(cache, DEFAULT_SUITE)
    what = "damaged" if folder.exists() else "not made yet"
    detail = f"{what}; the first bake or boot makes it in a minute or two"
    return Finding(name="tools root", status=Status.OK if what == "not made yet" else Status.WARN, detail=detail)


def check_namespaces() -> Finding:
    """As root, mount and PID namespaces; otherwise a user namespace with a range of ids."""
    if os.geteuid() == 0:
        return _root_namespaces()
    obstacle = find_obstacle()
    if obstacle is None:
        return Finding(name="namespaces", status=Status.OK, detail="user namespaces work for this user")
    return Finding(name="namespaces", status=Status.FAIL, detail=obstacle.detail, fix=f"{obstacle.fix}; or run as root")


def _root_namespaces() -> Finding:
    """Really make them: root of a container may be without the right to."""
    try:
        run(["true"], confinement=Confinement(namespaces=True), timeout_s=30)
    except DiagnosticError as fault:
        detail = f"root may not make namespaces here: {fault.diagnostics[0].message}"
        fix = "run outside of the container, or start it with --privileged (CAP_SYS_ADMIN and no seccomp filter)"
        return Finding(name="namespaces", status=Status.FAIL, detail=detail, fix=fix)
    return Finding(name="namespaces", status=Status.OK, detail="running as root")


def check_disk_space(cache: Path) -> Finding:
    """A tools root takes one gigabyte, a bake a few more for a while."""
    existing = next(folder for folder in (cache, *cache.parents) if folder.exists())
    free_gb = shutil.disk_usage(existing).free / _GB
    detail = f"{free_gb:.1f} GB free for {cache}"
    if free_gb >= _LEAST_FREE_GB:
        return Finding(name="disk space", status=Status.OK, detail=detail)
    fix = f"free {_LEAST_FREE_GB} GB there, or set TDXVM_CACHE to a folder on a larger disk"
    return Finding(name="disk space", status=Status.WARN, detail=detail, fix=fix)


def check_mirror(option: str = "") -> Finding:
    """Whether the mirror that a bake would use answers."""
    mirror = find_mirror(option)
    if mirror is None:
        detail = "none named here; mmdebstrap's and mkosi's own defaults are used"
        return Finding(name="mirror", status=Status.OK, detail=detail)
    if fetchable(f"{mirror.uri.rstrip('/')}/dists/{DEFAULT_SUITE}/InRelease"):
        return Finding(name="mirror", status=Status.OK, detail=f"{mirror.uri}, {mirror.origin}")
    detail = f"{mirror.uri}, {mirror.origin}, does not answer with suite {DEFAULT_SUITE}"
    fix = "check the network and apt's proxy settings, or name another mirror with --mirror or TDXVM_MIRROR"
    return Finding(name="mirror", status=Status.FAIL, detail=detail, fix=fix)


def check_kvm(tools: VmTools | None) -> Finding:
    """Whether a guest really runs under KVM; boots work without it, several times slower."""
    if tools is None:
        return Finding(name="KVM", status=Status.OK, detail="tried once there is a QEMU to try it with")
    fault = kvm_fault(tools, Path(tempfile.gettempdir()))
    if not fault:
        return Finding(name="KVM", status=Status.OK, detail="a guest ran")
    return Finding(name="KVM", status=Status.WARN, detail=f"{fault}; QEMU translates instead (TCG, slower)")


def check_qemu(tools: VmTools | None) -> Finding:
    """The QEMU that a boot would use."""
    if tools is not None:
        return Finding(name="QEMU", status=Status.OK, detail=tools.description)
    version, least = host_qemu_version(), ".".join(map(str, MINIMUM_QEMU))
    what = f"{version} of the host is older than {least}" if version else "not on PATH"
    return Finding(name="QEMU", status=Status.OK, detail=f"{what}; the tools root brings one")


def check_file(tools: VmTools | None, name: str, files: Callable[[VmTools], tuple[Path, ...]]) -> Finding:
    """Whether files that belong to QEMU's tools are there."""
    if tools is None:
        return Finding(name=name, status=Status.OK, detail="comes with the tools root")
    missing = [str(path) for path in files(tools) if not path.is_file()]
    if not missing:
        return Finding(name=name, status=Status.OK, detail=", ".join(map(str, files(tools))))
    fix = "run `apt-get install ovmf swtpm swtpm-tools`"
    return Finding(name=name, status=Status.FAIL, detail=f"missing: {', '.join(missing)}", fix=fix)
