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
from tdxc_runtime.toolsroot.root import Progress, ToolsRoot

MINIMUM_QEMU = (8, 2)
_PROGRAMS = ("qemu-system-x86_64", "swtpm", "swtpm_setup", "mcopy", "mkfs.vfat", "sfdisk")
_OVMF_CODE = ("/usr/share/OVMF/OVMF_CODE_4M.fd",)
_OVMF_VARIABLES = ("/usr/share/OVMF/OVMF_VARS_4M.fd",)


@attrs.frozen(kw_only=True)
class VmTools:
    """A set of tools that belong together; on the host when ``root`` is None."""

    qemu_version: str
    root: ToolsRoot | None = None
    ovmf_code: Path = Path(_OVMF_CODE[0])
    ovmf_variables: Path = Path(_OVMF_VARIABLES[0])

    @property
    def description(self) -> str:
        """For logs: which QEMU this is."""
        return f"QEMU {self.qemu_version}, {f'tools root {self.root.folder.name}' if self.root else 'of the host'}"

    def on_host(self, path: Path) -> Path:
        """A file of the tools as we can read it."""
        return self.root.root / path.relative_to("/") if self.root else path

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
    *, cache: Path | None = None, mirror: str = "", progress: Progress | None = None, suite: str = "trixie"
) -> VmTools:
    """The host's tools if all are there and QEMU is recent enough, else the tools root's (made if need be)."""
    version = host_qemu_version()
    numbers = tuple(int(number) for number in re.findall(r"\d+", version))
    complete = all(map(shutil.which, _PROGRAMS)) and all(Path(p).is_file() for p in (*_OVMF_CODE, *_OVMF_VARIABLES))
    if complete and numbers >= MINIMUM_QEMU:
        return VmTools(qemu_version=version)
    root = ToolsRoot.ensure(cache=cache, mirror=mirror, suite=suite, progress=progress)
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
