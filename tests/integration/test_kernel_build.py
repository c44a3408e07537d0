"""A whole kernel from source, built twice under different circumstances to the same bytes, measured and booted.

An hour or more on two cores, so it is no part of continuous integration: ``make test-kernel``.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import subprocess
import tarfile
import time
from pathlib import Path

import attrs
import pytest
from support.commands import BASIC, PROGRAM
from support.consoles import BOOT_TIMEOUT_S
from tdxc_runtime.toolsroot import cache_folder
from tdxc_runtime.vm import ConsoleLine, Machine, UkiOnDisk, boot

pytestmark = pytest.mark.kernel

KERNEL_LIMIT_BYTES = 8 * 10**6
KERNEL = 'img.kernel = Kernel.tdx(version="6.12", config={"LOCALVERSION": "-tdx"})\n'


@attrs.frozen(kw_only=True)
class Built:
    """A bake with a build cache of its own: its artifacts, and the kernel's archive in that cache."""

    output: Path
    archive: Path
    seconds: float


def build(folder: Path, *prefix: str, **environment: str) -> Built:
    """The basic example with a kernel from source; tools and packages are those of the user, the build cache is not."""
    cache = folder / "cache/tdxvm"
    cache.mkdir(parents=True)
    for name in ("tools", "packages"):
        (cache_folder() / name).mkdir(parents=True, exist_ok=True)
        (cache / name).symlink_to(cache_folder() / name)
    recipe = BASIC.read_text(encoding="utf-8").replace("from tdx import Image", "from tdx import Image, Kernel")
    (folder / "recipe.py").write_text(recipe + KERNEL, encoding="utf-8")
    started = time.monotonic()
    subprocess.run(
        [*prefix, *PROGRAM, "build", "recipe.py"],
        cwd=folder,
        env={**os.environ, "XDG_CACHE_HOME": str(folder / "cache"), **environment},
        check=True,
    )
    (archive,) = (cache / "builds").glob("*/rootfs.tar")
    return Built(output=folder / "build/output", archive=archive, seconds=time.monotonic() - started)


@pytest.fixture(scope="module")
def builds(tmp_path_factory: pytest.TempPathFactory) -> tuple[Built, Built]:
    """One on all processors, one on a single one, in other folders, locales and time zones."""
    place = tmp_path_factory.mktemp("kernels")
    (place / "one").mkdir()
    (place / "another folder").mkdir()
    first = build(place / "one", TZ="UTC", LC_ALL="C")
    second = build(place / "another folder", "taskset", "--cpu-list", "0", TZ="Asia/Tokyo", LC_ALL="C.UTF-8")
    return first, second


def kernel_of(built: Built) -> bytes:
    with tarfile.open(built.archive) as tar:
        (member,) = [member for member in tar.getmembers() if re.fullmatch(r".*/6\.12\.\d+-tdx/vmlinuz", member.name)]
        file = tar.extractfile(member)
        assert file is not None
        return file.read()


def test_both_builds_are_equal_to_the_byte(builds: tuple[Built, Built]) -> None:
    first, second = (kernel_of(built) for built in builds)
    print(
        f"kernel: {len(first)} bytes, sha256 {hashlib.sha256(first).hexdigest()}, {hashlib.sha256(second).hexdigest()}"
    )
    print(f"bake with a kernel from source: {builds[0].seconds:.0f} s and, on one processor, {builds[1].seconds:.0f} s")
    assert first == second
    assert builds[0].archive.read_bytes() == builds[1].archive.read_bytes()
    name = "qemu-basic.efi"
    assert (builds[0].output / name).read_bytes() == (builds[1].output / name).read_bytes()


def test_the_kernel_is_small_and_says_nothing_of_the_build_host(builds: tuple[Built, Built]) -> None:
    kernel = kernel_of(builds[0])
    assert len(kernel) <= KERNEL_LIMIT_BYTES
    assert b"6.12." in kernel
    assert b"-tdx (tdxvm@tdxvm) #1 SMP PREEMPT_DYNAMIC Thu Jan  1 00:00:00 UTC 1970" in kernel


def test_the_measurement_knows_the_kernels_version(builds: tuple[Built, Built]) -> None:
    command = [*PROGRAM, "measure", str(builds[0].output / "qemu-basic.efi"), "--format", "json"]
    data = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    assert data["inputs"]["kernel"] == "6.12"


def test_the_image_boots_and_its_services_run(builds: tuple[Built, Built]) -> None:
    lines: list[ConsoleLine] = []
    with boot(Machine(boot=UkiOnDisk(uki=builds[0].output / "qemu-basic.efi")), on_line=lines.append) as machine:
        machine.console.wait_for(r"greeter: sandboxed with", BOOT_TIMEOUT_S)
    console = "\n".join(line.text for line in lines)
    assert re.search(r"Linux version 6\.12\.\d+-tdx \(tdxvm@tdxvm\)", console)
    assert "[FAILED]" not in console
    assert "Kernel is locked down from Kernel configuration" in console
