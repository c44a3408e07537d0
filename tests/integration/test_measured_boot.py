"""The proof: an image is baked, its registers are predicted, it is booted, and the machine shows just those registers.

The image boots from a disk and by ``-kernel``, the same kernel and initrd under another systemd-stub, and a profile of
the recipe, which needs a bake of its own. OVMF and a software TPM with two banks measure; a boot step in the image
prints the firmware's log and the PCRs. Set TDXVM_KEEP_BOOTS to a folder to keep what was shown, as tests/data/measured.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from support.commands import ROOT, invoke
from support.consoles import BOOT_TIMEOUT_S
from support.measured import Shown, assert_events, assert_registers, assert_td_events, read_report
from support.qemu_crashes import unless_qemu_crashes
from support.relink import relink, stub_of_suite
from tdxc.baked import read_bake
from tdxc_runtime.measure.acpi.items import read_from_qemu
from tdxc_runtime.measure.acpi.qemu import find_qemu
from tdxc_runtime.measure.events import Algorithm, EventType, PredictedEvent, Register
from tdxc_runtime.measure.firmware.load import parse_firmware
from tdxc_runtime.measure.machine import GuestMachine
from tdxc_runtime.measure.manifest import Manifest
from tdxc_runtime.measure.manifest_json import manifest_from_json
from tdxc_runtime.measure.predict import configuration_window
from tdxc_runtime.measure.rtmr0.boot_options import virtio_disk_option
from tdxc_runtime.measure.rtmr0.events import MachineInputs, rtmr0_events
from tdxc_runtime.toolsroot import ToolsRoot
from tdxc_runtime.vm import Accelerator, DirectKernel, Machine, UkiOnDisk, boot, find_vm_tools
from tdxc_runtime.vm.qemu_argv import Resources, qemu_argv

pytestmark = pytest.mark.integration

TD_ONLY = {EventType.EV_EFI_HANDOFF_TABLES2, EventType.EV_EFI_PLATFORM_FIRMWARE_BLOB2}


@attrs.frozen(kw_only=True)
class Case:
    """One boot: how, with the stub of which suite, and of which profile of the recipe."""

    name: str
    direct: bool = False
    suite: str = ""
    profile: str = ""

    @property
    def arguments(self) -> list[str]:
        """The options of ``tdxc measure`` for it."""
        return ["--boot", "direct" if self.direct else "disk"]

    def machine(self, folder: Path) -> Machine:
        """The machine that boots it."""
        uki = folder / "measured.efi"
        if self.direct:
            return Machine(boot=DirectKernel(kernel=uki), network=False)
        seed = read_bake(folder).seed
        assert seed is not None
        return Machine(boot=UkiOnDisk(uki=uki, seed=seed), network=False)


CASES = (
    Case(name="disk-257"),
    Case(name="direct-257", direct=True),
    Case(name="disk-252", suite="bookworm"),
    Case(name="loud-257", profile="loud"),
)
Bake = Callable[[str], Path]


@attrs.frozen(kw_only=True)
class Booted:
    """A case with its prediction, made before the boot, and what the boot showed."""

    case: Case
    folder: Path
    manifest: Manifest
    manifest_file: Path
    shown: Shown

    @property
    def evidence(self) -> list[str | Path]:
        """The options of ``tdxc verify`` for it."""
        self.shown.save(self.folder)
        return ["--tpm-log", self.folder / "log", "--pcrs", self.folder / "pcrs.json"]


@pytest.fixture(scope="module")
def booted(bake: Bake, tmp_path_factory: pytest.TempPathFactory) -> Callable[[Case], Booted]:
    """Predict and boot a case, once."""
    done: dict[str, Booted] = {}

    def once(case: Case) -> Booted:
        if case.name not in done:
            output = bake(case.profile)
            done[case.name] = predict_and_boot(case, output, tmp_path_factory.mktemp(case.name))
        return done[case.name]

    return once


def predict_and_boot(case: Case, output: Path, place: Path) -> Booted:
    folder = prepare(case, output, place)
    outcome = invoke("measure", folder, *case.arguments, "--format", "json")
    assert outcome.status == 0, outcome.err
    manifest_file = place / "manifest.json"
    manifest_file.write_text(outcome.out)
    shown = unless_qemu_crashes(lambda: boot_and_read(case.machine(folder)))
    if keep := os.environ.get("TDXVM_KEEP_BOOTS"):
        shown.save(Path(keep) / case.name)
        shutil.copyfile(manifest_file, Path(keep) / case.name / "manifest.json")
    manifest = manifest_from_json(outcome.data(), name=case.name)
    return Booted(case=case, folder=folder, manifest=manifest, manifest_file=manifest_file, shown=shown)


def prepare(case: Case, output: Path, place: Path) -> Path:
    """The output folder itself, or one beside it that holds a UKI made of the same parts."""
    if not case.suite:
        return output
    folder = place / "output"
    folder.mkdir()
    for name in ("image.json", "origins.json"):
        shutil.copyfile(output / name, folder / name)
    root = ToolsRoot.ensure()
    stub = stub_of_suite(root, case.suite, place / "apt")
    relink(root, output / "measured.efi", place / "measured.efi", stub)
    (place / "measured.efi").rename(folder / "measured.efi")
    return folder


def boot_and_read(machine: Machine) -> Shown:
    """Boot until one of the three reports has come whole."""
    lines: list[str] = []
    with boot(machine, on_line=lambda line: lines.append(line.text)) as running:
        for _ in range(3):
            running.console.wait_for(r"^report: end$", BOOT_TIMEOUT_S)
            shown = read_report("\n".join(lines) + "\n")
            if shown is not None:
                return shown
    pytest.fail("all reports on the console are garbled:\n" + "\n".join(lines[-20:]))


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_the_machine_shows_what_was_predicted(case: Case, booted: Callable[[Case], Booted]) -> None:
    found = booted(case)
    table = assert_registers(found.manifest, found.shown)
    count = assert_events(found.manifest, found.shown)
    print(f"\n{case.name}: {count} events as predicted\n" + "\n".join(table))
    outcome = invoke("verify", *found.evidence, "--manifest", found.manifest_file)
    assert outcome.status == 0, outcome.out


@pytest.mark.parametrize("case", [CASES[0], CASES[-1]], ids=lambda case: case.name)
def test_the_manifest_of_the_bake_is_enough_to_verify(case: Case, booted: Callable[[Case], Booted]) -> None:
    found = booted(case)
    outcome = invoke("verify", *found.evidence, "--manifest", found.folder / "measurement-qemu.json")
    assert outcome.status == 0, outcome.out


def test_another_profile_of_the_recipe_is_told_apart(booted: Callable[[Case], Booted]) -> None:
    plain, loud = booted(CASES[0]), booted(CASES[-1])
    outcome = invoke("verify", *loud.evidence, "--manifest", plain.manifest_file)
    assert outcome.status == 4
    (cause,) = (line for line in outcome.out.splitlines() if line.startswith("likely cause: "))
    assert "the command line of the running image" in cause
    assert "measured.py:" in cause


@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: case.name)
def test_a_td_would_receive_the_same_events(case: Case, booted: Callable[[Case], Booted]) -> None:
    assert_td_events(booted(case).manifest, booted(case).shown)


@pytest.mark.parametrize("case", CASES[:2], ids=lambda case: case.name)
def test_rules_that_a_td_shares_hold_for_tables_and_variables(case: Case, booted: Callable[[Case], Booted]) -> None:
    """PCR 7, and PCR 1 but for what only a TD's firmware measures, from the firmware's file and a stopped QEMU."""
    found = booted(case)
    expected = shared_events(case, found.folder)
    for index in (1, 7):
        register = Register.pcr(index)
        logged = [
            event.digest(Algorithm.SHA384)
            for event in found.shown.events
            if event.register == register and event.is_extended
        ]
        predicted = [event.digest(Algorithm.SHA384) for event in expected if event.register == register]
        # A TPM gets a separator in every PCR; the one of PCR 7 is among the predicted events.
        if index == 1:
            predicted.append(Algorithm.SHA384.digest(bytes(4)))
        assert logged == predicted


def shared_events(case: Case, folder: Path) -> list[PredictedEvent]:
    """RTMR0's events as far as a firmware without TD measures them, too."""
    tools = find_vm_tools()
    code, variables = tools.firmware_files()
    firmware = parse_firmware(variables.read_bytes() + code.read_bytes(), name="OVMF")
    machine = case.machine(folder)
    uki = folder / "measured.efi"
    resources = Resources(
        accelerator=Accelerator.TCG,
        names={uki: uki},
        esp_disk=None if case.direct else Path("/nowhere/esp.raw"),
        tpm_socket=Path("/nowhere/tpm"),
    )
    guest = GuestMachine.of_argv(qemu_argv(machine, resources)[1:])
    items = read_from_qemu(find_qemu(), guest, configuration_window(firmware))
    assert firmware.traits is not None
    inputs = MachineInputs(
        memory=guest.memory,
        direct=case.direct,
        items=items.items,
        boot_disk=None if case.direct else virtio_disk_option(items.virtio_disks[0]),
    )
    events = rtmr0_events(firmware, firmware.traits, inputs)
    return [e for e in events if isinstance(e, PredictedEvent) and e.event_type not in TD_ONLY]


def test_a_td_of_the_same_image_is_predicted_whole(bake: Bake) -> None:
    """With a TD's firmware every register has a value, and the manifest knows what other memory sizes look like."""
    tools = find_vm_tools()
    firmware = tools.on_host(Path("/usr/share/ovmf/OVMF.fd"))
    arguments = ("--boot", "direct", "--firmware", firmware, "--memory", "4G", "--format", "json")
    data = invoke("measure", bake(""), *arguments).data()
    assert all(data[name] for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3"))
    assert "8 GiB of memory" in data["hints"].values()
    layout = next(row["digest"] for row in data["events"] if row["type"] == "EV_EFI_HANDOFF_TABLES2")
    assert data["hints"][layout] == "4 GiB of memory"


def test_the_bake_is_described(bake: Bake) -> None:
    output = bake("")
    assert json.loads((output / "image.json").read_text())["seed"]
    origins = json.loads((output / "origins.json").read_text())
    line = next(
        number
        for number, text in enumerate((ROOT / "tests/recipes/measured.py").read_text().splitlines(), 1)
        if "quiet" in text
    )
    assert origins[".cmdline"].startswith(f"measured.py:{line}:")
    manifest = json.loads((output / "measurement-qemu.json").read_text())
    assert str(output) not in json.dumps(manifest)
    lines = {row["origin"].get("recipe", "") for row in manifest["events"] if row["register"] == "pcr9"}
    assert origins[".cmdline"] in lines
