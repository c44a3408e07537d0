"""``tdxc verify``, ``tdxc explain REGISTER`` and ``tdxc diff`` of manifests, as their users see them."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
from support import quote_pki as pki
from support.boots import Boot, manifest_of, td_events, td_log
from support.commands import invoke
from support.event_logs import cc_log
from tdxc_runtime.measure.events import RTMR0, RTMR1, RTMR2, RTMR3, Algorithm
from tdxc_runtime.measure.manifest_json import manifest_to_json
from tdxc_runtime.measure.quotes import TdBody, write_td_report
from tdxc_runtime.measure.replay import replay_log

GOOD = Boot()
HINTS = ((Algorithm.SHA384.digest(b"HOB of 8 GiB"), "8 GiB of memory"),)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with the manifest of the good boot, which knows what other memory sizes would look like."""
    monkeypatch.chdir(tmp_path)
    write_manifest(tmp_path / "manifest.json", GOOD)
    return tmp_path


def write_manifest(path: Path, boot: Boot) -> None:
    path.write_text(json.dumps(manifest_to_json(attrs.evolve(manifest_of(boot), hints=HINTS))))


def write_evidence(folder: Path, boot: Boot, *, events: int | None = None) -> None:
    """The log of a boot (its first ``events``), and a TD report of all of it."""
    (folder / "ccel").write_bytes(cc_log(td_events(boot)[:events]))
    (folder / "report").write_bytes(write_td_report(body_of(boot)))


def body_of(boot: Boot) -> TdBody:
    values = replay_log(td_log(boot))
    return pki.body(rtmrs=tuple(values[register, Algorithm.SHA384] for register in (RTMR0, RTMR1, RTMR2, RTMR3)))


def verify(*arguments: str) -> tuple[int, str]:
    outcome = invoke("verify", "--ccel", "ccel", "--quote", "report", "--manifest", "manifest.json", *arguments)
    assert outcome.err == ""
    return outcome.status, outcome.out


def test_the_predicted_boot_passes(folder: Path) -> None:
    write_evidence(folder, GOOD)
    status, out = verify()
    assert status == 0
    assert "FAILED" not in out
    assert "likely cause" not in out
    assert "not checked: report MAC: only the machine that made a report can check its MAC" in out


@pytest.mark.parametrize(
    ("boot", "sentence"),
    [
        (
            attrs.evolve(GOOD, cmdline="console=ttyS0 root=tmpfs debug"),
            "has `debug` appended: recipe.py:12 sets 'console=ttyS0 root=tmpfs'",
        ),
        (attrs.evolve(GOOD, initrd=b"initrd and one more file"), "one more file"),
        (attrs.evolve(GOOD, kernel=b"kernel 6.12.99"), "another kernel runs"),
        (attrs.evolve(GOOD, stub="262.1"), "systemd-stub"),
        (attrs.evolve(GOOD, memory=b"HOB of 8 GiB"), "other memory size (8 GiB of memory)"),
    ],
    ids=["command line", "one more file", "other kernel", "other stub", "other memory"],
)
def test_a_boot_that_differs_fails_with_its_likely_cause(folder: Path, boot: Boot, sentence: str) -> None:
    write_evidence(folder, boot)
    status, out = verify()
    assert status == 4
    causes = [line for line in out.splitlines() if line.startswith("likely cause: ")]
    assert sentence in causes[0]
    assert "FAILED rtmr" in out
    status, out = verify("--format", "json")
    assert status == 4
    data = json.loads(out)
    assert data["ok"] is False
    assert any(sentence in cause["sentence"] for cause in data["causes"])
    assert any(check["event"] for check in data["checks"] if not check["ok"])


def test_a_truncated_log_fails_and_is_said_to_be_truncated(folder: Path) -> None:
    write_evidence(folder, GOOD, events=-3)
    status, out = verify()
    assert status == 4
    assert "the log is truncated: 2 predicted events are missing at its end" in out


def test_a_log_that_is_cut_inside_an_event_fails(folder: Path) -> None:
    write_evidence(folder, GOOD)
    data = (folder / "ccel").read_bytes().rstrip(b"\xff")
    (folder / "ccel").write_bytes(data[:-10])
    status, out = verify()
    assert status == 4
    assert "FAILED log is whole: the log is truncated or damaged behind event" in out


def test_the_events_of_a_register_are_explained_with_their_origins(folder: Path) -> None:
    outcome = invoke("explain", "rtmr2", "manifest.json")
    assert outcome.status == 0
    assert outcome.out.startswith("rtmr2 on qemu: predicted\n")
    assert "systemd-stub measures .cmdline" in outcome.out
    assert "from recipe.py:12:5 (cmdline), demo.efi[.cmdline]" in outcome.out


def test_alternatives_are_explained_with_their_reasons(folder: Path) -> None:
    outcome = invoke("explain", "PCR5", "manifest.json")
    assert outcome.status == 0
    assert "alternative 1 of 2: the first attempt succeeds" in outcome.out
    assert "alternative 2 of 2: the first attempt fails" in outcome.out


def test_a_register_needs_a_bake(folder: Path) -> None:
    outcome = invoke("explain", "rtmr1")
    assert outcome.status == 1
    assert "error[E_MEASUREMENT]" in outcome.err
    assert "tdxc build" in outcome.err


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"schema_version": 1}', "\xff"])
def test_a_manifest_that_is_none_is_a_diagnostic(folder: Path, content: str) -> None:
    (folder / "bad.json").write_bytes(content.encode("latin-1"))
    for arguments in (("explain", "rtmr1", "bad.json"), ("diff", "manifest.json", "bad.json")):
        outcome = invoke(*arguments)
        assert outcome.status == 1
        assert "error[E_" in outcome.err


def test_equal_manifests_have_no_difference(folder: Path) -> None:
    outcome = invoke("diff", "manifest.json", "manifest.json")
    assert (outcome.status, outcome.out) == (0, "no change\n")


def test_manifests_differ_in_terms_of_events(folder: Path) -> None:
    write_manifest(folder / "other.json", attrs.evolve(GOOD, cmdline="console=ttyS0 root=tmpfs debug"))
    outcome = invoke("diff", "manifest.json", "other.json")
    assert outcome.status == 4
    lines = outcome.out.splitlines()
    assert "      - console=ttyS0 root=tmpfs" in lines
    assert "      + console=ttyS0 root=tmpfs debug" in lines
    assert "      from recipe.py:12:5 (cmdline), demo.efi[.cmdline]" in lines
    assert not any(line.startswith("rtmr0") for line in lines)
    data = invoke("diff", "manifest.json", "other.json", "--format", "json").data()
    changed = {entry["register"]: [event["kind"] for event in entry["events"]] for entry in data["registers"]}
    assert changed["pcr9"] == ["~"]
    assert changed["pcr11"] == ["~"]


def test_an_event_that_one_manifest_lacks_is_named(folder: Path) -> None:
    write_manifest(folder / "other.json", attrs.evolve(GOOD, stub="258"))
    outcome = invoke("diff", "manifest.json", "other.json")
    assert outcome.status == 4
    assert "- event 2: the firmware loads the UKI's kernel" in outcome.out


def test_a_manifest_is_not_compared_with_a_recipe(folder: Path) -> None:
    (folder / "recipe.py").write_text("from tdx import Image\nimg = Image('x', base='debian/trixie')\n")
    outcome = invoke("diff", "manifest.json", "recipe.py")
    assert outcome.status == 1
    assert "'manifest.json' is a measurement and 'recipe.py' is not" in outcome.err


@pytest.mark.parametrize(
    ("arguments", "code", "status"),
    [
        (["--qemu-args", "-m 4G"], "E_VALUE", 1),
        (["--qemu-args", "-m '4G"], "E_VALUE", 1),
        (["--qemu-args", "@nothing"], "E_PATH", 1),
        (["--qemu-args", "-M q35 -m 4G", "--matrix"], "--matrix varies", 2),
        (["--memory", "2G", "--memory", "4G"], "--matrix is for", 2),
        (["--platform", "gcp", "--boot", "direct"], "E_MEASUREMENT", 1),
        ([], "E_MEASUREMENT", 1),
    ],
)
def test_what_cannot_be_measured_is_refused(folder: Path, arguments: list[str], code: str, status: int) -> None:
    outcome = invoke("measure", "nowhere", *arguments)
    assert outcome.status == status
    assert code in outcome.err
    assert outcome.out == ""
