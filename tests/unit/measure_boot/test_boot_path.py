"""The boot path: partition tables, kernel headers, load options, user space; against real boots' logs."""

import hashlib
import struct
import uuid

import pytest
from support.efi_images import build_gpt_disk, build_kernel, build_uki
from support.event_logs import needs_vectors, vector
from support.real_logs import digests, tpm_boot
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.measure.boot.applications import calling_event, exit_events, inner_kernel_events, separator_event
from tdxc_runtime.measure.boot.fat import FatFileSystem, MalformedFatError
from tdxc_runtime.measure.boot.gpt import gpt_event, read_partition_table
from tdxc_runtime.measure.boot.kernel import KernelVersion, kernel_complaint, parse_kernel_version, read_kernel_version
from tdxc_runtime.measure.boot.setup_header import (
    HEADER_END,
    overlay,
    patched_bzimage_header,
    patched_efi_header,
)
from tdxc_runtime.measure.boot.userspace import phase_events
from tdxc_runtime.measure.events import Algorithm, Alternatives, EventType, Register, replay
from tdxc_runtime.measure.pe.digests import Literal, Span
from tdxc_runtime.measure.sources import MemorySource
from tdxc_runtime.measure.stub.cmdline import utf16

ESP = uuid.UUID("c12a7328-f81f-11d2-ba4b-00a0c93ec93b")
ROOT = uuid.UUID("4f68bce3-e8cd-4db1-96e7-fbcaf984b709")


def memory(data: bytes) -> MemorySource:
    return MemorySource(name="file", data=data)


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@needs_vectors
@pytest.mark.parametrize(
    ("name", "body", "sha384"),
    [
        (
            "tiny257",
            "428e6671173f97b3d4f922f3687ab276bdc05ca167540dedda2ed9ca4bb43f66",
            "f646623fee21d5962149025c78aa8c2d353dce3916bf8ae12e2a43ebe2b52a243d90d99622be146725dab7bcda87bd21",
        ),
        (
            "disk",
            "cafee570f8ead5fc6aa90bf80a9f95b6403c8e3aa92de68e50adc9d0ca0efb76",
            "3b84a6094eae27775529a882d0694c3477d56e1c8f429ead38aaa535c91377ee0298c629fe249afd8477cc0c64aecc3e",
        ),
    ],
)
def test_partition_tables_of_real_boots(name: str, body: str, sha384: str) -> None:
    table = read_partition_table(memory(vector(f"qemu-tcg/{name}.gpt34.bin")), artifact="disk.raw")
    event = gpt_event(table, artifact="disk.raw")
    assert sha256(table.event_data) == body
    assert (event.digest(Algorithm.SHA384) or b"").hex() == sha384
    assert body in digests(tpm_boot(name), Register.pcr(5), kind=EventType.EV_EFI_GPT_EVENT)


def test_unused_entries_do_not_count_and_the_order_is_the_tables() -> None:
    disk = build_gpt_disk([(ESP, 64, 100, b""), (ROOT, 200, 300, b"")])
    table = read_partition_table(memory(disk), artifact="disk.raw")
    assert [p.first_lba for p in table.partitions] == [64, 200]
    assert len(table.event_data) == 92 + 8 + 2 * 128
    assert struct.unpack_from("<Q", table.event_data, 92) == (2,)


@pytest.mark.parametrize(
    ("offset", "value", "words"),
    [
        (512, b"EFI FART", "no GPT"),
        (512 + 16, b"\0\0\0\0", "wrong checksum"),
        (1024 + 60, b"X", "entries of the partition table have a wrong checksum"),
    ],
)
def test_damaged_tables_are_refused(offset: int, value: bytes, words: str) -> None:
    disk = bytearray(build_gpt_disk([(ESP, 64, 100, b"")]))
    disk[offset : offset + len(value)] = value
    with pytest.raises(DiagnosticError) as caught:
        read_partition_table(memory(bytes(disk)), artifact="disk.raw")
    assert caught.value.diagnostics[0].code is Code.E_ARTIFACT
    assert words in caught.value.diagnostics[0].message


def test_a_disk_that_is_too_short_is_refused() -> None:
    disk = build_gpt_disk([(ESP, 64, 100, b"")])
    for size in (0, 600, 1100):
        with pytest.raises(DiagnosticError) as caught:
            read_partition_table(memory(disk[:size]), artifact="disk.raw")
        assert caught.value.diagnostics[0].code is Code.E_ARTIFACT


@pytest.mark.parametrize(
    ("text", "version"),
    [
        ("6.12.43+deb13-amd64", KernelVersion(major=6, minor=12)),
        ("6.9-rc1", KernelVersion(major=6, minor=9)),
        ("6.9", KernelVersion(major=6, minor=9)),
        ("vmlinuz", None),
        ("", None),
    ],
)
def test_kernel_versions(text: str, version: KernelVersion | None) -> None:
    assert parse_kernel_version(text) == version


def test_the_kernels_version_is_read_from_its_header() -> None:
    assert read_kernel_version(memory(build_kernel("6.14.2-cloud"))) == KernelVersion(major=6, minor=14)
    assert read_kernel_version(memory(build_uki())) is None
    assert read_kernel_version(memory(b"MZ")) is None


@pytest.mark.parametrize(
    ("version", "known", "in_rtmr"),
    [((5, 15), False, False), ((6, 2), True, False), ((6, 8), True, False), ((6, 9), True, True)],
)
def test_what_a_kernel_measures_depends_on_its_version(version: tuple[int, int], *, known: bool, in_rtmr: bool) -> None:
    kernel = KernelVersion(major=version[0], minor=version[1])
    assert (kernel_complaint(kernel) == "") is known
    assert kernel.measures_in_rtmr is in_rtmr


def test_the_setup_header_is_patched_as_qemu_does() -> None:
    kernel = build_kernel()
    header = patched_bzimage_header(memory(kernel), initrd_size=1, low_ram=2 << 30, cmdline="quiet", artifact="k")
    changed = {i for i in range(HEADER_END) if header[i] != kernel[i]}
    assert changed <= {0x210, 0x211, *range(0x218, 0x220), 0x224, 0x225, *range(0x228, 0x22C)}
    address, size = struct.unpack_from("<II", header, 0x218)
    assert (address, size) == (((2 << 30) - 0x28000 - 2) & ~0xFFF, 1)
    assert struct.unpack_from("<HxxI", header, 0x224) == (0x20000 - 0x10000 - 0x200, 0x20000)


def test_the_initrds_place_depends_on_ram_and_on_the_kernels_limit() -> None:
    def place(low_ram: int, kernel: bytes) -> int:
        header = patched_bzimage_header(memory(kernel), initrd_size=4096, low_ram=low_ram, cmdline="", artifact="k")
        return int(struct.unpack_from("<I", header, 0x218)[0])

    modern = build_kernel()
    limited = bytearray(modern)
    struct.pack_into("<H", limited, 0x236, 0)
    struct.pack_into("<I", limited, 0x22C, 0x37FFFFFF)
    assert place(1 << 30, modern) < place(2 << 30, modern)
    assert place(2 << 30, bytes(limited)) == 0x37FFFFFF - 4096 & ~0xFFF


@pytest.mark.parametrize(
    ("kernel", "cmdline", "words"),
    [
        (b"short", "", "too short"),
        (build_uki(), "", "no bzImage"),
        (build_kernel(protocol=0x201), "", "no bzImage"),
        (build_kernel(), "vga=normal", "vga="),
    ],
)
def test_headers_that_cannot_be_foretold_are_refused(kernel: bytes, cmdline: str, words: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        patched_bzimage_header(memory(kernel), initrd_size=0, low_ram=1 << 30, cmdline=cmdline, artifact="k")
    assert words in caught.value.diagnostics[0].message


def test_an_initrd_that_does_not_fit_is_refused() -> None:
    with pytest.raises(DiagnosticError, match="does not fit"):
        patched_bzimage_header(memory(build_kernel()), initrd_size=1 << 30, low_ram=1 << 28, cmdline="", artifact="k")


def test_older_qemu_damages_four_bytes_of_a_uki() -> None:
    uki = build_uki()
    header = patched_efi_header(memory(uki), cmdline="quiet")
    assert {i for i in range(HEADER_END) if header[i] != uki[i]} == {0x20, 0x21, 0x22, 0x23}
    assert header[0x20:0x22] == b"\x3f\xa3"


def test_an_overlay_replaces_only_the_beginning() -> None:
    segments = (Span(0, 4), Span(8, 8), Span(20, 4))
    assert overlay(segments, b"0123456789") == (Literal(b"0123"), Literal(b"89"), Span(10, 6), Span(20, 4))


@needs_vectors
def test_load_options_of_real_kernel_boots_by_the_firmwares_age() -> None:
    line = "console=ttyS0,115200n8 foo"
    newer, older = f"initrd=initrd {line}", f"{line} initrd=initrd"
    assert digests(tpm_boot("t9"), Register.pcr(9))[0] == sha256(utf16(newer))
    assert digests(tpm_boot("t11"), Register.pcr(9))[0] == sha256(utf16(older))
    assert digests(tpm_boot("t9"), Register.pcr(9))[1] == sha256(vector("qemu-tcg/tiny.cpio"))


@needs_vectors
@pytest.mark.parametrize("boot", ["t1", "t8", "disk", "tiny257"])
def test_leaving_boot_services_has_one_of_two_shapes(boot: str) -> None:
    kind = EventType.EV_EFI_ACTION
    logged = digests(tpm_boot(boot), Register.pcr(5), kind=kind)
    shapes = [
        [(event.digest(Algorithm.SHA256) or b"").hex() for event in option.events] for option in exit_events().options
    ]
    assert [shape[: len(logged)] == logged for shape in shapes].count(True) >= (1 if logged else 0)


@needs_vectors
def test_pcr4_of_a_real_disk_boot() -> None:
    log = tpm_boot("tiny257")
    register = Register.pcr(4)
    logged = digests(log, register)
    assert logged[0] == (calling_event().digest(Algorithm.SHA256) or b"").hex()
    assert logged[1] == (separator_event(register).digest(Algorithm.SHA256) or b"").hex()


def test_boot_phases_follow_the_units_of_the_image() -> None:
    words = [event.data for event in phase_events(frozenset({"systemd-pcrphase.service", "other.service"}))]
    assert words == [b"ready"]
    everything = frozenset(
        {"systemd-pcrphase-initrd.service", "systemd-pcrphase-sysinit.service", "systemd-pcrphase.service"}
    )
    events = phase_events(everything)
    assert [event.data for event in events] == [b"enter-initrd", b"leave-initrd", b"sysinit", b"ready"]
    value = b"\0" * 32
    for event in events:
        value = hashlib.sha256(value + hashlib.sha256(event.data or b"").digest()).digest()
    assert replay(events, Register.pcr(11), Algorithm.SHA256) == value


def test_the_inner_kernel_is_an_alternative_while_secure_boot_is_unknown() -> None:
    event = separator_event(Register.pcr(4))
    assert inner_kernel_events(event, loaded_by_firmware=False, secure_boot=None) == ()
    assert inner_kernel_events(event, loaded_by_firmware=True, secure_boot=False) == (event,)
    assert inner_kernel_events(event, loaded_by_firmware=True, secure_boot=True) == ()
    (point,) = inner_kernel_events(event, loaded_by_firmware=True, secure_boot=None)
    assert isinstance(point, Alternatives)
    assert [option.events for option in point.options] == [(event,), ()]


@pytest.mark.parametrize("data", [b"", bytes(512), b"\xeb\x58\x90" + bytes(507) + b"\x55\xaa", b"\xff" * 4096])
def test_what_is_no_fat_file_system_is_refused(data: bytes) -> None:
    with pytest.raises(MalformedFatError):
        FatFileSystem(memory(data), 0)
