"""Boots a :class:`~tdxc_runtime.vm.machine.Machine` and leaves no QEMU, no swtpm and no file behind.

Example::

    with boot(Machine(boot=UkiOnDisk(uki=Path("image.efi")))) as vm:
        vm.console.wait_for(r"Reached target", timeout_s=120)
"""

from __future__ import annotations

import base64
import contextlib
import shutil
import signal
import subprocess
import sys
import tempfile
import termios
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError

from tdxc_runtime.disk import make_esp_disk, write_raw
from tdxc_runtime.process import Bind, Running, describe_status, stop_on_signals
from tdxc_runtime.toolsroot.make import scratch_folder
from tdxc_runtime.toolsroot.root import Progress
from tdxc_runtime.vm.accelerator import choose_accelerator
from tdxc_runtime.vm.console import QEMU_CRASHED, Console, ConsoleLine
from tdxc_runtime.vm.machine import Accelerator, Credential, DirectKernel, FromDisks, Machine, UkiOnDisk
from tdxc_runtime.vm.qemu_argv import Firmware, Resources, qemu_argv
from tdxc_runtime.vm.tools import VmTools, find_vm_tools

_INSIDE = Path("/tdxvm/vm")
_SOCKET_TIMEOUT_S = 60.0
_FIRST_WORDS_S = 30.0
_TPM_SOCKET = "tpm.sock"
_CRASHES = frozenset(128 + number for number in (signal.SIGABRT, signal.SIGSEGV, signal.SIGBUS, signal.SIGILL))
_DEVICES = ("kvm", "vhost-vsock")

VSOCK_DEVICE = Path("/dev/vhost-vsock")
"""What QEMU's vhost-vsock-pci opens."""


@attrs.frozen(kw_only=True)
class VirtualMachine:
    """A machine that runs. ``console`` is its first serial port, both ways."""

    console: Console
    accelerator: Accelerator
    qemu: str
    running: Running = attrs.field(repr=False)

    def send(self, text: str) -> None:
        """Type ``text`` at the console."""
        stdin = self.running.popen.stdin
        if stdin is not None:
            stdin.write(text.encode())
            stdin.flush()

    def wait(self, timeout_s: float) -> int:
        """Wait until the guest has powered off or rebooted; QEMU's exit status. E_BACKEND_EXECUTION after that time."""
        try:
            status = self.running.popen.wait(timeout_s)
        except subprocess.TimeoutExpired:
            message = f"the machine was still running after {timeout_s:g} s"
            raise DiagnosticError.of(Code.E_BACKEND_EXECUTION, message) from None
        self.console.join(timeout_s)
        return status


@contextlib.contextmanager
def boot(
    machine: Machine,
    *,
    tools: VmTools | None = None,
    on_line: Callable[[ConsoleLine], None] | None = None,
    progress: Progress | None = None,
) -> Iterator[VirtualMachine]:
    """Boot a machine for the length of the block; its console goes to ``on_line`` line by line.

    A QEMU that crashes before anything of the machine has come on the console is started once more. Raises
    DiagnosticError: E_ARTIFACT when a file of the machine is missing, E_BACKEND_UNAVAILABLE without QEMU,
    E_BACKEND_EXECUTION when it cannot be started.
    """
    with stop_on_signals(), contextlib.ExitStack() as stack:
        launch = _prepare(machine, tools, stack, progress)
        running, console = _start_watched(launch, stack, on_line)
        if has_crashed_at_once(running, console):
            if progress:
                progress("QEMU crashed before the machine said anything; it is started once more")
            running, console = _start_watched(launch, stack, on_line)
        yield VirtualMachine(
            console=console, accelerator=launch.accelerator, qemu=launch.tools.description, running=running
        )


def boot_attached(machine: Machine, *, tools: VmTools | None = None, progress: Progress | None = None) -> int:
    """Boot a machine with its console on our own terminal until it ends or Ctrl-C; QEMU's exit status.

    Raises as :func:`boot` does, also when QEMU crashes, and lets KeyboardInterrupt through after everything has been
    cleaned up.
    """
    with stop_on_signals(), contextlib.ExitStack() as stack:
        launch = _prepare(machine, tools, stack, progress)
        stack.enter_context(_terminal_restored())
        status = launch.start(stack, interactive=True).finish()
    if status in _CRASHES:
        raise DiagnosticError.of(Code.E_BACKEND_EXECUTION, f"QEMU {describe_status(status)}", fix=QEMU_CRASHED)
    return status


def _start_watched(
    launch: _Launch, stack: contextlib.ExitStack, on_line: Callable[[ConsoleLine], None] | None
) -> tuple[Running, Console]:
    running = launch.start(stack, stdin=subprocess.PIPE)
    assert running.popen.stdout is not None  # noqa: S101 - start() gives pipes unless interactive
    return running, Console(running.popen.stdout.fileno(), on_line)


def has_crashed_at_once(running: Running, console: Console) -> bool:
    """Whether QEMU is ended by a fault of its own before the machine says anything.

    Known as soon as a first word comes, and at the latest after the time that the firmware takes to say it.
    """
    return console.ends_without_words(_FIRST_WORDS_S) and running.popen.wait() in _CRASHES


@attrs.frozen(kw_only=True)
class _Launch:
    """Everything that is needed to start QEMU."""

    argv: Sequence[str]
    binds: tuple[Bind, ...]
    tools: VmTools
    accelerator: Accelerator
    place: _Place
    tpm: bool

    def start(self, stack: contextlib.ExitStack, *, stdin: int | None = None, interactive: bool = False) -> Running:
        """Start the TPM and QEMU, which end with ``stack``."""
        if self.tpm:
            _start_tpm(self.tools, self.place, stack)
        running = self.tools.start(
            self.argv,
            self.binds,
            stdin=stdin,
            interactive=interactive,
            devices=_DEVICES,
            env={"TMPDIR": str(_INSIDE)},
        )
        return stack.enter_context(running)


@attrs.frozen(kw_only=True)
class _Place:
    """The folders of one launch: ``scratch`` goes with it, ``state`` may outlive it; each as we and as QEMU see it."""

    scratch: Path
    state: Path
    scratch_inside: Path
    state_inside: Path

    @property
    def binds(self) -> tuple[Bind, ...]:
        return (
            Bind(source=self.scratch, target=self.scratch_inside, writable=True),
            Bind(source=self.state, target=self.state_inside, writable=True),
        )


def _prepare(
    machine: Machine, tools: VmTools | None, stack: contextlib.ExitStack, progress: Progress | None
) -> _Launch:
    """Make all that the machine needs in a scratch folder that goes with ``stack``."""
    check_files(machine)
    tools = tools or find_vm_tools(progress=progress)
    scratch = stack.enter_context(scratch_folder(Path(tempfile.gettempdir()), "tdxvm"))
    state = machine.state.absolute() if machine.state else scratch / "state"
    state.mkdir(parents=True, exist_ok=True)
    place = _Place(
        scratch=scratch,
        state=state,
        scratch_inside=_INSIDE if tools.root else scratch,
        state_inside=Path("/tdxvm/state") if tools.root else state,
    )
    accelerator = machine.accelerator or choose_accelerator(tools, scratch)
    if progress:
        progress(f"{tools.description}, {accelerator.upper()}")
    names, binds = _place_files(machine, tools)
    resources = Resources(
        accelerator=accelerator,
        names=names,
        firmware=_prepare_firmware(machine, names, tools, place) if machine.uefi else None,
        esp_disk=_make_disk(machine.boot, place) if isinstance(machine.boot, UkiOnDisk) else None,
        tpm_socket=place.scratch_inside / _TPM_SOCKET if machine.tpm else None,
        oem_strings=_write_credentials(machine.credentials, place),
    )
    argv = qemu_argv(machine, resources)
    return _Launch(
        argv=argv, binds=(*place.binds, *binds), tools=tools, accelerator=accelerator, place=place, tpm=machine.tpm
    )


def check_files(machine: Machine) -> None:
    """E_ARTIFACT when a file that the machine is made of is missing, E_BACKEND_UNAVAILABLE without vsock for it."""
    given = {disk.path: "as a disk" for disk in machine.disks}
    given |= {credential.path: f"for the credential {credential.name}" for credential in machine.credentials}
    for path in (*_files(machine), *given):
        if path.is_file():
            continue
        what, fix = given.get(path, "to boot"), "" if path in given else "bake the image first: `tdxc build RECIPE`"
        raise DiagnosticError.of(Code.E_ARTIFACT, f"there is no file {path} {what}", fix=fix)
    if machine.vsock_cid is not None and not VSOCK_DEVICE.exists():
        fix = "load the module that makes it, as root: modprobe vhost_vsock"
        raise DiagnosticError.of(Code.E_BACKEND_UNAVAILABLE, f"a machine with vsock needs {VSOCK_DEVICE}", fix=fix)


def _files(machine: Machine) -> tuple[Path, ...]:
    disks = (*(disk.path for disk in machine.disks), *([machine.firmware] if machine.firmware else []))
    match machine.boot:
        case UkiOnDisk(uki=uki):
            return (uki, *disks)
        case DirectKernel(kernel=kernel, initrd=initrd):
            return (kernel, *([initrd] if initrd else []), *disks)
        case FromDisks():
            return disks


def _place_files(machine: Machine, tools: VmTools) -> tuple[dict[Path, Path], tuple[Bind, ...]]:
    """The name of each file as QEMU sees it, and the binds that make it so."""
    files = dict.fromkeys(_files(machine))
    if tools.root is None:
        return {path: path.absolute() for path in files}, ()
    persistent = {disk.path for disk in machine.disks if disk.persistent}
    names = {path: Path(f"/tdxvm/files/{number}") for number, path in enumerate(files)}
    binds = tuple(
        Bind(source=path.absolute(), target=name, writable=path in persistent) for path, name in names.items()
    )
    return names, binds


def _make_disk(boot: UkiOnDisk, place: _Place) -> Path:
    """A sparse disk with the UKI where firmware looks for it on any medium."""
    with (place.scratch / "esp.raw").open("wb") as file:
        write_raw(make_esp_disk(boot.uki, boot.seed).image, file)
    return place.scratch_inside / "esp.raw"


def _write_credentials(credentials: tuple[Credential, ...], place: _Place) -> tuple[Path, ...]:
    """A file for each credential, for us alone, with the string by which systemd knows it; the files as QEMU sees them.

    Form: systemd.system-credentials(7). QEMU takes such a file as it is, so no line break ends it.
    """
    names = []
    for number, credential in enumerate(credentials):
        value = base64.b64encode(credential.path.read_bytes()).decode()
        path = place.scratch / f"credential-{number}"
        path.touch(mode=0o600)
        path.write_text(f"io.systemd.credential.binary:{credential.name}={value}")
        names.append(place.scratch_inside / path.name)
    return tuple(names)


def _prepare_firmware(machine: Machine, names: dict[Path, Path], tools: VmTools, place: _Place) -> Firmware:
    """OVMF with the variable store of the state folder, an empty one at first; or the machine's own file."""
    if machine.firmware is not None:
        return Firmware(code=names[machine.firmware])
    variables = place.state / "uefi-variables.fd"
    if not variables.exists():
        shutil.copyfile(tools.on_host(tools.ovmf_variables), variables)
    return Firmware(code=tools.ovmf_code, variables=place.state_inside / variables.name)


def _start_tpm(tools: VmTools, place: _Place, stack: contextlib.ExitStack) -> None:
    """Start swtpm; it ends when QEMU closes the connection, and with ``stack`` in any case."""
    state, state_inside = place.state / "tpm", place.state_inside / "tpm"
    if not state.is_dir():
        state.mkdir()
        argv = ["swtpm_setup", "--tpm2", "--tpmstate", str(state_inside), "--pcr-banks", "sha256,sha384"]
        tools.run(argv, place.binds)
    socket = place.scratch / _TPM_SOCKET
    socket.unlink(missing_ok=True)  # of a QEMU that crashed
    socket_inside = place.scratch_inside / socket.name
    argv = ["swtpm", "socket", "--tpm2", "--terminate", "--tpmstate", f"dir={state_inside}"]
    argv += ["--ctrl", f"type=unixio,path={socket_inside}"]
    running = stack.enter_context(tools.start(argv, place.binds))
    deadline = time.monotonic() + _SOCKET_TIMEOUT_S
    while not socket.exists():
        if running.popen.poll() is not None or time.monotonic() > deadline:
            raise DiagnosticError.of(
                Code.E_BACKEND_EXECUTION, "the software TPM (swtpm) did not start", fix="run `tdxc doctor`"
            )
        time.sleep(0.02)


@contextlib.contextmanager
def _terminal_restored() -> Iterator[None]:
    """Put our terminal back as it was: QEMU sets it raw, and may be killed."""
    if not sys.stdin.isatty():
        yield
        return
    before = termios.tcgetattr(sys.stdin)
    try:
        yield
    finally:
        termios.tcsetattr(sys.stdin, termios.TCSANOW, before)
