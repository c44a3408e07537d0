"""ACPI tables read out of a stopped QEMU, against dumps and against the tables of a live TD."""

from __future__ import annotations

import gzip
import hashlib
from pathlib import Path

import pytest
from support.event_logs import needs_vectors, vector
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.measure.acpi.items import LOADER, RSDP, TABLES, read_from_folder, read_from_qemu
from tdxc_runtime.measure.acpi.qemu import Qemu, find_qemu, read_qemu
from tdxc_runtime.measure.events import RTMR0, PredictedEvent, replay
from tdxc_runtime.measure.firmware.load import read_firmware
from tdxc_runtime.measure.machine import GIB, GuestMachine
from tdxc_runtime.measure.rtmr0.events import MachineInputs, rtmr0_events
from tdxc_runtime.measure.sequence import in_td
from tdxc_runtime.toolsroot import ToolsRoot
from tdxc_runtime.vm.tools import VmTools

pytestmark = pytest.mark.integration

HOLE = ("-global", "q35-pcihost.pci-hole64-size=4096G")
LIVE_TD = GuestMachine(
    memory=16 * GIB,
    vcpus=8,
    physical_bits=46,
    backends=(*HOLE, "-netdev", "hubport,id=net0,hubid=0"),
    devices=(
        "e1000,netdev=net0,bus=pcie.0,addr=0x2,romfile=",
        "vhost-vsock-pci,guest-cid=99",
        *(f"virtio-scsi-pci,id=scsi{number},disable-legacy=on,iommu_platform=true" for number in range(3)),
    ),
)
WITH_HPET = GuestMachine(
    memory=4 * GIB,
    vcpus=8,
    physical_bits=46,
    backends=HOLE,
    devices=("virtio-rng-pci", "virtio-balloon-pci", "virtio-scsi-pci,id=scsi0"),
)
"""Two machines of another project's tests: the first one's tables were captured in a TD (QEMU 10.2.1)."""


@pytest.fixture(scope="module")
def qemu() -> Qemu:
    tools = VmTools(qemu_version="", root=ToolsRoot.ensure(suite="trixie"))
    return read_qemu(tools, "qemu-system-x86_64", tools.on_host(Path("/usr/bin/qemu-system-x86_64")))


def sha384(data: bytes) -> str:
    return hashlib.sha384(data).hexdigest()


@needs_vectors
def test_a_bare_machine_has_the_tables_of_the_dump(qemu: Qemu) -> None:
    items = read_from_qemu(qemu, GuestMachine(machine_options=())).items
    assert items[TABLES] == gzip.decompress(vector("qemu-fwcfg/programmed/etc_acpi_tables.gz"))
    assert items[RSDP] == vector("qemu-fwcfg/programmed/etc_acpi_rsdp")
    assert items[LOADER] == vector("qemu-fwcfg/programmed/etc_table-loader")
    assert items["BootMenu"] == vector("qemu-fwcfg/BootMenu")


@pytest.mark.parametrize(
    ("machine", "tables", "rsdp", "rtmr0"),
    [
        (
            LIVE_TD,
            "66bb50e2c4bcde199d3e62344d9e2276d9fa117c861f14fd9bf6a3bcfebf6efc97059e273f08bf5a09fa0853b2492048",
            "727c0e3904042ea889dbeb79d48b7ec3cb922df485d65775a07533e1aa83e3166cbafa24b091e17533ad2f48a543d961",
            "a2749c840579faca6adf0c9c3ab69f277556cda67f8a6b3553c2c7fbf00e9706ec77a6f6960d802433b339ff8b72eefb",
        ),
        (
            WITH_HPET,
            "b3e86d66063f4cdeeb6c5897572704f5474698a883c6be7f102b1ca48eb315a20f359f1d0266f888d3f0ed83ae531589",
            "d9f82daaa1b00205fe5cb96591b8801edf02b70046955f1e987a8f5953757f53e95eb7e51f56011228d64e23955da035",
            "507b21ccfe504463c9a324a440e19707ef84e03663cf6c6013540ce79131f9675a7852cfa65303d931c2a79389ffff49",
        ),
    ],
)
def test_tables_and_rtmr0_of_tds(qemu: Qemu, machine: GuestMachine, tables: str, rsdp: str, rtmr0: str) -> None:
    found = read_from_qemu(qemu, machine)
    assert sha384(found.items[TABLES]) == tables
    assert sha384(found.items[RSDP]) == rsdp
    firmware = read_firmware(qemu.tools.on_host(Path("/usr/share/ovmf/OVMF.fd")))
    assert firmware.traits is not None
    assert firmware.traits.oldest == firmware.traits.newest == 202502
    inputs = MachineInputs(memory=machine.memory, direct=True, items=found.items)
    items = in_td(rtmr0_events(firmware, firmware.traits, inputs))
    events = [event for event in items if isinstance(event, PredictedEvent)]
    assert len(events) == 13
    value = replay(events, RTMR0)
    assert value is not None
    assert value.hex() == rtmr0


def test_memory_and_processors_show_in_the_tables_and_the_origin_names_the_build(qemu: Qemu) -> None:
    base = read_from_qemu(qemu, GuestMachine())
    assert qemu.version_text in base.origin
    for other in (GuestMachine(memory=8 * GIB), GuestMachine(vcpus=3)):
        assert read_from_qemu(qemu, other).items[TABLES] != base.items[TABLES]
    assert read_from_qemu(qemu, GuestMachine()).items == base.items


def test_more_memory_than_there_is_can_be_measured(qemu: Qemu) -> None:
    assert read_from_qemu(qemu, GuestMachine(memory=1024 * GIB, physical_bits=46)).items[TABLES]


def test_disks_are_found_in_their_slots(qemu: Qemu) -> None:
    machine = GuestMachine(
        physical_bits=46,
        backends=("-drive", "if=none,id=a,file=/nowhere/a.raw,format=raw"),
        devices=("virtio-rng-pci", "virtio-blk-pci,drive=a,bootindex=1"),
    )
    found = read_from_qemu(qemu, machine)
    assert found.virtio_disks == (2,)
    assert found.items["bootorder"].startswith(b"/pci@i0cf8/scsi@2/disk@0,0")


def test_a_machine_that_qemu_rejects_is_a_diagnostic_with_its_words(qemu: Qemu) -> None:
    with pytest.raises(DiagnosticError) as caught:
        read_from_qemu(qemu, GuestMachine(devices=("no-such-device",)))
    diagnostic = caught.value.diagnostics[0]
    assert diagnostic.code is Code.E_BACKEND_EXECUTION
    assert "no-such-device" in diagnostic.notes[-1].message


@pytest.mark.parametrize("program", ["/bin/true", "/nowhere/qemu"])
def test_what_is_no_qemu_is_a_diagnostic(program: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        find_qemu(Path(program))
    assert caught.value.diagnostics[0].code is Code.E_BACKEND_UNAVAILABLE


def test_what_the_firmware_decides_is_not_guessed(qemu: Qemu) -> None:
    disk = GuestMachine(backends=("-drive", "if=none,id=a"), devices=("virtio-blk-pci,drive=a",))
    bridge = GuestMachine(devices=("pcie-root-port,id=p",), physical_bits=46)
    for machine, words in ((disk, "physical address bits"), (bridge, "PCI bridge")):
        with pytest.raises(DiagnosticError) as caught:
            read_from_qemu(qemu, machine)
        assert caught.value.diagnostics[0].code is Code.E_MEASUREMENT
        assert words in caught.value.diagnostics[0].message


def test_tables_can_come_from_files(qemu: Qemu, tmp_path: Path) -> None:
    found = read_from_qemu(qemu, GuestMachine())
    for name, data in found.items.items():
        (tmp_path / name.replace("/", "_")).write_bytes(data)
    assert read_from_folder(tmp_path).items == found.items
    (tmp_path / "etc_acpi_rsdp").unlink()
    with pytest.raises(DiagnosticError) as caught:
        read_from_folder(tmp_path)
    assert "etc/acpi/rsdp" in caught.value.diagnostics[0].message


def test_a_tpm_shows_in_the_tables(qemu: Qemu) -> None:
    with_tpm = read_from_qemu(qemu, GuestMachine(tpm=True))
    assert with_tpm.items["etc/tpm/log"] == bytes(65536)
    assert b"TPM2" in with_tpm.items[TABLES]
