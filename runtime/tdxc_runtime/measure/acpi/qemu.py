"""Which QEMU: the program, where it runs, its version and the digest of its file."""

from __future__ import annotations

import hashlib
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError

from tdxc_runtime.measure.machine import QemuVersion
from tdxc_runtime.vm.tools import VmTools, find_vm_tools

_PROGRAM = "qemu-system-x86_64"
_VERSION_LINE = "emulator version"
_CANDIDATES = (Path("/usr/bin") / _PROGRAM, Path("/usr/local/bin") / _PROGRAM)


@attrs.frozen(kw_only=True)
class Qemu:
    """A QEMU program.

    ``program`` is its name or path as ``tools`` see it. The very build counts, because ACPI tables differ between
    builds that offer one machine type: hence the version text and the SHA-256 of the file; they decide whether two are
    equal.
    """

    program: str
    tools: VmTools = attrs.field(eq=False)
    version: QemuVersion
    version_text: str
    sha256: str


def find_qemu(path: Path | None = None) -> Qemu:
    """The QEMU at ``path``, or the one that ``tdxc run`` uses; E_BACKEND_UNAVAILABLE when it does not run."""
    if path is not None:
        tools, program, file = VmTools(qemu_version=""), str(path), path
    else:
        tools, program = find_vm_tools(), _PROGRAM
        on_host = (tools.on_host(candidate) for candidate in _CANDIDATES)
        file = next((candidate for candidate in on_host if candidate.is_file()), Path(program))
    return read_qemu(tools, program, file)


def read_qemu(tools: VmTools, program: str, file: Path) -> Qemu:
    """Ask a program for its version and hash its ``file``; E_BACKEND_UNAVAILABLE when that cannot be read."""
    try:
        with file.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
    except OSError as error:
        raise DiagnosticError.of(
            Code.E_BACKEND_UNAVAILABLE, f"cannot read '{file}': {error.strerror}", fix="name the QEMU of the host"
        ) from None
    lines = tools.run([program, "--version"], ()).lines
    text = next((line for line in lines if _VERSION_LINE in line), "")
    if not text:
        raise DiagnosticError.of(
            Code.E_BACKEND_UNAVAILABLE, f"'{program}' does not say that it is QEMU", fix="name the QEMU of the host"
        )
    return Qemu(program=program, tools=tools, version=QemuVersion.parse(text), version_text=text, sha256=sha256)
