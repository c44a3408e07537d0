"""Whole predictions: which registers each platform gets, what is pending, what is an error, what is an alternative."""

from pathlib import Path

import attrs
import pytest
from support.efi_images import build_gpt_disk, build_kernel, build_uki
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan
from tdxc_runtime.measure.acpi.chipset import window_base
from tdxc_runtime.measure.artifact import Artifact, open_artifact
from tdxc_runtime.measure.boot.userspace import INITRD_PHASE_UNIT, PHASE_UNITS
from tdxc_runtime.measure.events import (
    MRTD,
    RTMR0,
    RTMR1,
    RTMR2,
    RTMR3,
    Algorithm,
    EventType,
    Origin,
    PredictedEvent,
    Register,
    variants,
)
from tdxc_runtime.measure.firmware.traits import DXE_VOLUME, FirmwareTraits
from tdxc_runtime.measure.machine import (
    GIB,
    GuestMachine,
    QemuVersion,
    inert_argv,
    parse_memory,
)
from tdxc_runtime.measure.manifest import Manifest, Platform, State
from tdxc_runtime.measure.manifest_json import manifest_from_json, manifest_to_json
from tdxc_runtime.measure.payload import measure_payload
from tdxc_runtime.measure.platforms import platform_rules, require_rtmr_policy
from tdxc_runtime.measure.predict import Surroundings, assemble, predict
from tdxc_runtime.measure.request import BootMode, KernelFiles, MeasurementRequest
from tdxc_runtime.measure.sequence import BootPath, header_is_patched, rtmr1_items, rtmr2_items
from tdxc_runtime.measure.sources import MemorySource
from unit.measure_boot.test_boot_path import ESP

QEMU_10_1 = QemuVersion(major=10, minor=1)


@pytest.fixture
def uki(tmp_path: Path) -> Path:
    path = tmp_path / "image.efi"
    path.write_bytes(build_uki())
    return path


@pytest.fixture
def disk(tmp_path: Path) -> Path:
    path = tmp_path / "image.raw"
    path.write_bytes(build_gpt_disk([(ESP, 64, 100, b"")]))
    return path


def failure(request: MeasurementRequest) -> DiagnosticError:
    with pytest.raises(DiagnosticError) as caught:
        predict(request)
    return caught.value


def manifest_of(request: MeasurementRequest) -> Manifest:
    return predict(request).manifest


def kinds(manifest: Manifest, register: Register) -> list[str]:
    return [event.event_type.name for event in variants(manifest.prediction, register)[0].events]


def test_a_direct_boot_without_firmware_gives_what_the_image_decides(uki: Path) -> None:
    manifest = manifest_of(MeasurementRequest(artifact=uki, qemu_version=QEMU_10_1))
    assert manifest.state(RTMR2)[0] is State.PREDICTED
    assert manifest.state(MRTD)[0] is State.PENDING
    assert manifest.state(RTMR0)[0] is State.PENDING
    assert "the firmware file (--firmware)" in manifest.pending
    assert not manifest.expected(MRTD)
    assert [v.value for v in manifest.expected(RTMR3)] == [bytes(48)]


def test_rtmr1_of_a_direct_boot_lists_its_outcomes_with_reasons(uki: Path) -> None:
    manifest = manifest_of(MeasurementRequest(artifact=uki, qemu_version=QEMU_10_1))
    values = manifest.expected(RTMR1)
    assert len(values) == 8
    assert {name for value in values for name, _ in value.reasons} == {
        "separator",
        "inner-kernel",
        "exit-boot-services",
    }
    assert kinds(manifest, RTMR1)[0] == "EV_EFI_BOOT_SERVICES_APPLICATION"


def test_secure_boot_and_firmware_decide_the_alternatives(uki: Path) -> None:
    request = MeasurementRequest(artifact=uki, qemu_version=QEMU_10_1, secure_boot=False)
    assert len(manifest_of(request).expected(RTMR1)) == 4
    newer = attrs.evolve(request, artifact=uki)
    uki.write_bytes(build_uki(stub="258.1"))
    assert len(manifest_of(newer).expected(RTMR1)) == 4
    assert "inner kernel" not in " ".join(e.description for e in variants(manifest_of(newer).prediction)[0].events)


def test_a_disk_boot_needs_the_disk_for_its_partition_table(uki: Path, disk: Path) -> None:
    request = MeasurementRequest(artifact=uki, boot=BootMode.DISK)
    manifest = manifest_of(request)
    assert manifest.state(RTMR1) == (State.PENDING, "the disk image, for its partition table")
    assert not manifest.expected(RTMR1)
    assert manifest.state(RTMR2)[0] is State.PREDICTED
    whole = manifest_of(attrs.evolve(request, disk=disk))
    assert whole.expected(RTMR1)
    names = kinds(whole, RTMR1)
    assert names.index("EV_EFI_GPT_EVENT") < names.index("EV_EFI_BOOT_SERVICES_APPLICATION")


def test_rtmr2_holds_the_sections_then_the_kernels_events(uki: Path) -> None:
    manifest = manifest_of(MeasurementRequest(artifact=uki))
    assert kinds(manifest, RTMR2) == ["EV_IPL"] * 12 + ["EV_EVENT_TAG"] * 2
    (events,) = [v.events for v in variants(manifest.prediction, RTMR2)]
    assert events[-2].data == "console=ttyS0 quiet\0".encode("utf-16-le")
    assert all([a for a, _ in event.digests] == [Algorithm.SHA384] for event in events)


@pytest.mark.parametrize(("stub", "kernel", "count"), [("255", "6.12.1", 2), ("257", "6.8.0", 12), ("255", "6.8.0", 0)])
def test_old_stubs_and_kernels_do_not_reach_the_rtmrs(uki: Path, stub: str, kernel: str, count: int) -> None:
    uki.write_bytes(build_uki(stub=stub, uname=kernel))
    manifest = manifest_of(MeasurementRequest(artifact=uki))
    assert len(kinds(manifest, RTMR2)) == count
    assert manifest.expected(Register.pcr(9))


def test_an_unreadable_kernel_makes_its_registers_pending_not_wrong(uki: Path) -> None:
    uki.write_bytes(build_uki(uname="odd", kernel=build_uki()))
    manifest = manifest_of(MeasurementRequest(artifact=uki))
    assert not manifest.expected(RTMR2)
    assert not manifest.expected(Register.pcr(9))
    assert manifest.expected(Register.pcr(11))


def test_boot_phases_are_an_alternative_until_the_units_are_known(uki: Path) -> None:
    request = MeasurementRequest(artifact=uki)
    pcr11 = Register.pcr(11)
    unknown = manifest_of(request).expected(pcr11, Algorithm.SHA256)
    assert len(unknown) == 3
    without = manifest_of(attrs.evolve(request, units=frozenset()))
    assert len(without.expected(pcr11, Algorithm.SHA256)) == 1
    units = frozenset({"systemd-pcrphase.service"})
    assert kinds(manifest_of(attrs.evolve(request, units=units)), pcr11)[-1] == "EV_IPL"
    assert len(kinds(manifest_of(attrs.evolve(request, units=units)), pcr11)) == 13
    for units in (frozenset(), frozenset(PHASE_UNITS) - {INITRD_PHASE_UNIT}, frozenset(PHASE_UNITS)):
        (known,) = manifest_of(attrs.evolve(request, units=units)).expected(pcr11, Algorithm.SHA256)
        assert known.value in [outcome.value for outcome in unknown]


def test_gcp_predicts_what_the_image_decides_and_names_who_knows_the_rest(uki: Path, disk: Path) -> None:
    manifest = manifest_of(
        MeasurementRequest(artifact=uki, disk=disk, boot=BootMode.DISK, platform=Platform.GCP, secure_boot=False)
    )
    assert manifest.expected(RTMR1)
    assert kinds(manifest, RTMR2) == ["EV_IPL"] * 12, "the kernel measures into the virtual TPM alone"
    assert manifest.state(MRTD)[0] is State.UNPREDICTABLE
    assert "Google" in manifest.state(RTMR0)[1]
    assert manifest.expected(Register.pcr(9), Algorithm.SHA256)
    assert manifest.state(Register.pcr(4))[0] is State.UNPREDICTABLE


def test_azure_predicts_pcrs_and_refuses_rtmrs_with_the_reason(uki: Path) -> None:
    manifest = manifest_of(
        MeasurementRequest(artifact=uki, boot=BootMode.DISK, platform=Platform.AZURE, secure_boot=False)
    )
    for register in (MRTD, RTMR0, RTMR1, RTMR2, RTMR3):
        state, reason = manifest.state(register)
        assert state is State.UNPREDICTABLE
        assert "paravisor" in reason
        assert not manifest.expected(register)
    assert kinds(manifest, Register.pcr(4)) == [
        "EV_EFI_ACTION",
        "EV_SEPARATOR",
        "EV_EFI_BOOT_SERVICES_APPLICATION",
        "EV_EFI_BOOT_SERVICES_APPLICATION",
    ]
    for index in (8, 12, 13, 15):
        assert [v.value for v in manifest.expected(Register.pcr(index), Algorithm.SHA256)] == [bytes(32)]


def test_an_rtmr_policy_for_azure_is_refused() -> None:
    with pytest.raises(DiagnosticError) as caught:
        require_rtmr_policy(Platform.AZURE)
    assert "paravisor" in caught.value.diagnostics[0].message
    require_rtmr_policy(Platform.QEMU)
    require_rtmr_policy(Platform.GCP)


@pytest.mark.parametrize("platform", list(Platform))
def test_no_register_is_both_predictable_and_not(platform: Platform) -> None:
    rules = platform_rules(platform)
    assert not {*rules.predictable} & {register for register, _ in rules.why_not}
    assert {MRTD, RTMR0, RTMR1, RTMR2, RTMR3} <= {*rules.predictable, *(r for r, _ in rules.why_not)}


@pytest.mark.parametrize("platform", [Platform.GCP, Platform.AZURE])
def test_clouds_have_no_direct_kernel_boot(uki: Path, platform: Platform) -> None:
    assert failure(MeasurementRequest(artifact=uki, platform=platform)).diagnostics[0].code is Code.E_MEASUREMENT


def test_before_a_bake_the_command_to_run_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "missing"):
        diagnostic = failure(MeasurementRequest(artifact=path)).diagnostics[0]
        assert diagnostic.code is Code.E_MEASUREMENT
        assert "tdxc build" in diagnostic.fix


def test_an_output_folder_with_one_image_is_measured(uki: Path, disk: Path) -> None:
    manifest = manifest_of(MeasurementRequest(artifact=uki.parent, boot=BootMode.DISK))
    assert manifest.expected(RTMR1), "the folder's disk image gives the partition table"
    (uki.parent / "second.efi").write_bytes(build_uki())
    assert "several images" in failure(MeasurementRequest(artifact=uki.parent)).diagnostics[0].message


def test_a_disk_without_an_esp_is_refused(disk: Path) -> None:
    diagnostic = failure(MeasurementRequest(artifact=disk, boot=BootMode.DISK)).diagnostics[0]
    assert diagnostic.code is Code.E_ARTIFACT
    assert "EFI system partition" in diagnostic.message


def test_a_plain_kernel_with_initrd_waits_for_the_firmwares_age(tmp_path: Path) -> None:
    kernel, initrd = tmp_path / "vmlinuz", tmp_path / "initrd"
    kernel.write_bytes(build_kernel())
    initrd.write_bytes(b"cpio")
    files = KernelFiles(initrd=initrd, command_line="console=ttyS0")
    request = MeasurementRequest(
        artifact=kernel, kernel_files=files, machine=GuestMachine(), qemu_version=QEMU_10_1, dump_tables=False
    )
    manifest = manifest_of(request)
    assert len(manifest.expected(RTMR2)) == 2
    assert {name for v in manifest.expected(RTMR1) for name, _ in v.reasons} >= {"kernel-header", "separator"}
    initrd.write_bytes(b"")
    assert len(kinds(manifest_of(request), RTMR2)) == 1


def test_a_disk_that_starts_no_uki_is_refused(tmp_path: Path) -> None:
    kernel = tmp_path / "boot.efi"
    kernel.write_bytes(build_kernel())
    diagnostic = failure(MeasurementRequest(artifact=kernel, boot=BootMode.DISK)).diagnostics[0]
    assert diagnostic.code is Code.E_MEASUREMENT
    assert "boot loader" in diagnostic.message


@pytest.mark.parametrize(
    ("is_uki", "qemu", "release", "td", "patched"),
    [
        (True, "10.0", 202502, True, False),
        (True, "9.2", 202502, True, None),
        (True, "", 202502, True, None),
        (False, "10.1", 202502, True, False),
        (False, "10.1", 202411, True, True),
        (False, "10.1", 0, True, None),
        (False, "10.2", 202411, True, False),
        (False, "10.2", 202411, False, True),
        (False, "9.2", 202505, True, True),
    ],
)
def test_who_rewrites_the_kernels_header(
    *, is_uki: bool, qemu: str, release: int, td: bool, patched: bool | None
) -> None:
    image = MemorySource(name="x", data=build_uki() if is_uki else build_kernel())
    request = MeasurementRequest(artifact=Path("x"), machine=GuestMachine())
    payload = measure_payload(Artifact(name="x", image=image), request, secure_boot=False, qemu=None)
    traits = FirmwareTraits(oldest=release or 202302, newest=release or 202502)
    version = QemuVersion.parse(qemu) if qemu else None
    path = BootPath(
        payload=payload, boot=BootMode.DIRECT, traits=traits, qemu=version, secure_boot=False, table=None, td=td
    )
    assert header_is_patched(path) is patched


def test_newer_firmware_moves_the_separator_to_rtmr1(uki: Path) -> None:
    request = MeasurementRequest(artifact=uki)
    with open_artifact(uki) as artifact:
        payload = measure_payload(artifact, request, secure_boot=False, qemu=QEMU_10_1)
    counts = []
    for release in (202408, 202411):
        traits = FirmwareTraits(oldest=release, newest=release, setup_volume=DXE_VOLUME)
        path = BootPath(
            payload=payload, boot=BootMode.DIRECT, traits=traits, qemu=QEMU_10_1, secure_boot=False, table=None
        )
        items = [item for item in rtmr1_items(path) if isinstance(item, PredictedEvent)]
        counts.append([item.event_type for item in items].count(EventType.EV_SEPARATOR))
        assert len(rtmr2_items(path)) == 14
    assert counts == [0, 1]


def test_a_manifest_survives_its_json_form(uki: Path, disk: Path) -> None:
    manifest = manifest_of(MeasurementRequest(artifact=uki, disk=disk, boot=BootMode.DISK, machine=GuestMachine()))
    again = manifest_from_json(manifest_to_json(manifest), name="manifest.json")
    for register in (RTMR1, RTMR2, Register.pcr(4), Register.pcr(11)):
        assert again.expected(register) == manifest.expected(register)
    assert manifest_to_json(again) == manifest_to_json(manifest)


def test_every_event_says_where_it_stems_from(uki: Path, disk: Path) -> None:
    manifest = manifest_of(MeasurementRequest(artifact=uki, disk=disk, boot=BootMode.DISK))
    for variant in variants(manifest.prediction):
        for event in variant.events:
            assert event.description
            assert str(event.origin)


@pytest.mark.parametrize(("text", "size"), [("4G", 4 * GIB), ("2048M", 2 * GIB), ("512", GIB // 2), ("1T", 1 << 40)])
def test_memory_sizes_are_spelled_as_qemu_does(text: str, size: int) -> None:
    assert parse_memory(text) == size


@pytest.mark.parametrize("text", ["", "4X", "-1G", "1K", "63M", "10000000000000G", "4 G B"])
def test_impossible_memory_sizes_are_diagnostics(text: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        parse_memory(text)
    assert caught.value.diagnostics[0].code is Code.E_VALUE


def test_qemu_versions() -> None:
    assert QemuVersion.parse("QEMU emulator version 10.0.13 (Debian 1:10.0.13+ds)") < QEMU_10_1
    assert str(QemuVersion.parse("11.1.3")) == "11.1.3"
    with pytest.raises(DiagnosticError):
        QemuVersion.parse("none")


def test_a_td_command_line_becomes_one_that_starts_anywhere() -> None:
    argv = [
        *("-accel", "kvm", "-cpu", "host", "-S", "-nographic", "-bios", "OVMF.fd", "-kernel", "u.efi", "-append", "-x"),
        *("-object", '{"qom-type":"tdx-guest","id":"tdx0"}', "-object", "rng-random,id=r"),
        *("-machine", "q35,kernel-irqchip=split,confidential-guest-support=tdx0,hpet=off", "-smp", "4", "-m", "8G"),
        *("-drive", "file=/x,if=none,id=d0", "-device", "virtio-blk-pci,drive=d0,bootindex=1"),
        *("-netdev", "tap,id=n0,fd=3", "-device", "virtio-net-pci,netdev=n0"),
        *("-device", "vhost-vsock-pci,guest-cid=3,addr=0x7", "-serial", "stdio"),
    ]
    assert inert_argv(argv) == [
        *("-nodefaults", "-no-user-config", "-display", "none", "-object", "rng-random,id=r"),
        *("-machine", "q35,kernel-irqchip=split,hpet=off", "-smp", "4", "-m", "8G"),
        *("-drive", "if=none,id=d0,driver=null-co,read-zeroes=on,size=1G"),
        *("-device", "virtio-blk-pci,drive=d0,bootindex=1"),
        *("-netdev", "user,id=n0", "-device", "virtio-net-pci,netdev=n0"),
        *("-device", "virtio-balloon-pci,addr=0x7", "-serial", "null"),
    ]


def test_nothing_is_assembled_from_unknown_surroundings(uki: Path) -> None:
    request = MeasurementRequest(artifact=uki)
    with open_artifact(uki) as artifact:
        payload = measure_payload(artifact, request, secure_boot=None, qemu=None)
        manifest = assemble(request, Surroundings(), artifact, payload).manifest
    assert manifest.state(Register.pcr(7))[0] is State.PENDING
    assert MRTD not in manifest.covers


def test_a_command_line_becomes_a_machine_and_back() -> None:
    argv = [
        *("-accel", "tcg,thread=single", "-cpu", "max", "-machine", "pc-q35-10.0,confidential-guest-support=t,smm=off"),
        *("-smp", "4", "-m", "4G", "-serial", "chardev:console", "-tpmdev", "emulator,id=tpm0,chardev=tpm"),
        *("-device", "tpm-crb,tpmdev=tpm0", "-drive", "if=none,id=d", "-device", "virtio-blk-pci,drive=d"),
    ]
    machine = GuestMachine.of_argv(argv)
    assert (machine.memory, machine.vcpus, machine.machine_type) == (4 * GIB, 4, "pc-q35-10.0")
    assert machine.machine_options == ("smm=off",)
    assert machine.devices == ("virtio-blk-pci,drive=d",)
    assert machine.tpm
    assert machine.amd
    assert machine.physical_bits == 40
    assert inert_argv(machine.argv()).count("-device") == 2
    assert GuestMachine.of_argv(argv, physical_bits=46).physical_bits == 46
    assert not GuestMachine.of_argv(argv[2:]).amd


@pytest.mark.parametrize(
    "argv",
    [
        [],
        ["-machine", "pc", "-m", "1G"],
        ["-machine", "q35", "-m", "1G", "-smp", "sockets=2"],
        ["-machine", "q35", "-smp", "2"],
        ["-machine", "q35", "-m", "1G", "-smp", "0"],
    ],
)
def test_command_lines_that_describe_no_machine_are_diagnostics(argv: list[str]) -> None:
    with pytest.raises(DiagnosticError) as caught:
        GuestMachine.of_argv(argv)
    assert caught.value.diagnostics[0].code is Code.E_VALUE


@pytest.mark.parametrize(
    ("bits", "amd", "base"),
    [
        (46, False, 0x380000000000),
        (40, False, 0xE000000000),
        (40, True, 0xC000000000),
        (48, True, 0xE00000000000),
    ],
)
def test_the_memory_window_is_the_last_eighth_but_not_over_hypertransport(*, bits: int, amd: bool, base: int) -> None:
    assert window_base(bits, amd=amd) == base


def test_sections_know_the_recipes_line(uki: Path) -> None:
    line = Origin(span=SourceSpan(file="recipe.py", line=12, column=5), node="kernel.cmdline")
    manifest = manifest_of(MeasurementRequest(artifact=uki, origins={".cmdline": line}))
    placed = [event for event in variants(manifest.prediction)[0].events if event.origin.span.line]
    assert {event.register for event in placed} == {RTMR2, Register.pcr(9), Register.pcr(11)}
    assert {event.origin.section for event in placed} == {".cmdline"}
    assert all(str(event.origin).startswith("recipe.py:12:5 (kernel.cmdline), ") for event in placed)
