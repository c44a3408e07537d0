"""Where QEMU, OVMF and swtpm come from: this machine if they are recent enough, else the tools root.

QEMU 7.2 (Debian 12) crashes while translating a current kernel; 8.2 is the oldest that was seen to work.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

import attrs

from tdxc_runtime.process import Bind, Completed, LineCallback, Running, run, start
from tdxc_runtime.toolsroot.contents import DEFAULT_SUITE
from tdxc_runtime.toolsroot.root import Progress, ToolsRoot

MINIMUM_QEMU = (8, 2)
_PROGRAMS = ("qemu-system-x86_64", "swtpm", "swtpm_setup")
_OVMF = Path("/usr/share/OVMF")


@attrs.frozen(kw_only=True)
class VmTools:
    """A set of tools that belong together; on the host when ``root`` is None."""

    qemu_version: str
    root: ToolsRoot | None = None
    ovmf_code: Path = _OVMF / "OVMF_CODE_4M.fd"
    ovmf_variables: Path = _OVMF / "OVMF_VARS_4M.fd"

    @property
    def description(self) -> str:
        """For logs: which QEMU this is."""
        return f"QEMU {self.qemu_version}, {f'tools root {self.root.folder.name}' if self.root else 'of the host'}"

    def on_host(self, path: Path) -> Path:
        """A file of the tools as we can read it."""
        return self.root.root / path.relative_to("/") if self.root else path

    def firmware_files(self) -> tuple[Path, ...]:
        """OVMF's code and empty variable store, as we can read them."""
        return self.on_host(self.ovmf_code), self.on_host(self.ovmf_variables)

    def tpm_files(self) -> tuple[Path, ...]:
        """The programs of the software TPM, as we can read them."""
        names = ("swtpm", "swtpm_setup")
        if self.root is None:
            return tuple(Path(shutil.which(name) or name) for name in names)
        return tuple(self.root.root / "usr/bin" / name for name in names)

    def run(
        self,
        argv: Sequence[str],
        binds: Sequence[Bind],
        *,
        devices: Sequence[str] = (),
        on_line: LineCallback | None = None,
        timeout_s: float | None = None,
        check: bool = True,
    ) -> Completed:
        """Run one of the tools to its end; raises DiagnosticError."""
        if self.root is None:
            return run(argv, on_line=on_line, timeout_s=timeout_s, check=check)
        return self.root.run(argv, binds=binds, devices=devices, on_line=on_line, timeout_s=timeout_s, check=check)

    def start(
        self,
        argv: Sequence[str],
        binds: Sequence[Bind],
        *,
        stdin: int | None = None,
        interactive: bool = False,
        devices: Sequence[str] = (),
        env: dict[str, str] | None = None,
    ) -> Running:
        """Start one of the tools; it ends with the returned object's block."""
        if self.root is None:
            return start(argv, stdin=stdin, interactive=interactive)
        return start(
            argv,
            cwd=Path("/"),
            env=self.root.environment(env),
            stdin=stdin,
            interactive=interactive,
            confinement=self.root.confinement(binds=binds, devices=devices),
        )


def find_vm_tools(
    *, cache: Path | None = None, mirror: str = "", progress: Progress | None = None, suite: str = DEFAULT_SUITE
) -> VmTools:
    """The host's tools if all are there and QEMU is recent enough, else the tools root's (made if need be)."""
    return _host_tools() or _root_tools(ToolsRoot.ensure(cache=cache, mirror=mirror, suite=suite, progress=progress))


def existing_vm_tools(*, cache: Path | None = None, suite: str = DEFAULT_SUITE) -> VmTools | None:
    """What :func:`find_vm_tools` would give, if it is there without making anything."""
    root = None if (host := _host_tools()) else ToolsRoot.find(cache=cache, suite=suite)
    return _root_tools(root) if root else host


def _host_tools() -> VmTools | None:
    version = host_qemu_version()
    numbers = tuple(int(number) for number in re.findall(r"\d+", version))
    tools = VmTools(qemu_version=version)
    complete = all(map(shutil.which, _PROGRAMS)) and all(path.is_file() for path in tools.firmware_files())
    return tools if complete and numbers >= MINIMUM_QEMU else None


def _root_tools(root: ToolsRoot) -> VmTools:
    packaged = re.match(r"(?:\d+:)?([\d.]+)", root.manifest.packages["qemu-system-x86"])
    return VmTools(qemu_version=packaged[1] if packaged else "", root=root)


def host_qemu_version() -> str:
    """The version of the QEMU on PATH; empty when there is none that runs."""
    if shutil.which(_PROGRAMS[0]) is None:
        return ""
    try:
        answer = subprocess.run([_PROGRAMS[0], "--version"], capture_output=True, text=True, timeout=30, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return ""
    match = re.search(r"version (\d+(?:\.\d+)*)", answer.stdout)
    return match[1] if match else ""
