"""What runtime/guest/fuzz.sh makes of the answers of ``go test -fuzz``, which a script plays here."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.commands import ROOT

FUZZ = ROOT / "runtime/guest/fuzz.sh"
PASSED = "fuzz: elapsed: 4s, execs: 10343 (2585/sec), new interesting: 3 (total: 3)\nPASS\nok  \tx\t4.021s\n"
TIME_OVER = "--- FAIL: FuzzOne (4.00s)\n    context deadline exceeded\nFAIL\nexit status 1\nFAIL\tx\t4.021s\n"
FOUND = """\
--- FAIL: FuzzOne (0.60s)
    --- FAIL: FuzzOne (0.00s)
        one_test.go:3: context deadline exceeded

    Failing input written to testdata/fuzz/FuzzOne/1
FAIL
"""
FAILING_SEED = "--- FAIL: FuzzOne (0.01s)\n    --- FAIL: FuzzOne/seed#0\n        context deadline exceeded\nFAIL\n"
HUNG = "--- FAIL: FuzzOne (4.00s)\n    fuzzing process hung or terminated unexpectedly: exit status 2\nFAIL\n"


def fuzz(folder: Path, answer: str, status: int, **variables: str) -> subprocess.CompletedProcess[str]:
    """Run the script over a module with one target, with a ``go`` that gives this answer."""
    (folder / "one").mkdir()
    (folder / "one/one_test.go").write_text("package one\nfunc FuzzOne(f *testing.F) {\n")
    (folder / "answer").write_text(answer)
    go = folder / "go"
    go.write_text(f'#!/bin/sh\necho "GODEBUG=$GODEBUG"\ncat {folder}/answer\nexit {status}\n')
    go.chmod(0o755)
    env = {name: value for name, value in os.environ.items() if name not in {"CI", "GODEBUG"}}
    return subprocess.run(
        [str(FUZZ), "4"], cwd=folder, env={**env, "GO": str(go), **variables}, capture_output=True, text=True
    )


def test_the_end_of_the_time_is_no_failure(tmp_path: Path) -> None:
    done = fuzz(tmp_path, TIME_OVER, 1)
    assert done.returncode == 0
    assert TIME_OVER + "the time was over; no input fails\n" in done.stdout


@pytest.mark.parametrize("answer", [FOUND, FAILING_SEED, HUNG, "one_test.go:3: syntax error\nFAIL x [build failed]\n"])
def test_everything_else_is_one(tmp_path: Path, answer: str) -> None:
    done = fuzz(tmp_path, answer, 1)
    assert done.returncode != 0
    assert answer in done.stdout
    assert "the time was over" not in done.stdout


@pytest.mark.parametrize(
    ("variables", "debug"),
    [({}, ""), ({"CI": "1"}, "fuzzseed=1"), ({"CI": "1", "GODEBUG": "gctrace=1"}, "fuzzseed=1,gctrace=1")],
)
def test_continuous_integration_begins_with_one_seed(tmp_path: Path, variables: dict[str, str], debug: str) -> None:
    done = fuzz(tmp_path, PASSED, 0, **variables)
    assert done.returncode == 0
    assert f"GODEBUG={debug}\n" in done.stdout
