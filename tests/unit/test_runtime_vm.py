"""QEMU's command line, the console, the KVM probe."""

from __future__ import annotations

import itertools
import os
import sys
import threading
import time
from pathlib import Path

import pytest
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.vm import (
    Accelerator,
    Console,
    ConsoleLine,
    Credential,
    DirectKernel,
    Disk,
    DiskFormat,
    Forward,
    FromDisks,
    Machine,
    Protocol,
    UkiOnDisk,
)
from tdxc_runtime.vm.accelerator import KVM_FAILURE, probe_rom
from tdxc_runtime.vm.boot import check_files
from tdxc_runtime.vm.qemu_argv import Firmware, Resources, qemu_argv

UKI = Path("/images/a.efi")


def _pairs(argv: list[str]) -> list[tuple[str, str]]:
    return [(option, value) for option, value in itertools.pairwise(argv) if option.startswith("-")]


def test_a_firmware_of_one_file_has_no_variable_store() -> None:
    resources = Resources(
        accelerator=Accelerator.TCG, names={UKI: Path("/in/0")}, firmware=Firmware(code=Path("/in/1"))
    )
    argv = qemu_argv(Machine(boot=DirectKernel(kernel=UKI), firmware=Path("/images/own.fd")), resources)
    assert ("-bios", "/in/1") in _pairs(argv)
    assert not any("pflash" in word for word in argv)


def test_the_whole_command_line_of_a_usual_machine() -> None:
    resources = Resources(
        accelerator=Accelerator.TCG,
        names={UKI: Path("/in/0")},
        firmware=Firmware(code=Path("/fw/code.fd"), variables=Path("/in/vars.fd")),
        esp_disk=Path("/in/esp.raw"),
        tpm_socket=Path("/in/tpm.sock"),
    )
    machine = Machine(boot=UkiOnDisk(uki=UKI), forwards=(Forward(host_port=8080, guest_port=80),))
    assert qemu_argv(machine, resources) == [
        "qemu-system-x86_64", "-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
        "-machine", "q35", "-accel", "tcg,thread=single", "-cpu", "max", "-smp", "2", "-m", "2048M",
        "-chardev", "stdio,id=console,signal=on", "-serial", "chardev:console", "-device", "virtio-rng-pci",
        "-drive", "if=pflash,format=raw,unit=0,readonly=on,file=/fw/code.fd",
        "-drive", "if=pflash,format=raw,unit=1,file=/in/vars.fd",
        "-drive", "if=none,id=disk0,format=raw,snapshot=on,file=/in/esp.raw",
        "-device", "virtio-blk-pci,drive=disk0,bootindex=1",
        "-chardev", "socket,id=tpm,path=/in/tpm.sock", "-tpmdev", "emulator,id=tpm0,chardev=tpm",
        "-device", "tpm-crb,tpmdev=tpm0",
        "-netdev", "user,id=net0,hostfwd=tcp:127.0.0.1:8080-:80", "-device", "virtio-net-pci,netdev=net0",
    ]  # fmt: skip


def test_direct_kernel_disks_and_kvm() -> None:
    kernel, initrd, data = Path("/k"), Path("/i"), Path("/d")
    machine = Machine(
        boot=DirectKernel(kernel=kernel, initrd=initrd, command_line="console=ttyS0 a,b"),
        disks=(Disk(path=data, format=DiskFormat.QCOW2, persistent=True),),
        machine_type="pc-q35-10.0",
        memory_mib=512,
        vcpus=4,
        network=False,
        uefi=False,
        tpm=False,
    )
    names = {kernel: Path("/in/k"), initrd: Path("/in/i"), data: Path("/in/with,comma")}
    pairs = _pairs(qemu_argv(machine, Resources(accelerator=Accelerator.KVM, names=names)))
    for pair in [
        ("-kernel", "/in/k"),
        ("-initrd", "/in/i"),
        ("-append", "console=ttyS0 a,b"),
        ("-accel", "kvm"),
        ("-cpu", "host"),
        ("-machine", "pc-q35-10.0"),
        ("-m", "512M"),
        ("-smp", "4"),
        ("-nic", "none"),
        ("-drive", "if=none,id=disk0,format=qcow2,snapshot=off,file=/in/with,,comma"),
    ]:
        assert pair in pairs
    assert not any("pflash" in value or "tpm" in value for _, value in pairs)


def test_udp_forwards() -> None:
    forward = Forward(host_port=1, guest_port=2, protocol=Protocol.UDP)
    machine = Machine(boot=FromDisks(), forwards=(forward,))
    pairs = _pairs(qemu_argv(machine, Resources(accelerator=Accelerator.TCG, names={})))
    assert ("-netdev", "user,id=net0,hostfwd=udp:127.0.0.1:1-:2") in pairs


def test_vsock_and_credentials_without_their_values() -> None:
    machine = Machine(boot=FromDisks(), vsock_cid=3)
    resources = Resources(accelerator=Accelerator.TCG, names={}, oem_strings=(Path("/in/a,b"), Path("/in/c")))
    pairs = _pairs(qemu_argv(machine, resources))
    for pair in [
        ("-device", "vhost-vsock-pci,guest-cid=3"),
        ("-smbios", "type=11,path=/in/a,,b"),
        ("-smbios", "type=11,path=/in/c"),
    ]:
        assert pair in pairs


@pytest.mark.parametrize(
    "change",
    [
        {"memory_mib": 1},
        {"vcpus": 0},
        {"machine_type": "q35,accel=kvm"},
        {"vsock_cid": 2},
        {"vsock_cid": 0xFFFFFFFF},
    ],
)
def test_machines_that_make_no_sense_are_refused(change: dict[str, object]) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - attrs' own words
        Machine(boot=FromDisks(), **change)  # type: ignore[arg-type]  # the point of the test


def test_missing_files_are_named(tmp_path: Path) -> None:
    with pytest.raises(DiagnosticError) as raised:
        check_files(Machine(boot=UkiOnDisk(uki=tmp_path / "absent.efi")))
    assert raised.value.diagnostics[0].code is Code.E_ARTIFACT
    assert "absent.efi" in raised.value.diagnostics[0].message
    assert "tdxc build" in raised.value.diagnostics[0].fix


def test_missing_disks_and_values_are_no_images(tmp_path: Path) -> None:
    absent = tmp_path / "absent"
    disk = Machine(boot=FromDisks(), disks=(Disk(path=absent),))
    credential = Machine(boot=FromDisks(), credentials=(Credential(name="tdx.secret.a", path=absent),))
    for machine, words in ((disk, "as a disk"), (credential, "for the credential tdx.secret.a")):
        with pytest.raises(DiagnosticError) as raised:
            check_files(machine)
        assert raised.value.diagnostics[0].message == f"there is no file {absent} {words}"
        assert "tdxc build" not in raised.value.diagnostics[0].fix


def test_vsock_needs_its_device(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules[check_files.__module__], "VSOCK_DEVICE", tmp_path / "vhost-vsock")
    with pytest.raises(DiagnosticError) as raised:
        check_files(Machine(boot=FromDisks(), vsock_cid=3))
    assert raised.value.diagnostics[0].code is Code.E_BACKEND_UNAVAILABLE
    assert "modprobe vhost_vsock" in raised.value.diagnostics[0].fix
    (tmp_path / "vhost-vsock").touch()
    check_files(Machine(boot=FromDisks(), vsock_cid=3))


@pytest.mark.parametrize("name", ["", "a b", "a=b", "a:b", "../a", "a,b"])
def test_names_of_credentials_cannot_end_the_string(name: str) -> None:
    with pytest.raises(ValueError):  # noqa: PT011 - attrs' own words
        Credential(name=name, path=Path("/a"))


def test_the_probe_begins_at_the_reset_vector() -> None:
    rom = probe_rom()
    assert len(rom) == 65536
    assert rom[0xFFF0:0xFFF5] == b"\xea\x00\x00\x00\xf0"
    assert rom.startswith(b"\xdb\xe3\x9b")


def test_kvm_failures_are_known_by_qemus_words() -> None:
    assert KVM_FAILURE.search("KVM internal error. Suberror: 1")
    assert KVM_FAILURE.search("qemu-system-x86_64: failed to initialize kvm: Permission denied")
    assert not KVM_FAILURE.search("[    0.1] kvm-clock: Using msrs")


class _Pipe:
    """A console whose other end the test holds."""

    def __init__(self, seen: list[ConsoleLine]) -> None:
        reading, self.writing = os.pipe()
        self.console = Console(reading, seen.append)
        os.close(reading)

    def say(self, data: bytes) -> None:
        os.write(self.writing, data)

    def end(self) -> None:
        os.close(self.writing)
        self.console.join(60)


def test_console_gives_lines_without_terminal_sequences() -> None:
    seen: list[ConsoleLine] = []
    pipe = _Pipe(seen)
    pipe.say(b"\x1b[2J\x1b[01;01H\x1b[=3h\x1b[0;1;38:5:185m[\x1b[0;32m  OK  \x1b[0m] Reached\r\nnext\n")
    match = pipe.console.wait_for(r"OK +\] (\w+)", 60)
    assert match[1] == "Reached"
    pipe.end()
    assert [line.text for line in pipe.console.lines] == ["[  OK  ] Reached", "next"]
    assert [line.text for line in seen] == ["[  OK  ] Reached", "next"]
    assert all(0 <= line.seconds < 60 for line in seen)


def test_console_matches_each_line_once_and_prompts_without_newline() -> None:
    pipe = _Pipe([])
    pipe.say(b"tick\ntick\nlogin: ")
    pipe.console.wait_for("tick", 60)
    pipe.console.wait_for("tick", 60)
    assert pipe.console.wait_for("login: $", 60).string == "login: "
    with pytest.raises(DiagnosticError):
        pipe.console.wait_for("login", 0.1)
    with pytest.raises(DiagnosticError) as raised:
        pipe.console.wait_for("tick", 0.2)
    (diagnostic,) = raised.value.diagnostics
    assert "within 0.2 s" in diagnostic.message
    assert diagnostic.notes[-1].message == "login: "
    pipe.say(b"root\r\nlogin: ")
    assert pipe.console.wait_for("root", 60).string == "login: root"
    assert pipe.console.wait_for("login", 60).string == "login: "
    pipe.end()


def test_console_waits_for_what_comes_later() -> None:
    pipe = _Pipe([])
    threading.Timer(0.2, lambda: pipe.say(b"late\n")).start()
    assert pipe.console.wait_for("late", 60).string == "late"
    pipe.end()


def test_a_line_that_is_being_written_is_found_when_it_is_whole() -> None:
    seen: list[ConsoleLine] = []
    pipe = _Pipe(seen)
    pipe.say(b"greeter: sand")
    threading.Timer(0.2, lambda: pipe.say(b"boxed\nnext")).start()
    assert pipe.console.wait_for("^greeter: ", 60).string == "greeter: sandboxed"
    assert [line.text for line in seen] == ["greeter: sandboxed"]
    pipe.end()


def test_a_prompt_is_found_when_the_time_ends_before_the_silence() -> None:
    pipe = _Pipe([])
    pipe.say(b"login: ")
    assert pipe.console.wait_for("login: $", 0.3).string == "login: "
    pipe.end()


def test_a_line_is_passed_on_before_it_is_found() -> None:
    seen: list[str] = []

    def slowly(line: ConsoleLine) -> None:
        time.sleep(0.05)
        seen.append(line.text)

    reader, writer = os.pipe()
    console = Console(reader, slowly)
    os.close(reader)
    os.write(writer, b"one\ntwo\n")
    console.wait_for("two", 60)
    assert seen == ["one", "two"]
    os.close(writer)
    console.join(60)


def test_console_that_ends_does_not_keep_us_waiting() -> None:
    pipe = _Pipe([])
    pipe.say(b"panic")
    pipe.end()
    started = time.monotonic()
    with pytest.raises(DiagnosticError) as raised:
        pipe.console.wait_for("never", 600)
    assert time.monotonic() - started < 60
    assert "ended" in raised.value.diagnostics[0].message
    assert raised.value.diagnostics[0].notes[-1].message == "panic"
