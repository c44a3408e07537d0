"""A software TPM to stand behind a machine's TPM device while its tables are read.

The tables show that there is a TPM and of which kind, so QEMU has to have one; its state is fresh and thrown away.
"""

from __future__ import annotations

import contextlib
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError

from tdxc_runtime.process import Bind
from tdxc_runtime.vm.tools import VmTools

_TIMEOUT_S = 60.0
_INSIDE = Path("/tdxvm/tpm")


@attrs.frozen(kw_only=True)
class TpmBackend:
    """The words that connect QEMU's device ``tpm0`` to the TPM, and what has to be visible to QEMU for that.

    ``socket`` is the TPM's control socket as QEMU sees it.
    """

    socket: Path | None = None
    words: tuple[str, ...] = ()
    binds: tuple[Bind, ...] = ()


NO_TPM = TpmBackend()


@contextlib.contextmanager
def software_tpm(tools: VmTools) -> Iterator[TpmBackend]:
    """Run swtpm for the block; E_BACKEND_EXECUTION when it does not start."""
    with tempfile.TemporaryDirectory(prefix="tdxvm-tpm-") as name:
        scratch = Path(name)
        inside = _INSIDE if tools.root else scratch
        binds: Sequence[Bind] = (Bind(source=scratch, target=inside, writable=True),)
        socket = f"type=unixio,path={inside / 'socket'}"
        argv = ["swtpm", "socket", "--tpm2", "--terminate", "--tpmstate", f"dir={inside}", "--ctrl", socket]
        with tools.start(argv, binds) as running:
            deadline = time.monotonic() + _TIMEOUT_S
            while not (scratch / "socket").exists():
                if running.popen.poll() is not None or time.monotonic() > deadline:
                    raise DiagnosticError.of(
                        Code.E_BACKEND_EXECUTION, "the software TPM (swtpm) did not start", fix="run `tdxc doctor`"
                    )
                time.sleep(0.01)
            chardev = f"socket,id=tdxvm-tpm,path={inside / 'socket'}"
            words = ("-chardev", chardev, "-tpmdev", "emulator,id=tpm0,chardev=tdxvm-tpm")
            yield TpmBackend(socket=inside / "socket", words=words, binds=tuple(binds))
