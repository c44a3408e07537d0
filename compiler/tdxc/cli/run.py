"""``tdxc run``: boot a baked image in QEMU, its console on this terminal."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tdxc import records
from tdxc.cli.progress import Steps
from tdxc.diagnostics import Code, DiagnosticError

if TYPE_CHECKING:
    from tdxc_runtime.vm import ConsoleLine, Credential, Disk, Forward, Machine, UkiOnDisk

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("run")
@click.argument("what", metavar="[IMAGE|RECIPE]", default="build/output")
@click.option("--memory", default="2G", show_default=True, metavar="SIZE", help="Memory, such as 2G or 512M.")
@click.option("--vcpus", type=click.IntRange(1, 255), default=2, show_default=True, help="Virtual processors.")
@click.option("--boot", type=click.Choice(["disk", "direct"]), default="disk", show_default=True,
              help="From an EFI system partition as a cloud does, or by QEMU's -kernel.")  # fmt: skip
@click.option("--forward", "forwards", multiple=True, metavar="HOST:GUEST[/udp]", help="Forward a loopback port.")
@click.option("--accel", type=click.Choice(["kvm", "tcg"]), help="KVM where it really works, else TCG, by default.")
@click.option(
    "--state", type=click.Path(path_type=Path, file_okay=False), help="Keep TPM state and UEFI variables here."
)
@click.option("--no-network", is_flag=True, help="No network interface.")
@click.option("--vsock", metavar="CID", type=click.IntRange(3, (1 << 32) - 2),
              help="Context identifier by which this machine reaches the guest over vsock.")  # fmt: skip
@click.option("--disk", "disks", multiple=True, metavar="FILE", type=_FILE,
              help="A further disk (.qcow2, .vhd, else raw), to which the guest writes.")  # fmt: skip
@click.option("--credential", "credentials", multiple=True, metavar="NAME=FILE",
              help="Hand the content of a file over as a system credential (SMBIOS).")  # fmt: skip
@click.option("--until", metavar="REGEX", help="Print the console until a line matches, then stop the machine.")
@click.option("--timeout", type=click.IntRange(1), default=300, show_default=True, help="Seconds for --until.")
def command(
    what: str, memory: str, vcpus: int, boot: str, forwards: tuple[str, ...], accel: str | None, state: Path | None,
    no_network: bool, vsock: int | None, disks: tuple[Path, ...], credentials: tuple[str, ...], until: str | None,
    timeout: int,
) -> None:  # fmt: skip
    """Boot IMAGE in QEMU: the output folder of a bake, or a UKI (build/output by default); or RECIPE's last bake.

    When build/output is no bake of RECIPE as it is now, `tdxc build RECIPE` comes first.

    The console is attached; Ctrl-C stops the machine and cleans up. With --until it exits with 0 once the line has
    come, and with 3 if it has not come in time.
    """
    from tdxc_runtime.vm import Accelerator, DirectKernel, FromDisks, Machine

    from tdxc.baked import firmware_of
    from tdxc.grammar.size import parse_size

    _check_pattern(until or "")

    machine = Machine(
        boot=FromDisks(),
        memory_mib=parse_size(memory) >> 20,
        vcpus=vcpus,
        network=not no_network,
        forwards=tuple(_forward(text) for text in forwards),
        vsock_cid=vsock,
        disks=tuple(_disk(path) for path in disks),
        credentials=tuple(_credential(text) for text in credentials),
        state=state,
        accelerator=Accelerator(accel) if accel else None,
    )
    image = _baked(what)  # behind all that can be wrong with the options, as it may take minutes
    uki = find_uki(image)
    machine = records.evolve(
        machine,
        boot=_on_disk(uki, image) if boot == "disk" else DirectKernel(kernel=uki),
        firmware=firmware_of(image if image.is_dir() else image.parent),
    )
    if until is None:
        _attach(machine)
    else:
        _watch(machine, until, timeout)


def _baked(what: str) -> Path:
    """An image as it is named; for a recipe the output folder of its last bake, which is made if need be."""
    from tdxc.cli.recipe import is_last_bake, names_recipe, open_recipe

    if not names_recipe(what):
        return Path(what)
    from tdxc.bake import DEFAULT_OUTPUT

    loaded = open_recipe(what)
    if is_last_bake(loaded.image, DEFAULT_OUTPUT):
        return DEFAULT_OUTPUT
    from tdxc.cli.build import bake_by_default

    return bake_by_default(loaded, what)


def _on_disk(uki: Path, image: Path) -> UkiOnDisk:
    """The disk that the bake makes for the UKI, so that what `tdxc measure` predicts of its partitions is shown."""
    from tdxc_runtime.vm import UkiOnDisk

    from tdxc.baked import read_bake

    seed = read_bake(image if image.is_dir() else image.parent).seed
    return UkiOnDisk(uki=uki) if seed is None else UkiOnDisk(uki=uki, seed=seed)


def find_uki(image: Path) -> Path:
    """The UKI of an output folder, or the file itself.

    Raises E_ARTIFACT when there is none or more than one, or when the file is none: the firmware would pass over it
    without a word.
    """
    path = image if image.is_file() else _only_uki(image)
    from tdxc_runtime.measure.pe.diagnose import artifact_error, read_image
    from tdxc_runtime.measure.sources import FileSource

    with FileSource(path) as source:
        if read_image(source, artifact=str(path)).section(".linux") is None:
            raise artifact_error(
                str(path), f"'{path}' is an EFI image without a kernel (.linux)", "name the UKI or its folder"
            )
    return path


def _only_uki(image: Path) -> Path:
    found = sorted(image.glob("*.efi")) if image.is_dir() else []
    if len(found) != 1:
        what = "holds no UKI" if image.is_dir() and not found else "holds several UKIs" if found else "does not exist"
        raise DiagnosticError.of(
            Code.E_ARTIFACT, f"'{image}' {what}", fix="bake first: tdxc build RECIPE -o DIR, then tdxc run DIR"
        )
    return found[0]


def _attach(machine: Machine) -> None:
    from tdxc_runtime.vm import boot_attached

    boot_attached(machine, progress=lambda text: click.echo(text, err=True))


def _check_pattern(until: str) -> None:
    import re

    try:
        re.compile(until)
    except re.error as error:
        raise click.BadParameter(f"not a regular expression: {error}", param_hint="--until") from error


def _watch(machine: Machine, until: str, timeout: int) -> None:
    from tdxc_runtime.vm import boot

    def show(line: ConsoleLine) -> None:
        click.echo(f"{line.seconds:7.1f} s | {line.text}")

    with Steps() as steps:
        steps.step("starting QEMU")
        with boot(machine, on_line=show, progress=steps.step) as running:
            running.console.wait_for(until, timeout)


def _disk(path: Path) -> Disk:
    """A disk of its own format. The name decides and not the content, which a guest can write."""
    from tdxc_runtime.vm import Disk, DiskFormat

    formats = {".qcow2": DiskFormat.QCOW2, ".vhd": DiskFormat.VHD}
    return Disk(path=path, format=formats.get(path.suffix.lower(), DiskFormat.RAW), persistent=True)


def _credential(text: str) -> Credential:
    from tdxc_runtime.vm import Credential

    name, equals, path = text.partition("=")
    try:
        credential = Credential(name=name, path=Path(path))
    except ValueError:
        equals = ""
    if not equals or not path:
        raise click.BadParameter(f"'{text}' is not NAME=FILE", param_hint="--credential")
    return credential


def _forward(text: str) -> Forward:
    import re

    from tdxc_runtime.vm import Forward, Protocol

    match = re.fullmatch(r"([0-9]{1,5}):([0-9]{1,5})(?:/(tcp|udp))?", text)
    if match is None or not all(0 < int(port) < 65536 for port in match.group(1, 2)):
        raise click.BadParameter(f"'{text}' is not HOST:GUEST[/udp]", param_hint="--forward")
    return Forward(host_port=int(match[1]), guest_port=int(match[2]), protocol=Protocol(match[3] or "tcp"))
