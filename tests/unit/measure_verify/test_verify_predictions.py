"""Manifests of the real prediction engine, held against the log of another image: the cause comes out in words."""

import lzma
from pathlib import Path

import attrs
import pytest
from support.efi_images import Part, build_kernel, build_uki
from support.event_logs import cc_log, needs_vectors, tpm_log, vector
from tdxc_runtime.measure.causes import Kind
from tdxc_runtime.measure.events import RTMR0, EventType, PredictedEvent, Register, RegisterKind, variants
from tdxc_runtime.measure.firmware.load import Firmware
from tdxc_runtime.measure.firmware.tdvf import parse_tdvf
from tdxc_runtime.measure.firmware.traits import DXE_VOLUME, FirmwareTraits
from tdxc_runtime.measure.firmware.varstore import read_variables
from tdxc_runtime.measure.hints import memory_hints
from tdxc_runtime.measure.logs import EventLog, LogEvent, LogKind, index_of, parse_event_log
from tdxc_runtime.measure.logs.describe import TAG_INITRD, TAG_LOAD_OPTIONS
from tdxc_runtime.measure.machine import GIB, QemuVersion
from tdxc_runtime.measure.manifest import Manifest
from tdxc_runtime.measure.manifest_json import manifest_from_json, manifest_to_json
from tdxc_runtime.measure.predict import predict
from tdxc_runtime.measure.request import KernelFiles, MeasurementRequest
from tdxc_runtime.measure.rtmr0.events import MachineInputs, rtmr0_events
from tdxc_runtime.measure.sequence import in_td
from tdxc_runtime.measure.verify import Evidence, verify


def manifest(folder: Path, uki: bytes, *, append: str = "") -> Manifest:
    path = folder / "demo.efi"
    path.write_bytes(uki)
    version = QemuVersion(major=10, minor=1)
    kernel_files = KernelFiles(command_line=append)
    request = MeasurementRequest(artifact=path, qemu_version=version, secure_boot=False, kernel_files=kernel_files)
    found = predict(request).manifest
    again = manifest_from_json(manifest_to_json(found), name="manifest.json")
    assert again.prediction == found.prediction
    return again


def as_logged(event: PredictedEvent) -> LogEvent:
    """What a log would say about a predicted event, as systemd-stub and Linux word it."""
    data = event.data or b""
    if event.event_type == EventType.EV_IPL and event.origin.section:
        data = f"{event.origin.section}\0".encode("utf-16-le")
    if event.event_type == EventType.EV_EVENT_TAG:
        tag = TAG_INITRD if "initrd" in event.description.partition(":")[0] else TAG_LOAD_OPTIONS
        data = tag.to_bytes(4, "little") + (4).to_bytes(4, "little") + b"text"
    if event.event_type == EventType.EV_EFI_BOOT_SERVICES_APPLICATION:
        data = bytes(32)
    return LogEvent(
        number=0,
        offset=0,
        index=index_of(event.register),
        register=event.register,
        event_type=event.event_type,
        digests=event.digests,
        data=data,
    )


def logs_of(found: Manifest) -> tuple[EventLog, EventLog]:
    """The logs that the likeliest variant of a prediction leaves in a TD and on a machine with a TPM."""
    td: list[LogEvent] = []
    tpm: list[LogEvent] = []
    for register in sorted(found.covers):
        if found.expected(register, register.algorithms[0]):
            events = [as_logged(event) for event in variants(found.prediction, register)[0].events if event.digests]
            (tpm if register.kind is RegisterKind.PCR else td).extend(events)
    return (
        parse_event_log(cc_log(td), name="ccel", kind=LogKind.CC),
        parse_event_log(tpm_log(tpm), name="log", kind=LogKind.TPM),
    )


CHANGES = [
    ({"cmdline": "console=ttyS0 quiet debug"}, Kind.COMMAND_LINE, "has `debug` appended"),
    ({"cmdline": "console=ttyS0"}, Kind.COMMAND_LINE, "lacks `quiet`"),
    ({"initrd": b"initrd bytes, and one more file"}, Kind.INITRD, "one more file"),
    ({"kernel": build_kernel("6.12.99-amd64"), "uname": "6.12.99-amd64"}, Kind.KERNEL, "predicted with 6.12.43-amd64"),
    ({"stub": "258.2-1"}, Kind.STUB, "inner kernel is not measured"),
    ({"stub": "257.14-1"}, Kind.STUB, "kernel, command line and initrd are as predicted"),
    ({"extra": (Part(".splash", b"BM picture"),)}, Kind.OTHER_SECTION, "also has .splash"),
    ({"cmdline": None}, Kind.COMMAND_LINE, "lacks a command line of its own"),
    ({"initrd": b""}, Kind.OTHER_SECTION, "lacks .initrd"),
    ({"osrel": b"ID=other\n"}, Kind.OTHER_SECTION, "has another .osrel"),
]


@pytest.mark.parametrize(("changes", "kind", "words"), CHANGES)
def test_another_image_is_told_from_the_predicted_one(
    tmp_path: Path, changes: dict[str, object], kind: Kind, words: str
) -> None:
    expected = manifest(tmp_path, build_uki())
    booted = manifest(tmp_path, build_uki(**changes))  # type: ignore[arg-type] # keywords of one function
    for log in logs_of(booted):
        result = verify(Evidence(log=log, manifest=expected))
        assert not result.ok
        assert result.causes[0].kind is kind, result.causes
        assert words in result.causes[0].sentence
        assert "demo.efi" in result.causes[0].sentence or kind is Kind.OTHER_SECTION


def test_a_command_line_passed_at_boot_is_told_from_one_in_the_image(tmp_path: Path) -> None:
    expected = manifest(tmp_path, build_uki())
    booted = manifest(tmp_path, build_uki(), append="console=ttyS0 quiet init=/bin/sh")
    for log in logs_of(booted):
        result = verify(Evidence(log=log, manifest=expected))
        assert result.causes[0].kind is Kind.COMMAND_LINE
        assert "has `init=/bin/sh` appended, and not by the image" in result.causes[0].sentence


def test_the_predicted_image_passes(tmp_path: Path) -> None:
    expected = manifest(tmp_path, build_uki())
    for log in logs_of(expected):
        result = verify(Evidence(log=log, manifest=expected))
        assert result.ok, [check for check in result.checks if not check.ok]
        assert any(check.name.startswith(("rtmr2", "pcr11")) for check in result.checks)


@pytest.mark.parametrize("count", [1, 4, 9])
def test_a_cut_log_is_told_from_another_image(tmp_path: Path, count: int) -> None:
    expected = manifest(tmp_path, build_uki())
    _, log = logs_of(expected)
    events = [attrs.evolve(event, number=0) for event in log if event.is_extended]
    cut = parse_event_log(tpm_log(events[:-count]), name="log", kind=LogKind.TPM)
    result = verify(Evidence(log=cut, manifest=expected))
    assert [cause.kind for cause in result.causes] == [Kind.TRUNCATED_LOG]
    assert Register.pcr(11) in {difference.register for difference in result.differences}


@needs_vectors
@pytest.mark.parametrize(("memory", "passes"), [(8 * GIB, True), (4 * GIB, False), (16 * GIB, False)])
def test_a_real_td_with_other_memory_than_predicted(memory: int, passes: bool) -> None:
    """The TD has 8 GiB; its ACPI tables are taken from its log, everything else in RTMR0 is predicted."""
    log = parse_event_log(vector("go-eventlog/CCEL_unpadded.data.bin"), name="ccel", kind=LogKind.CC)
    blobs = [e.digests for e in log.of(RTMR0) if e.event_type == EventType.EV_PLATFORM_CONFIG_FLAGS]
    traits = FirmwareTraits(
        oldest=202402, newest=202402, measures_td=True, secure_boot_built_in=True, setup_volume=DXE_VOLUME
    )
    tdvf = parse_tdvf(lzma.decompress(vector("debian-ovmf/OVMF.inteltdx.ms.fd.xz")), name="OVMF.fd")
    store = lzma.decompress(vector("debian-ovmf/OVMF_VARS_4M.fd.xz"))
    firmware = Firmware(
        name="OVMF.fd",
        data=b"",
        sha256="",
        tdvf=tdvf,
        traits=traits,
        configuration=store,
        variables=read_variables(store),
    )
    predicted = in_td(rtmr0_events(firmware, traits, MachineInputs(memory=memory, direct=True)))
    filled = tuple(
        attrs.evolve(item, digests=blobs.pop(0), pending="") if item.pending else item
        for item in predicted
        if isinstance(item, PredictedEvent)
    )
    manifest = Manifest(prediction=filled, covers=(RTMR0,))
    result = verify(Evidence(log=log, manifest=manifest, hints=memory_hints(tdvf)))
    assert result.ok is passes
    if not passes:
        (cause,) = result.causes
        assert cause.kind is Kind.MEMORY
        assert cause.sentence.startswith("same events, other memory size (8 GiB of memory)")
