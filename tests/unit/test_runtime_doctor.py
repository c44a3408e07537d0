"""The doctor's checks, each with what it says when all is well and when it is not."""

from __future__ import annotations

import shutil
from collections import namedtuple
from pathlib import Path

import pytest
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime import doctor
from tdxc_runtime.doctor import Finding, Status
from tdxc_runtime.toolsroot.root import root_folder
from tdxc_runtime.toolsroot.userns import Obstacle
from tdxc_runtime.vm.tools import VmTools

TOOLS = VmTools(qemu_version="10.0", ovmf_code=Path("/no/code.fd"), ovmf_variables=Path("/no/variables.fd"))


def _assert_helps(finding: Finding, status: Status) -> None:
    assert finding.status is status
    assert finding.detail
    assert finding.fix


def test_every_check_answers_on_this_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TDXVM_MIRROR", f"file:{tmp_path}")
    findings = doctor.examine(cache=tmp_path / "cache")
    assert [finding.name for finding in findings] == [
        "platform", "mkosi", "mmdebstrap", "archive keys", "tools root", "namespaces", "disk space", "mirror",
        "KVM", "QEMU", "OVMF", "swtpm",
    ]  # fmt: skip
    assert all(finding.detail for finding in findings)
    assert all(finding.fix for finding in findings if finding.status is Status.FAIL)
    assert not (tmp_path / "cache").exists()


def test_platforms() -> None:
    assert doctor.check_platform("linux", "x86_64").status is Status.OK
    _assert_helps(doctor.check_platform("linux", "aarch64"), Status.WARN)
    _assert_helps(doctor.check_platform("darwin", "arm64"), Status.FAIL)


def test_missing_mmdebstrap(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("TDXVM_CACHE", str(tmp_path))
    monkeypatch.setattr("shutil.which", lambda _: None)
    _assert_helps(doctor.check_mmdebstrap(), Status.FAIL)


def test_missing_keyring(tmp_path: Path) -> None:
    _assert_helps(doctor.check_keyring(tmp_path / "absent.gpg"), Status.FAIL)


def test_damaged_tools_root(tmp_path: Path) -> None:
    assert doctor.check_tools_root(tmp_path).status is Status.OK
    root_folder(tmp_path, "trixie").mkdir(parents=True)
    assert doctor.check_tools_root(tmp_path).status is Status.WARN


def test_root_that_may_not_make_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise DiagnosticError.of(Code.E_BACKEND_UNAVAILABLE, "unshare: Operation not permitted")

    monkeypatch.setattr("os.geteuid", lambda: 0)
    monkeypatch.setattr(doctor, "run", refuse)
    finding = doctor.check_namespaces()
    _assert_helps(finding, Status.FAIL)
    assert "unshare: Operation not permitted" in finding.detail


def test_obstacles_to_namespaces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    monkeypatch.setattr(doctor, "find_obstacle", lambda: Obstacle(detail="AppArmor", fix="run `sysctl x`"))
    finding = doctor.check_namespaces()
    _assert_helps(finding, Status.FAIL)
    assert "sysctl x" in finding.fix
    monkeypatch.setattr(doctor, "find_obstacle", lambda: None)
    assert doctor.check_namespaces().status is Status.OK


def test_little_disk_space(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    usage = namedtuple("usage", "total used free")  # noqa: PYI024 - the shape of shutil.disk_usage's answer
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10**10, 0, 10**9))
    _assert_helps(doctor.check_disk_space(tmp_path / "not/yet"), Status.WARN)


def test_unreachable_mirror(tmp_path: Path) -> None:
    _assert_helps(doctor.check_mirror(f"file:{tmp_path}"), Status.FAIL)
    (tmp_path / "dists/trixie").mkdir(parents=True)
    (tmp_path / "dists/trixie/InRelease").touch()
    assert doctor.check_mirror(f"file:{tmp_path}").status is Status.OK


def test_missing_firmware() -> None:
    finding = doctor.check_file(TOOLS, "OVMF", VmTools.firmware_files)
    _assert_helps(finding, Status.FAIL)
    assert "/no/code.fd" in finding.detail


def test_kvm_that_does_not_run_guests_is_a_warning(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "kvm_fault", lambda *_: "a guest dies at once")
    assert doctor.check_kvm(TOOLS).status is Status.WARN
    monkeypatch.setattr(doctor, "kvm_fault", lambda *_: "")
    assert doctor.check_kvm(TOOLS).status is Status.OK
