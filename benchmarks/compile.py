"""How fast is compiling? Prints each budget with what it takes here; exit status 1 when one is exceeded.

Times are processor time of whole processes, user and system, the best of several runs; what is compared runs in turn.
A busy machine changes little then, and a slow disk nothing: trees go to a file system in memory where there is one.

    python benchmarks/compile.py [--runs 15]
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs

ROOT = Path(__file__).resolve().parents[1]
EXAMPLES = ROOT / "examples"
TDXC = [sys.executable, "-m", "tdxc.cli"]
LIBRARIES = [sys.executable, "-c", "import attrs, click, jinja2"]
CLICK = [sys.executable, "-c", "import click"]

SYNTHETIC = '''"""Many services and files."""

from tdx import Image

img = Image("synthetic", base="debian/trixie")
for number in range({files}):
    img.file(f"/usr/share/synthetic/{{number % 100}}/{{number}}", content=f"content of file {{number}}\\n")
for number in range({services}):
    img.service(
        f"service-{{number:04}}",
        exec=f"/usr/bin/service --number {{number}}",
        after=[f"service-{{number - 1:04}}.service"] if number % 10 else [],
    )
'''


@attrs.frozen(kw_only=True)
class Run:
    """One process: processor time in seconds, peak resident memory in MiB."""

    seconds: float
    memory_mib: float


@attrs.frozen(kw_only=True)
class Row:
    """One line of the table: a measured value against its budget, both in ``unit``."""

    what: str
    value: float
    budget: float
    unit: str
    detail: str = ""

    @property
    def is_within(self) -> bool:
        """Whether the budget holds."""
        return self.value <= self.budget

    def __str__(self) -> str:
        verdict = "ok" if self.is_within else "OVER"
        measured, allowed = f"{self.value:8.2f} {self.unit:<5}", f"{self.budget:7.2f} {self.unit:<5}"
        return f"{self.what:<52} {measured} {allowed} {verdict:<5}{self.detail}".rstrip()


def run_once(argv: list[str], environment: Mapping[str, str]) -> Run:
    """Run a command to its end; raises RuntimeError with its errors when it fails."""
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(argv, env=dict(environment), stdout=subprocess.DEVNULL, stderr=errors)
        _pid, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            errors.seek(0)
            raise RuntimeError(f"{' '.join(argv)} failed:\n{errors.read().decode(errors='replace')}")
    return Run(seconds=usage.ru_utime + usage.ru_stime, memory_mib=usage.ru_maxrss / 1024)


def best_in_turn(commands: Mapping[str, list[str]], environment: Mapping[str, str], runs: int) -> dict[str, Run]:
    """The fastest of ``runs`` runs of each command, all commands in turn; one run before warms bytecode and caches."""
    found: dict[str, list[Run]] = {name: [] for name in commands}
    for name, argv in commands.items():
        run_once(argv, environment)
        found[name] = []
    for _ in range(runs):
        for name, argv in commands.items():
            found[name].append(run_once(argv, environment))
    return {name: min(results, key=lambda run: run.seconds) for name, results in found.items()}


def largest_example() -> Path:
    """The example that compiles to the most files."""
    from tdxc import driver

    recipes = [*EXAMPLES.glob("*.py"), *EXAMPLES.glob("*/recipe.py")]
    named = sorted(path for path in recipes if path.name != "__init__.py")
    return max(named, key=lambda path: len(driver.compile_image(driver.load_recipe(str(path)).image).tree))


def start_up_rows(scratch: Path, environment: Mapping[str, str], runs: int) -> Iterator[Row]:
    """Whole processes against what the libraries alone take."""
    recipe = largest_example()
    best = best_in_turn(
        {
            "libraries": LIBRARIES,
            "compile": [*TDXC, "compile", str(recipe), "-o", str(scratch / "example")],
            "click": CLICK,
            "help": [*TDXC, "--help"],
        },
        environment,
        runs,
    )
    for what, name, baseline, budget in (
        (f"compile {recipe.relative_to(ROOT)} / import libraries", "compile", "libraries", 2.0),
        ("tdxc --help / import click", "help", "click", 1.4),
    ):
        detail = f"  {best[name].seconds * 1000:.0f} ms / {best[baseline].seconds * 1000:.0f} ms"
        yield Row(what=what, value=best[name].seconds / best[baseline].seconds, budget=budget, unit="x", detail=detail)


def synthetic_rows(scratch: Path, environment: Mapping[str, str]) -> Iterator[Row]:
    """A large image: time, memory, growth, and a second compile that has nothing to do."""
    empty, small, large = (
        _synthetic(scratch, services, files) for services, files in ((0, 0), (100, 1000), (1000, 10000))
    )
    fresh = {path.stem: _best_fresh(path, environment) for path in (empty, small, large)}
    yield Row(what="compile 1,000 services and 10,000 files", value=fresh[large.stem].seconds, budget=3.0, unit="s")
    yield Row(what="  peak memory", value=fresh[large.stem].memory_mib, budget=300.0, unit="MiB")
    start_up = fresh[empty.stem].seconds
    growth = (fresh[large.stem].seconds - start_up) / max(fresh[small.stem].seconds - start_up, 1e-3)
    detail = (
        f"  {fresh[small.stem].seconds:.2f} s -> {fresh[large.stem].seconds:.2f} s, start-up {start_up:.2f} s taken off"
    )
    yield Row(what="  time of 10 times the input", value=growth, budget=12.0, unit="x", detail=detail)
    out = large.with_suffix(".out")
    before = _state(out)
    run_once([*TDXC, "compile", str(large), "-o", str(out)], environment)
    touched = sum(state != before.get(path) for path, state in _state(out).items())
    yield Row(what="files touched by a second compile", value=touched, budget=0, unit="files")


def _synthetic(scratch: Path, services: int, files: int) -> Path:
    path = scratch / f"synthetic-{files}.py"
    path.write_text(SYNTHETIC.format(services=services, files=files), encoding="utf-8")
    return path


def _best_fresh(recipe: Path, environment: Mapping[str, str], runs: int = 3) -> Run:
    """The fastest compile into a folder that does not exist yet; the last one stays beside the recipe."""
    results = []
    for number in range(runs):
        out = recipe.with_suffix(f".{number}") if number + 1 < runs else recipe.with_suffix(".out")
        results.append(run_once([*TDXC, "compile", str(recipe), "-o", str(out)], environment))
    return min(results, key=lambda run: run.seconds)


def _state(folder: Path) -> dict[str, tuple[int, int, int]]:
    """Inode, modification time and size of everything below a folder: what any write would change."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        found[str(path)] = (status.st_ino, status.st_mtime_ns, status.st_size)
    return found


def main() -> int:
    """Print the table; 1 when a budget is exceeded."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--runs", type=int, default=15, help="runs of each short command (default: 15)")
    runs = parser.parse_args().runs
    memory = Path("/dev/shm")  # noqa: S108 - a folder of random name is made in it
    with tempfile.TemporaryDirectory(prefix="tdxc-benchmark-", dir=memory if memory.is_dir() else None) as name:
        scratch = Path(name)
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
        environment["PYTHONPYCACHEPREFIX"] = str(scratch / "bytecode")
        rows = []
        print(f"{'what':<52} {'value':>8}       {'budget':>7}")
        for row in (*start_up_rows(scratch, environment, runs), *synthetic_rows(scratch, environment)):
            rows.append(row)
            print(row, flush=True)
    return 0 if all(row.is_within for row in rows) else 1


if __name__ == "__main__":
    sys.exit(main())
