"""What is predicted against what firmware, stub and kernel really measure, beyond a plain boot of a baked image.

The kernel comes out of a baked image; the UKIs around it are made with ukify, with the stubs of two systemd versions.
They boot under two generations of QEMU and OVMF until the kernel runs: newer firmware, profiles of the UKI, plain
kernels, and Secure Boot with keys of our own.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs
import pytest
from support.measured_boot import KERNEL_RUNS, MeasuredBoot, measured_boot, write_disk
from support.secure_boot import SigningKey, enroll, make_key, sign
from support.suites import NEWER_SUITE, SUITES
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.measure.acpi.items import ACPI_ORDER, SMBIOS_TABLES, read_from_qemu
from tdxc_runtime.measure.acpi.qemu import read_qemu
from tdxc_runtime.measure.events import Algorithm, EventType, PredictedEvent, Register, replay, variants
from tdxc_runtime.measure.firmware.traits import read_traits
from tdxc_runtime.measure.machine import GuestMachine, QemuVersion
from tdxc_runtime.measure.manifest import Manifest
from tdxc_runtime.measure.pe.image import parse_image, section_window
from tdxc_runtime.measure.predict import predict
from tdxc_runtime.measure.request import BootMode, KernelFiles, MeasurementRequest
from tdxc_runtime.measure.rtmr0.boot_options import boot_option_events, boot_options, virtio_disk_option
from tdxc_runtime.measure.rtmr0.smbios import measured_smbios
from tdxc_runtime.measure.rtmr0.variables import secure_boot_events
from tdxc_runtime.measure.sources import FileSource
from tdxc_runtime.measure.stub.versions import stub_rules
from tdxc_runtime.process import Bind
from tdxc_runtime.toolsroot import ToolsRoot
from tdxc_runtime.toolsroot.contents import DEFAULT_SUITE
from tdxc_runtime.vm.machine import DirectKernel, Machine, UkiOnDisk
from tdxc_runtime.vm.tools import VmTools

pytestmark = pytest.mark.integration

STUB_PACKAGE = "systemd-boot-efi"
STUB = Path("usr/lib/systemd/boot/efi/linuxx64.efi.stub")
CMDLINE = "console=ttyS0 loglevel=7"
BANKS = (Algorithm.SHA256, Algorithm.SHA384)
PREDICTED = tuple(Register.pcr(index) for index in (4, 5, 9, 11, 12, 13))


@attrs.frozen
class Generation:
    """A tools root: its QEMU, OVMF and systemd-stub belong together.

    A stub that is newer than all that are known is refused, as it should be; UKIs then have that of the default suite.
    """

    name: str
    stub: str
    stub_file: Path
    qemu: QemuVersion
    tools: VmTools


@attrs.frozen
class Parts:
    """What UKIs are made of."""

    folder: Path
    kernel: Path
    build: Callable[..., Path]


def generation(name: str) -> Generation:
    root = ToolsRoot.ensure(suite=name)
    version = QemuVersion.parse(root.manifest.packages["qemu-system-x86"].split(":")[-1])
    source = root if has_known_stub(root) else ToolsRoot.ensure()
    stub = source.manifest.packages[STUB_PACKAGE]
    return Generation(name, stub, source.root / STUB, version, VmTools(qemu_version=str(version), root=root))


def has_known_stub(root: ToolsRoot) -> bool:
    try:
        stub_rules(root.manifest.packages[STUB_PACKAGE], artifact="the stub")
    except DiagnosticError as refused:
        print(f"{root.folder.name}: {refused}")
        return False
    return True


@pytest.fixture(scope="module")
def generations() -> dict[str, Generation]:
    return {name: generation(name) for name in SUITES}


@pytest.fixture(scope="module")
def parts(
    tmp_path_factory: pytest.TempPathFactory, generations: dict[str, Generation], bake: Callable[[str], Path]
) -> Parts:
    """A distribution's kernel, taken out of an image that is baked for it, and a way to make UKIs of it."""
    folder = tmp_path_factory.mktemp("predicted")
    with FileSource(bake("") / "measured.efi") as source:
        for name in (".linux", ".uname", ".osrel"):
            section = parse_image(source).section(name)
            assert section is not None
            window = section_window(source, section)
            (folder / name[1:]).write_bytes(window.read(0, window.size))
    (folder / "initrd").write_bytes(b"not a cpio")
    ukify = generations[DEFAULT_SUITE].tools
    for suite, made in generations.items():
        (folder / f"stub-{suite}").write_bytes(made.stub_file.read_bytes())

    def build(name: str, *words: str) -> Path:
        inside = Path("/tdxvm/uki")
        argv = ["ukify", "build", *(word.replace("@@", str(inside)) for word in words), f"--output={inside / name}"]
        ukify.run(argv, (Bind(source=folder, target=inside, writable=True),))
        return folder / name

    return Parts(folder, folder / "linux", build)


def simple_uki(parts: Parts, suite: str) -> Path:
    path = parts.folder / f"{suite}.efi"
    if path.exists():
        return path
    uname = (parts.folder / "uname").read_text(encoding="ascii").strip("\0\n")
    words = (f"--stub=@@/stub-{suite}", "--linux=@@/linux", "--initrd=@@/initrd", "--os-release=@@@/osrel")
    return parts.build(path.name, *words, f"--cmdline={CMDLINE}", f"--uname={uname}")


def boot_it(made: Generation, machine: Machine, parts: Parts, name: str) -> MeasuredBoot:
    assert made.tools.root is not None
    variables = made.tools.root.root / "usr/share/OVMF/OVMF_VARS_4M.fd"
    return measured_boot(made.tools, machine, parts.folder / f"boot-{name}", variables)


def logged(boot: MeasuredBoot, register: Register, algorithm: Algorithm, kind: EventType | None = None) -> list[bytes]:
    found = (event for event in boot.log if event.register == register and event.is_extended)
    return [event.digest(algorithm) or b"" for event in found if kind is None or event.event_type == kind]


def check_registers(manifest: Manifest, boot: MeasuredBoot, registers: tuple[Register, ...] = PREDICTED) -> None:
    """Every event in order, and the register's value, in both banks; one of the accepted variants has to be it."""
    for register in registers:
        for bank in BANKS:
            real = logged(boot, register, bank)
            ways = [variant.events for variant in variants(manifest.prediction, register)]
            assert real in [[event.digest(bank) for event in way] for way in ways], f"{register} {bank}"
            way = next(way for way in ways if [event.digest(bank) for event in way] == real)
            assert replay(way, register, bank) in [v.value for v in manifest.expected(register, bank)]


def check_shared_rules(made: Generation, boot: MeasuredBoot, *, direct: bool) -> None:
    """The tables, boot options and variables of PCR 1 and 7, whose rules a TD's RTMR0 shares."""
    assert made.tools.root is not None
    tools = made.tools
    qemu = read_qemu(tools, "qemu-system-x86_64", tools.on_host(Path("/usr/bin/qemu-system-x86_64")))
    found = read_from_qemu(qemu, GuestMachine.of_argv(boot.argv))
    tables = [Algorithm.SHA384.digest(found.items[name]) for name in ACPI_ORDER]
    assert logged(boot, Register.pcr(1), Algorithm.SHA384, EventType.EV_PLATFORM_CONFIG_FLAGS) == tables
    traits = read_traits(tools.on_host(tools.ovmf_code).read_bytes(), td=False)
    assert traits is not None
    disk = None if direct else virtio_disk_option(found.virtio_disks[0])
    preferred = bool(found.items.get("bootorder", b"").strip(b"\0"))
    options = boot_options(traits, disk, direct=direct, preferred=preferred)
    events: tuple[PredictedEvent, ...] = boot_option_events(options, artifact="OVMF")
    assert logged(boot, Register.pcr(1), Algorithm.SHA384, EventType.EV_EFI_VARIABLE_BOOT) == [
        event.digest(Algorithm.SHA384) for event in events
    ]
    events = secure_boot_events((), built_in=traits.secure_boot_built_in, artifact="OVMF")
    assert logged(boot, Register.pcr(7), Algorithm.SHA384, EventType.EV_EFI_VARIABLE_DRIVER_CONFIG) == [
        event.digest(Algorithm.SHA384) for event in events
    ]
    assert traits.texts is not None
    hashed = measured_smbios(found.items[SMBIOS_TABLES], traits.texts)
    measured = [Algorithm.SHA384.digest(hashed)] if traits.measures_smbios else []
    assert logged(boot, Register.pcr(1), Algorithm.SHA384, EventType.EV_EFI_HANDOFF_TABLES) == measured


def test_a_uki_with_kernel(generations: dict[str, Generation], parts: Parts) -> None:
    made, uki = generations[NEWER_SUITE], simple_uki(parts, NEWER_SUITE)
    boot = boot_it(made, Machine(boot=DirectKernel(kernel=uki), memory_mib=512, vcpus=1, network=False), parts, "newer")
    request = MeasurementRequest(artifact=uki, qemu_version=made.qemu, secure_boot=False, units=frozenset())
    check_registers(predict(request).manifest, boot)
    check_shared_rules(made, boot, direct=True)


def test_a_uki_on_disk(generations: dict[str, Generation], parts: Parts) -> None:
    made, uki = generations[NEWER_SUITE], simple_uki(parts, NEWER_SUITE)
    machine = Machine(boot=UkiOnDisk(uki=uki), memory_mib=768, vcpus=2, network=False)
    boot = boot_it(made, machine, parts, "newer-disk")
    disk = parts.folder / "newer.raw"
    write_disk(uki, disk)
    request = MeasurementRequest(artifact=disk, boot=BootMode.DISK, secure_boot=False, units=frozenset())
    manifest = predict(request).manifest
    secret = stub_rules(made.stub, artifact="the stub").secret_in_initrd
    check_registers(manifest, boot, tuple(r for r in PREDICTED if not (secret and r.index == 9)))
    assert bool(manifest.expected(Register.pcr(9))) != secret, "a boot secret makes the initrd unpredictable"
    check_shared_rules(made, boot, direct=False)


@pytest.mark.parametrize(("suite", "direct"), [(DEFAULT_SUITE, False), (NEWER_SUITE, True)])
def test_secure_boot_with_keys_of_our_own(
    generations: dict[str, Generation], parts: Parts, keys: SigningKey, suite: str, direct: bool
) -> None:
    """PCR 7 with the key that vouches for the image; and the stub of 257 keeps its kernel from being measured."""
    made = enforcing(generations[suite])
    uki = sign(generations[DEFAULT_SUITE].tools, simple_uki(parts, suite), keys)
    store, firmware = enforcing_firmware(made, parts, keys)
    how: DirectKernel | UkiOnDisk = DirectKernel(kernel=uki) if direct else UkiOnDisk(uki=uki)
    machine = Machine(boot=how, memory_mib=512, vcpus=1, network=False)
    boot = measured_boot(made.tools, machine, parts.folder / f"boot-{suite}-secure", store)
    disk = parts.folder / f"{suite}-secure.raw"
    write_disk(uki, disk)
    request = MeasurementRequest(
        artifact=uki if direct else disk,
        boot=BootMode.DIRECT if direct else BootMode.DISK,
        firmware=firmware,
        qemu_version=made.qemu,
        units=frozenset(),
    )
    found = predict(request)
    check_registers(found.manifest, boot, (*PREDICTED, Register.pcr(7)))
    assert len(logged(boot, Register.pcr(4), Algorithm.SHA384, EventType.EV_EFI_BOOT_SERVICES_APPLICATION)) == 1
    assert not any("enforces Secure Boot" in warning.message for warning in found.warnings)


def test_firmware_that_enforces_secure_boot_refuses_an_unsigned_uki_as_the_warning_says(
    generations: dict[str, Generation], parts: Parts, keys: SigningKey
) -> None:
    made, uki = enforcing(generations[DEFAULT_SUITE]), simple_uki(parts, DEFAULT_SUITE)
    store, firmware = enforcing_firmware(made, parts, keys)
    machine = Machine(boot=UkiOnDisk(uki=uki), memory_mib=512, vcpus=1, network=False)
    boot = measured_boot(made.tools, machine, parts.folder / "boot-refused", store, until=b"Access Denied")
    assert KERNEL_RUNS not in boot.console
    found = predict(MeasurementRequest(artifact=uki, firmware=firmware, qemu_version=made.qemu, units=frozenset()))
    (warning,) = (warning for warning in found.warnings if "enforces Secure Boot" in warning.message)
    assert warning.code is Code.W_FIRMWARE
    assert not found.manifest.expected(Register.pcr(7)), "no key vouches for the image"


@pytest.fixture(scope="module")
def keys(parts: Parts) -> SigningKey:
    return make_key(parts.folder)


def enforcing(made: Generation) -> Generation:
    """The same tools with the firmware that knows Secure Boot."""
    code = made.tools.ovmf_code.with_name("OVMF_CODE_4M.secboot.fd")
    return attrs.evolve(made, tools=attrs.evolve(made.tools, ovmf_code=code))


def enforcing_firmware(made: Generation, parts: Parts, keys: SigningKey) -> tuple[Path, Path]:
    """A variable store in which our key is enrolled, and the firmware file that such a store and the code make up."""
    code, variables = made.tools.firmware_files()
    store, firmware = parts.folder / f"vars-{made.name}.fd", parts.folder / f"firmware-{made.name}.fd"
    store.write_bytes(enroll(variables.read_bytes(), keys.der))
    firmware.write_bytes(store.read_bytes() + code.read_bytes())
    return store, firmware


def test_a_profile_of_a_uki(generations: dict[str, Generation], parts: Parts) -> None:
    parts.build("main.efi", "--profile=ID=main")
    parts.build("debug.efi", "--profile=ID=debug", f"--cmdline={CMDLINE} debug")
    words = (f"--stub=@@/stub-{DEFAULT_SUITE}", "--linux=@@/linux", "--initrd=@@/initrd", "--os-release=@@@/osrel")
    joined = ("--join-profile=@@/main.efi", "--join-profile=@@/debug.efi")
    uname = (parts.folder / "uname").read_text(encoding="ascii").strip("\0\n")
    uki = parts.build("profiles.efi", *words, *joined, f"--cmdline={CMDLINE}", f"--uname={uname}")
    made = generations[DEFAULT_SUITE]
    machine = Machine(boot=DirectKernel(kernel=uki, command_line="@1"), memory_mib=512, vcpus=1, network=False)
    boot = boot_it(made, machine, parts, "profile")
    request = MeasurementRequest(artifact=uki, profile=1, qemu_version=made.qemu, secure_boot=False, units=frozenset())
    check_registers(predict(request).manifest, boot)


@pytest.mark.parametrize("suite", SUITES)
def test_a_plain_kernel(generations: dict[str, Generation], parts: Parts, suite: str) -> None:
    made = generations[suite]
    direct = DirectKernel(kernel=parts.kernel, initrd=parts.folder / "initrd", command_line=CMDLINE)
    boot = boot_it(made, Machine(boot=direct, memory_mib=512, vcpus=1, network=False), parts, f"{suite}-plain")
    request = MeasurementRequest(
        artifact=parts.kernel,
        kernel_files=KernelFiles(initrd=direct.initrd, command_line=CMDLINE),
        qemu_version=made.qemu,
        machine=GuestMachine.of_argv(boot.argv),
        dump_tables=False,
    )
    check_registers(predict(request).manifest, boot)


def test_pcr11_is_what_systemd_measure_says(generations: dict[str, Generation], parts: Parts) -> None:
    uki = simple_uki(parts, DEFAULT_SUITE)
    inside = Path("/tdxvm/uki")
    words = []
    with FileSource(uki) as source:
        for section in (s for s in parse_image(source).sections if s.name in _MEASURED):
            window = section_window(source, section)
            (parts.folder / f"part{section.name}").write_bytes(window.read(0, window.size))
            words.append(f"--{section.name[1:]}={inside / f'part{section.name}'}")
    argv = ["/usr/lib/systemd/systemd-measure", "calculate", "--bank=sha256", "--bank=sha384", "--phase=", *words]
    done = generations[DEFAULT_SUITE].tools.run(argv, (Bind(source=parts.folder, target=inside),))
    manifest = predict(MeasurementRequest(artifact=uki, units=frozenset())).manifest
    for bank in BANKS:
        (expected,) = manifest.expected(Register.pcr(11), bank)
        assert f"11:{bank.value}={expected.value.hex()}" in done.lines


_MEASURED = frozenset({".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat"})
