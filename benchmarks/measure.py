"""How fast measuring is, as ratios within one run: ``python benchmarks/measure.py [--quick]``.

Three budgets: predicting a UKI against ``openssl dgst -sha384`` of the same file (at most 1.5x wall, below 100 MiB of
memory), MRTD of a 16 MiB firmware (below 0.15 s), and a matrix of 100 combinations against one (at most 3x). Each time
is the least of several runs, the two sides of a ratio run alternately.
"""

from __future__ import annotations

import argparse
import hashlib
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from support.efi_images import Area, build_firmware, build_uki  # noqa: E402  (the path comes first)
from tdxc_runtime.measure.firmware.mrtd import PageOrder, mrtd  # noqa: E402
from tdxc_runtime.measure.firmware.tdvf import parse_tdvf  # noqa: E402
from tdxc_runtime.measure.machine import GIB, GuestMachine, QemuVersion  # noqa: E402
from tdxc_runtime.measure.matrix import Axes, measure_matrix  # noqa: E402
from tdxc_runtime.measure.predict import predict  # noqa: E402
from tdxc_runtime.measure.request import MeasurementRequest  # noqa: E402
from tdxc_runtime.toolsroot import ToolsRoot  # noqa: E402

ROUNDS = 5
QEMU = QemuVersion(major=10, minor=1)
FIRMWARE_SIZE = 16 << 20


def seconds(action: Callable[[], object]) -> float:
    """Wall time of one call."""
    start = time.perf_counter()
    action()
    return time.perf_counter() - start


def alternately(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[float, float]:
    """The least time of each of two actions, run in turns."""
    times = [(seconds(first), seconds(second)) for _ in range(rounds)]
    return min(a for a, _ in times), min(b for _, b in times)


def peak_mib(path: Path) -> float:
    """Peak memory in MiB of a process that measures one UKI."""
    script = (
        "import sys; from pathlib import Path; from tdxc_runtime.measure.machine import QemuVersion\n"
        "from tdxc_runtime.measure.predict import predict\n"
        "from tdxc_runtime.measure.request import MeasurementRequest\n"
        "predict(MeasurementRequest(artifact=Path(sys.argv[1]), qemu_version=QemuVersion(major=10, minor=1)))\n"
        "print(Path('/proc/self/status').read_text().split('VmHWM:')[1].split()[0])"
    )
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True, check=True)
    return int(done.stdout) / 1024


def noise(seed: int, size_mb: int) -> bytes:
    """An initrd of that many megabytes."""
    return hashlib.shake_256(bytes([seed % 256])).digest(1_000_000) * size_mb


def report(what: str, value: str, budget: str, *, fits: bool) -> bool:
    """One line of the table; whether the budget holds."""
    print(f"{what:<44} {value:>24} {budget:>18} {'ok' if fits else 'OVER'}", flush=True)
    return fits


def uki_against_openssl(folder: Path, size_mb: int, rounds: int) -> bool:
    """Predict a UKI of a size and hash the same file with openssl."""
    path = folder / f"{size_mb}.efi"
    path.write_bytes(build_uki(initrd=noise(size_mb, size_mb)))
    request = MeasurementRequest(artifact=path, qemu_version=QEMU)
    openssl = ["openssl", "dgst", "-sha384", str(path)]
    ours, theirs = alternately(
        lambda: predict(request), lambda: subprocess.run(openssl, check=True, capture_output=True), rounds
    )
    memory = peak_mib(path)
    path.unlink()
    times = f"{ours:.3f} s / {theirs:.3f} s = {ours / theirs:.2f}x"
    fits = report(f"UKI of {size_mb} MB against openssl", times, "1.5x", fits=ours <= 1.5 * theirs)
    return report("  peak memory", f"{memory:.0f} MiB", "100 MiB", fits=memory < 100) and fits


def mrtd_of_a_large_firmware(rounds: int) -> bool:
    """MRTD of a firmware that is measured whole."""
    size = FIRMWARE_SIZE
    areas = (Area(0, size, (1 << 32) - size, size, 0, 1), Area(0, 0, 0x809000, 0x2000, 2))
    image = build_firmware(areas, size=size)
    tdvf = parse_tdvf(image, name="OVMF.fd")
    both = alternately(
        lambda: mrtd(tdvf, image, PageOrder.INTERLEAVED), lambda: mrtd(tdvf, image, PageOrder.ADDS_FIRST), rounds
    )
    return report("MRTD of 16 MiB", f"{both[0]:.3f} s, {both[1]:.3f} s", "0.15 s", fits=max(both) < 0.15)


def matrix_against_one(folder: Path, firmwares: tuple[Path, ...], rounds: int) -> bool:
    """100 combinations of two firmware files, five sizes of memory, two numbers of vCPUs and five stubs."""
    images = []
    for number, stub in enumerate(("252.39", "255.4", "256.7", "257.13", "258.2")):
        images.append(folder / f"stub{number}.efi")
        images[-1].write_bytes(build_uki(stub=stub, initrd=noise(number, 20)))
    request = MeasurementRequest(artifact=images[0], firmware=firmwares[0], machine=GuestMachine(memory=2 * GIB))
    memories = tuple(count * GIB for count in (2, 4, 8, 16, 32))
    axes = Axes(firmwares=firmwares, memories=memories, vcpus=(2, 4), images=tuple(images))
    one, many = alternately(lambda: predict(request), lambda: measure_matrix(request, axes), rounds)
    text = f"{many:.2f} s / {one:.2f} s = {many / one:.2f}x"
    return report("matrix of 100 combinations against one", text, "3x", fits=many <= 3 * one)


def firmware_of_two_releases() -> tuple[Path, ...]:
    """OVMF as two releases of Debian have it, out of tools roots, which are made if need be."""
    return tuple(ToolsRoot.ensure(suite=suite).root / "usr/share/ovmf/OVMF.fd" for suite in ("trixie", "sid"))


def main() -> int:
    """Run everything; status 4 when a budget is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="fewer rounds and no 500 MB image")
    parser.add_argument("--firmware", type=Path, action="append", default=[], help="for the matrix; give two")
    arguments = parser.parse_args()
    rounds = 2 if arguments.quick else ROUNDS
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        results = [uki_against_openssl(folder, size, rounds) for size in ((50,) if arguments.quick else (50, 500))]
        results.append(mrtd_of_a_large_firmware(rounds))
        firmwares = tuple(arguments.firmware) or firmware_of_two_releases()
        results.append(matrix_against_one(folder, firmwares, max(2, rounds // 2)))
    return 0 if all(results) else 4


if __name__ == "__main__":
    sys.exit(main())
