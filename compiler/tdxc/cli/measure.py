"""``tdxc measure``: predict the TDX registers and PCRs that an image will show."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tdxc.cli.recipe import format_option

if TYPE_CHECKING:
    from tdxc_runtime.measure.machine import GuestMachine
    from tdxc_runtime.measure.manifest import Manifest
    from tdxc_runtime.measure.request import MeasurementRequest

POLICY_FORMATS = ("json", "maa", "trustee", "go-tdx-guest", "dstack", "corim")
_EXISTING_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("measure")
@click.argument("artifact", metavar="ARTIFACT|RECIPE", default="build/output")
@click.option("--platform", type=click.Choice(["qemu", "gcp", "azure"]), default="qemu", show_default=True,
              help="Where the image runs; decides which registers mean what.")  # fmt: skip
@click.option("--firmware", "firmwares", type=_EXISTING_FILE, multiple=True,
              help="TDX firmware (OVMF) file; without it MRTD and RTMR0 are pending.")  # fmt: skip
@click.option("--endorsement", type=_EXISTING_FILE, help="Google's endorsement of a firmware, for gcp.")
@click.option("--memory", "memories", default=("2G",), show_default=True, multiple=True, metavar="SIZE",
              help="The machine's memory.")  # fmt: skip
@click.option("--vcpus", type=click.IntRange(1, 4096), default=(2,), show_default=True, multiple=True,
              help="The machine's vCPUs.")  # fmt: skip
@click.option("--qemu-args", metavar="ARGS",
              help="The machine as a QEMU command line, or @FILE that has it.")  # fmt: skip
@click.option("--physical-bits", type=click.IntRange(32, 64), metavar="N",
              help="Bits of a guest-physical address, which tables show where there are large devices.")  # fmt: skip
@click.option("--processor-id", metavar="ID",
              help="The host's processor, as `dmidecode -t processor` shows its ID in a guest.")  # fmt: skip
@click.option("--qemu", "qemus", type=_EXISTING_FILE, multiple=True,
              help="The host's QEMU, asked for its ACPI tables without booting.")  # fmt: skip
@click.option("--qemu-version", metavar="X.Y", help="Its version, where the program itself is not at hand.")
@click.option("--two-pass", is_flag=True, help="The host's KVM adds all pages before it extends MRTD (see docs).")
@click.option("--boot", type=click.Choice(["direct", "disk"]), default="disk", show_default=True,
              help="By QEMU's -kernel, or from a disk.")  # fmt: skip
@click.option("--uki-profile", "uki_profile", type=click.IntRange(0), default=0, metavar="N",
              help="Which of the UKI's own profiles is booted; 0 is the main one.")  # fmt: skip
@click.option("--emit", type=click.Choice(POLICY_FORMATS), help="Print a verifier's policy instead of a table.")
@click.option("--matrix", is_flag=True,
              help="Measure all combinations of repeated options; --stub-variant is one, too.")  # fmt: skip
@click.option("--stub-variant", "images", type=_EXISTING_FILE, multiple=True,
              help="For --matrix: the same image with another boot stub.")  # fmt: skip
@format_option("table", "json")
def command(
    artifact: str, platform: str, firmwares: tuple[Path, ...], endorsement: Path | None, memories: tuple[str, ...],
    vcpus: tuple[int, ...], qemu_args: str | None, physical_bits: int | None, processor_id: str | None,
    qemus: tuple[Path, ...], qemu_version: str | None, two_pass: bool, boot: str, uki_profile: int, emit: str | None,
    matrix: bool, images: tuple[Path, ...], output_format: str,
) -> None:  # fmt: skip
    """Predict the registers of ARTIFACT: a UKI, a disk image or the output folder of a bake; or of RECIPE's last bake.

    A register that depends on something unknown is shown as pending, with what is missing; nothing is ever guessed.
    """
    from tdxc_runtime.measure.firmware.mrtd import PageOrder
    from tdxc_runtime.measure.machine import GuestMachine, QemuVersion, parse_processor_id
    from tdxc_runtime.measure.manifest import Platform
    from tdxc_runtime.measure.request import BootMode, MeasurementRequest

    from tdxc.grammar.size import parse_size

    if not matrix and any(len(values) > 1 for values in (firmwares, qemus, memories, vcpus, images)):
        raise click.UsageError("an option is given twice: that is what --matrix is for")
    if matrix and qemu_args:
        raise click.UsageError("--matrix varies --memory and --vcpus, so --qemu-args cannot state them")
    processor = parse_processor_id(processor_id) if processor_id else ""
    sizes = tuple(parse_size(memory) for memory in memories)
    request = MeasurementRequest(
        artifact=find_artifact(artifact),
        platform=Platform(platform),
        boot=BootMode(boot),
        profile=uki_profile,
        firmware=firmwares[0] if firmwares else None,
        endorsement=endorsement,
        page_order=PageOrder.ADDS_FIRST if two_pass else PageOrder.INTERLEAVED,
        machine=_machine(qemu_args, physical_bits, processor)
        if qemu_args
        else GuestMachine(memory=sizes[0], vcpus=vcpus[0], physical_bits=physical_bits, processor_id=processor),
        qemu=qemus[0] if qemus else None,
        qemu_version=QemuVersion.parse(qemu_version) if qemu_version else None,
    )
    if matrix:
        from tdxc.baked import with_bake
        from tdxc.cli.matrix import print_matrix

        request = with_bake(request)
        artifacts = (request.artifact, *images) if images else ()
        print_matrix(request, firmwares=firmwares, qemus=qemus, memories=sizes, vcpus=vcpus, images=artifacts,
                     output_format=output_format)  # fmt: skip
        return
    _print_one(request, emit, output_format)


def _machine(qemu_args: str, physical_bits: int | None, processor_id: str) -> GuestMachine:
    """The machine that QEMU's command line describes; E_VALUE or E_PATH when it does not."""
    import shlex

    from tdxc_runtime.measure.machine import GuestMachine

    from tdxc.diagnostics import Code, DiagnosticError

    text = qemu_args
    try:
        if qemu_args.startswith("@"):
            text = Path(qemu_args[1:]).read_text(encoding="utf-8")
        words = shlex.split(text, comments=True)
    except OSError as error:
        raise DiagnosticError.of(Code.E_PATH, f"cannot read '{qemu_args[1:]}': {error.strerror}") from error
    except ValueError as error:
        raise DiagnosticError.of(
            Code.E_VALUE, f"QEMU's command line cannot be split into words: {error}", fix="quote it as for a shell"
        ) from error
    named = bool(words) and not words[0].startswith("-")
    return GuestMachine.of_argv(words[1:] if named else words, physical_bits=physical_bits, processor_id=processor_id)


def _print_one(request: MeasurementRequest, emit: str | None, output_format: str) -> None:
    from tdxc.baked import measure
    from tdxc.cli.report import report

    measurement = measure(request)
    if emit is not None:
        _emit(measurement.manifest, emit, Path(str(measurement.manifest.inputs["artifact"])).stem)
    elif output_format == "json":
        import json

        from tdxc_runtime.measure.manifest_json import manifest_to_json

        click.echo(json.dumps(manifest_to_json(measurement.manifest), indent=1))
    else:
        print_table(measurement.manifest)
    report(measurement.warnings)


def find_artifact(name: str) -> Path:
    """The artifact itself, or for a recipe the output folder of its last bake.

    Raises E_MEASUREMENT when a recipe has not been baked, or was changed since.
    """
    from tdxc.cli.recipe import is_last_bake, names_recipe, open_recipe
    from tdxc.diagnostics import Code, DiagnosticError

    if not names_recipe(name):
        return Path(name)
    from tdxc.bake import DEFAULT_OUTPUT

    if not is_last_bake(open_recipe(name).image, DEFAULT_OUTPUT):
        raise DiagnosticError.of(
            Code.E_MEASUREMENT,
            f"'{DEFAULT_OUTPUT}' holds no bake of this recipe as it is now",
            fix=f"run `tdxc build {name}` first, or name the output folder to measure",
        )
    return DEFAULT_OUTPUT


def print_table(manifest: Manifest) -> None:
    """Registers with their values or what they wait for; alternatives below each other with their reasons."""
    from tdxc_runtime.measure.events import Algorithm, RegisterKind
    from tdxc_runtime.measure.manifest import TD_REGISTERS

    pcrs = sorted(register for register in manifest.covers if register.kind is RegisterKind.PCR)
    for register in (*TD_REGISTERS, *pcrs):
        algorithms = (Algorithm.SHA384,) if register in TD_REGISTERS else (Algorithm.SHA256, Algorithm.SHA384)
        for algorithm in algorithms:
            label = register.name if register in TD_REGISTERS else f"{register.name} {algorithm.value}"
            values = manifest.expected(register, algorithm)
            if not values:
                state, reason = manifest.state(register)
                click.echo(f"{label:<13} {state.value}: {reason}")
                break
            for value in values:
                because = "; ".join(f"{name}: {reason}" for name, reason in value.reasons)
                click.echo(f"{label:<13} {value.value.hex()}" + (f"\n{'':<13} if {because}" if len(values) > 1 else ""))
    for missing in manifest.pending:
        click.echo(f"missing: {missing}")


def _emit(manifest: Manifest, policy_format: str, name: str) -> None:
    from tdxc_runtime.measure.policies import PolicyFormat, emit_policy

    click.echo(emit_policy(manifest, PolicyFormat(policy_format), name=name), nl=False)
