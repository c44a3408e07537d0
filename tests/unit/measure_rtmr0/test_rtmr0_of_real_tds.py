"""RTMR0: memory map, variables, boot options and their order, against the logs and quotes of real TDs."""

import hashlib
import itertools
import lzma
import struct
import uuid
from collections.abc import Sequence

import attrs
import pytest
from support.efi_images import DEFAULT_AREAS, build_firmware
from support.event_logs import needs_vectors, vector
from support.real_logs import digests, td_boot, tpm_boot
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.measure.events import RTMR0, Algorithm, Alternatives, PredictedEvent, replay, variants
from tdxc_runtime.measure.firmware.load import Firmware
from tdxc_runtime.measure.firmware.tdvf import Tdvf, parse_tdvf
from tdxc_runtime.measure.firmware.traits import DXE_VOLUME, FirmwareTraits
from tdxc_runtime.measure.firmware.varstore import GLOBAL_VARIABLE, Variable, read_variables
from tdxc_runtime.measure.machine import GIB, MIB
from tdxc_runtime.measure.rtmr0.boot_options import boot_option_events, boot_options, virtio_disk_option
from tdxc_runtime.measure.rtmr0.events import (
    KERNEL_BOOT_ORDER,
    MachineInputs,
    direct_boot_order,
    rtmr0_events,
)
from tdxc_runtime.measure.rtmr0.variables import secure_boot_events, variable_data
from tdxc_runtime.measure.sequence import in_td
from tdxc_runtime.measure.tdhob import build_td_hob, memory_ranges, ram_ranges

LOGS = {
    "dstack": (64 * GIB, True, False),
    "go-eventlog/CCEL_unpadded.data.bin": (8 * GIB, False, True),
}
"""Memory, whether the separators follow the newer rule, whether Secure Boot is built in (and off)."""


def real_tdvf() -> Tdvf:
    data = lzma.decompress(vector("debian-ovmf/OVMF.inteltdx.ms.fd.xz"))
    return parse_tdvf(data, name="OVMF.fd")


def firmware(traits: FirmwareTraits) -> Firmware:
    """The layout that all these TDs share, with an empty variable store."""
    configuration = lzma.decompress(vector("debian-ovmf/OVMF_VARS_4M.fd.xz"))
    return Firmware(
        name="OVMF.fd",
        data=b"",
        sha256="",
        tdvf=real_tdvf(),
        traits=traits,
        configuration=configuration,
        variables=read_variables(configuration),
    )


def old_traits(*, newer_separators: bool, secure_boot_built_in: bool) -> FirmwareTraits:
    release = 202502 if newer_separators else 202402
    return FirmwareTraits(
        oldest=release,
        newest=release,
        measures_td=True,
        secure_boot_built_in=secure_boot_built_in,
        setup_volume=DXE_VOLUME,
    )


def with_tables(items: Sequence[PredictedEvent | Alternatives], blobs: Sequence[str]) -> list[PredictedEvent]:
    """Fill the pending ACPI events with digests from elsewhere."""
    rest = iter(blobs)
    filled = []
    for item in items:
        assert isinstance(item, PredictedEvent)
        known = item.digests or ((Algorithm.SHA384, bytes.fromhex(next(rest))),)
        filled.append(attrs.evolve(item, pending="", digests=known))
    assert not list(rest)
    return filled


@needs_vectors
@pytest.mark.parametrize("name", list(LOGS))
def test_rtmr0_of_a_real_td_event_by_event(name: str) -> None:
    memory, newer, built_in = LOGS[name]
    traits = old_traits(newer_separators=newer, secure_boot_built_in=built_in)
    logged = digests(td_boot(name), RTMR0, algorithm=Algorithm.SHA384)
    items = in_td(rtmr0_events(firmware(traits), traits, MachineInputs(memory=memory, direct=True)))
    events = with_tables(items, logged[8:11])
    assert [(event.digest(Algorithm.SHA384) or b"").hex() for event in events] == logged


@needs_vectors
def test_the_quote_of_a_real_td_shows_the_predicted_rtmr0() -> None:
    traits = old_traits(newer_separators=True, secure_boot_built_in=False)
    logged = digests(td_boot("dstack"), RTMR0, algorithm=Algorithm.SHA384)
    items = in_td(rtmr0_events(firmware(traits), traits, MachineInputs(memory=64 * GIB, direct=True)))
    value = replay(with_tables(items, logged[8:11]), RTMR0)
    assert value is not None
    assert value.hex() == (
        "2e3843265f8ecdd4e2282694747f6f2f111605c33f2a8882f5734ee6f3a6ce63d8f34aeef06093dcda76fa5f9d33d8d6"
    )


@needs_vectors
@pytest.mark.parametrize(
    ("memory", "digest"),
    [
        (2 * GIB, "0b8772e5b0b41b83e6044a68397e02f49fb47066b4fbe4917ea2c45c64f323fdacbb37948f821ebaf8bc9c938ba8a749"),
        (8 * GIB, "2e070cda358b5aa00f27cca25c47381bb564f4be3a84d059805a73cbbde764ed8341f7e09915b5e7b370f9c08a743fbd"),
        (64 * GIB, "8ae1e425351df7992c444586eff99d35af3b779aa2b0e981cb4b73bc5b279f2ade19b6a62a203fc3c3bbdaae80af596d"),
    ],
)
def test_memory_maps_of_real_tds(memory: int, digest: str) -> None:
    assert hashlib.sha384(build_td_hob(real_tdvf(), ram_ranges(memory))).hexdigest() == digest


def test_ram_is_split_from_2816_mib_on() -> None:
    assert ram_ranges(2815 * MIB) == ((0, 2815 * MIB),)
    assert ram_ranges(2816 * MIB) == ((0, 2 * GIB), (4 * GIB, 4 * GIB + 768 * MIB))


def test_the_memory_map_covers_all_ram_without_gaps() -> None:
    tdvf = parse_tdvf(build_firmware(), name="x")
    ranges = memory_ranges(tdvf, ram_ranges(GIB))
    assert ranges[0].start == 0
    assert ranges[-1].end == GIB
    assert all(low.end == high.start for low, high in itertools.pairwise(ranges))
    assert [(r.start, r.size) for r in ranges if r.accepted] == [(0x809000, 0x2000), (0x810000, 0x10000)]


def test_ram_too_small_for_the_firmware_is_refused() -> None:
    tdvf = parse_tdvf(build_firmware(), name="x")
    with pytest.raises(ValueError, match="does not hold"):
        memory_ranges(tdvf, ((0, 0x800000),))


def test_a_firmware_without_a_place_for_the_hob_is_refused() -> None:
    tdvf = parse_tdvf(build_firmware(DEFAULT_AREAS[:3]), name="x")
    with pytest.raises(ValueError, match="no place"):
        build_td_hob(tdvf, ram_ranges(GIB))


@needs_vectors
def test_secure_boot_variables_of_a_boot_with_enrolled_keys() -> None:
    store = read_variables(lzma.decompress(vector("debian-ovmf/OVMF_VARS_4M.ms.fd.xz")))
    events = secure_boot_events(store, built_in=True, artifact="OVMF.fd")
    assert [len(event.data or b"") > 60 for event in events] == [False, True, True, True, True]
    assert events[0].data == variable_data(GLOBAL_VARIABLE, "SecureBoot", b"\1")


@needs_vectors
@pytest.mark.parametrize(("boot", "built_in"), [("t9", False), ("t11", True)])
def test_secure_boot_variables_of_real_boots_without_keys(*, boot: str, built_in: bool) -> None:
    events = secure_boot_events((), built_in=built_in, artifact="OVMF.fd")
    logged = digests(tpm_boot(boot), events[0].register)
    assert [(event.digest(Algorithm.SHA256) or b"").hex() for event in events] == logged[:5]


def test_rare_databases_are_measured_only_where_they_exist() -> None:
    vendor = next(event for event in secure_boot_events((), built_in=False, artifact="x")[3:4])
    assert vendor.data is not None
    database = Variable(vendor=uuid.UUID(bytes_le=vendor.data[:16]), name="dbt", attributes=0, data=b"cert")
    names = [event.description for event in secure_boot_events((database,), built_in=False, artifact="x")]
    assert len(names) == 6
    assert "dbt" in names[5]


NEW_MENUS = FirmwareTraits(
    oldest=202608,
    newest=202608,
    has_menu_app=True,
    menu_volume=DXE_VOLUME,
    setup_volume=DXE_VOLUME,
    shell_volume=DXE_VOLUME,
)


@needs_vectors
@pytest.mark.parametrize(
    ("boot", "traits", "direct"),
    [
        ("t9", NEW_MENUS, True),
        ("t11", old_traits(newer_separators=False, secure_boot_built_in=True), True),
        ("t8", NEW_MENUS, False),
    ],
)
def test_boot_options_of_real_boots(boot: str, traits: FirmwareTraits, *, direct: bool) -> None:
    disk = None if direct else virtio_disk_option(slot_of_the_disk(boot))
    events = boot_option_events(boot_options(traits, disk, direct=direct), artifact="OVMF.fd")
    logged = digests(tpm_boot(boot), events[0].register, kind=events[0].event_type)
    assert [(event.digest(Algorithm.SHA256) or b"").hex() for event in events] == logged


def slot_of_the_disk(boot: str) -> int:
    """The PCI node of Boot0002 in the log: type 1, subtype 1, length 6, function, device."""
    option = next(e.data for e in tpm_boot(boot) if "Boot0002".encode("utf-16-le") in e.data)
    at = option.index(b"\x01\x01\x06\x00")
    return int(struct.unpack_from("<4xBB", option, at)[1])


@needs_vectors
def test_the_boot_option_of_a_disk_in_a_real_td() -> None:
    option = virtio_disk_option(3)
    logged = td_boot("cc-trusted-api/ccel_data.bin")
    assert option.data in [event.data[-len(option.data) :] for event in logged]


def test_the_old_and_the_new_separator_rule_are_alternatives_when_the_age_is_unknown() -> None:
    tdvf = parse_tdvf(build_firmware(), name="x")
    traits = FirmwareTraits(oldest=202302, newest=202502, setup_volume=DXE_VOLUME)
    made = Firmware(name="x", data=b"", sha256="", tdvf=tdvf, traits=traits, configuration=b"cfv", variables=())
    items = rtmr0_events(made, traits, MachineInputs(memory=GIB, direct=True))
    (first, second) = variants(items)
    assert len(second.events) == len(first.events) + 1
    assert [name for name, _ in first.reasons] == ["separator"]


def test_memory_that_does_not_suit_the_firmware_is_a_diagnostic() -> None:
    tdvf = parse_tdvf(build_firmware(), name="x")
    traits = FirmwareTraits(oldest=202502, newest=202502)
    made = Firmware(name="OVMF.fd", data=b"", sha256="", tdvf=tdvf, traits=traits, configuration=b"c", variables=())
    with pytest.raises(DiagnosticError) as caught:
        rtmr0_events(made, traits, MachineInputs(memory=4 * MIB, direct=True))
    assert caught.value.diagnostics[0].code is Code.E_FIRMWARE


def test_newer_firmware_measures_settings_and_waits_for_smbios() -> None:
    tdvf = parse_tdvf(build_firmware(), name="x")
    traits = attrs.evolve(NEW_MENUS, measures_fw_cfg=True, measures_smbios=True)
    made = Firmware(name="x", data=b"", sha256="", tdvf=tdvf, traits=traits, configuration=b"cfv", variables=())
    items = {"BootMenu": b"\0\0", "etc/acpi/tables": b"t", "etc/acpi/rsdp": b"r", "etc/table-loader": b"l"}
    inputs = MachineInputs(memory=GIB, direct=True, items=items)
    events = [event for event in rtmr0_events(made, traits, inputs) if isinstance(event, PredictedEvent)]
    assert [event.origin.section for event in events[2:4]] == ["BootMenu", "bootorder"]
    assert events[3].data == KERNEL_BOOT_ORDER + b"\0"
    assert [event.origin.section for event in events[10:13]] == ["etc/table-loader", "etc/acpi/rsdp", "etc/acpi/tables"]
    assert "SMBIOS" in events[13].pending
    known = attrs.evolve(inputs, smbios_sha384=bytes(48))
    assert not any(e.pending for e in rtmr0_events(made, traits, known) if isinstance(e, PredictedEvent))


def test_the_boot_rom_stands_before_the_devices() -> None:
    assert direct_boot_order(b"/pci@i0cf8/scsi@3/disk@0,0\0") == KERNEL_BOOT_ORDER + b"\n/pci@i0cf8/scsi@3/disk@0,0\0"
