"""The steps of a kernel's build, run by bash with small stand-ins for the kernel and its tools."""

from __future__ import annotations

import os
import subprocess
import tarfile
from pathlib import Path

import pytest
from tdxc.passes.kernel_source import step_text

MAKE = """\
case "$*" in
    *kernelversion*) cat version ;;
    *olddefconfig*) sed -i '/DROPPED/d; s/^CONFIG_HZ=.*/CONFIG_HZ=250/' .config ;;
    *) exit 1 ;;
esac
"""


def program(folder: Path, name: str, text: str) -> None:
    (folder / "bin").mkdir(exist_ok=True)
    (folder / "bin" / name).write_text(f"#!/bin/bash\n{text}\n")
    (folder / "bin" / name).chmod(0o755)


def bash(folder: Path, text: str, **variables: str) -> subprocess.CompletedProcess[str]:
    environment = {"PATH": f"{folder}/bin:{os.environ['PATH']}", **variables}
    command = ["bash", "-euo", "pipefail", "-c", text]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


class TestUnpack:
    """The source is what was asked for."""

    @pytest.mark.parametrize(
        ("asked", "found", "fits"),
        [("6.12", "6.12.107", True), ("6.12", "6.12", True), ("6.1", "6.12.107", False), ("6.12.5", "6.12.55", False)],
    )
    def test_the_version_has_to_be_the_one_asked_for(self, tmp_path: Path, asked: str, found: str, fits: bool) -> None:
        (tmp_path / "linux-x").mkdir()
        (tmp_path / "linux-x/version").write_text(f"{found}\n")
        with tarfile.open(tmp_path / "linux.tar", "w") as tar:
            tar.add(tmp_path / "linux-x", "linux-x")
        program(tmp_path, "make", MAKE)
        finished = bash(
            tmp_path, f"shopt -s nullglob\n{step_text('unpack.sh')}", sources="linux.tar", version=asked, inputs="/no"
        )
        assert (finished.returncode == 0) is fits
        if not fits:
            assert f"version {asked} was asked for, but linux.tar holds {found}" in finished.stderr


class TestConfigure:
    """The survival check, where the kernel's own tools are of no help."""

    def survive(self, tmp_path: Path, *rows: str) -> subprocess.CompletedProcess[str]:
        names = [row.split("\t") for row in rows]
        (tmp_path / "config").write_text("".join(f"CONFIG_{row[1]}={row[2]}\n" for row in names if row[2] != "n"))
        (tmp_path / "requirements").write_text("".join(f"{row}\n" for row in rows))
        program(tmp_path, "make", MAKE)
        return bash(tmp_path, step_text("configure.sh"), inputs=".")

    def test_what_survives_is_counted(self, tmp_path: Path) -> None:
        finished = self.survive(
            tmp_path, "asked\tA\ty\twhy", "default\tB\tn\twhy", "file\tC\t0x10\twhy", 'asked\tD\t"a b"\tx'
        )
        assert finished.returncode == 0, finished.stderr
        assert "kernel: 4 options are as they were asked for, 0 left out" in finished.stdout

    def test_a_dropped_option_is_an_error_even_where_nobody_can_say_why(self, tmp_path: Path) -> None:
        finished = self.survive(tmp_path, "asked\tDROPPED\ty\tthe recipe asks for it", "default\tHZ\t1000\tspeed")
        assert finished.returncode == 1
        assert "kernel: error: CONFIG_DROPPED=y was asked for, and is n" in finished.stderr
        assert "kernel: error: CONFIG_HZ=1000 was asked for, and is 250" in finished.stderr
        assert 'give it up with config={"HZ": "250"}' in finished.stderr

    def test_a_module_may_be_built_in_but_not_the_other_way_round(self, tmp_path: Path) -> None:
        (tmp_path / "bin").mkdir()
        assert self.survive(tmp_path, "asked\tA\ty\twhy").returncode == 0
        (tmp_path / "requirements").write_text("asked\tA\tm\twhy\n")
        assert bash(tmp_path, step_text("configure.sh"), inputs=".").returncode == 0
        (tmp_path / "config").write_text("CONFIG_A=m\n")
        (tmp_path / "requirements").write_text("asked\tA\ty\twhy\n")
        assert bash(tmp_path, step_text("configure.sh"), inputs=".").returncode == 1
