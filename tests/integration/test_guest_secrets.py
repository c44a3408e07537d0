"""A machine with an encrypted disk waits for its secrets, refuses wrong ones, and starts its services with the right.

All of the guest's modules in one image: first boot, power cuts while the secrets arrive, second boot.
"""

from __future__ import annotations

import base64
import hashlib
import json
import random
import re
import subprocess
from typing import Any

import pytest
from support.commands import PROGRAM, QUICKLY, ROOT
from support.guest_disk import Place
from support.guest_secrets import OTHER, VALUE, Delivered, cut_off_behind_post, deliver
from tdxc_runtime.vm import UkiOnDisk

pytestmark = pytest.mark.integration

CUTS = 3
"""How often the power is cut while secrets arrive."""

CUT_S = 0.4
DIGEST = hashlib.sha256(VALUE.encode()).hexdigest()
WAITING = {
    "version": 1,
    "state": "waiting",
    "token": False,
    "secrets": [
        {"name": "api_token", "kind": "string", "required": True, "received": False},
        {"name": "port", "kind": "int", "required": False, "received": False},
    ],
}


@pytest.fixture(scope="module")
def uki(tmp_path_factory: pytest.TempPathFactory) -> UkiOnDisk:
    """The image, baked once."""
    place = tmp_path_factory.mktemp("guest-secrets")
    command = [*PROGRAM, "build", str(ROOT / "tests/recipes/guest_secrets.py"), *QUICKLY]
    subprocess.run(command, cwd=place, check=True)
    return UkiOnDisk(uki=place / "build" / "output" / "guest-secrets.efi")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Place:
    return Place.new(tmp_path_factory.mktemp("disks") / "secrets")


@pytest.fixture(scope="module")
def first(uki: UkiOnDisk, place: Place, tmp_path_factory: pytest.TempPathFactory) -> Delivered:
    """The first boot, on an empty disk."""
    return deliver(place, uki, tmp_path_factory.mktemp("first"))


@pytest.fixture(scope="module")
def cuts(uki: UkiOnDisk, place: Place, first: Delivered) -> list[tuple[str, dict[str, Any]]]:
    """Boots whose power is cut a moment after the secrets were posted: each shows what the one before has left."""
    chance = random.Random(20251122)
    found = []
    for number in range(CUTS):
        delay = chance.uniform(0.0, CUT_S)
        print(f"cut {number + 1} of {CUTS}: {delay:.2f} s behind the post")
        found.append(cut_off_behind_post(place, uki, delay))
    return found


@pytest.fixture(scope="module")
def second(
    uki: UkiOnDisk,
    place: Place,
    cuts: list[tuple[str, dict[str, Any]]],
    tmp_path_factory: pytest.TempPathFactory,
) -> Delivered:
    """The boot after the power cuts: the same image, disk and TPM."""
    return deliver(place, uki, tmp_path_factory.mktemp("second"))


def test_it_makes_the_key_formats_mounts_and_waits(first: Delivered) -> None:
    marks = ["make and seal", "disk: format", "witness: starts on the disk: 0", "waiting for secrets address"]
    places = [first.console.index(mark) for mark in marks]
    assert places == sorted(places)
    assert first.status == WAITING
    assert "missing=api_token" in first.console


def test_wrong_secrets_are_refused_with_the_reason(first: Delivered) -> None:
    pattern, kind, unknown, _ = first.refusals
    assert pattern.startswith("422 invalid")
    assert "does not match ^tok_" in pattern
    assert "must be a JSON integer, and is a string" in kind
    assert "name number 1 is not in the list: api_token, port" in unknown
    for words in ("does not match ^tok_", "port must be a JSON integer", "name number 1 is not in the list"):
        assert words in first.console


def test_a_quote_that_proves_nothing_stops_the_client(first: Delivered) -> None:
    assert first.refusals[3] == "the guest makes its quotes up: it is an image for tests"


def test_right_secrets_are_taken(first: Delivered) -> None:
    assert first.sent.returncode == 0, first.sent.stderr
    assert "accepted: api_token, port" in first.sent.stdout
    assert "state: complete" in first.sent.stdout


def test_the_service_starts_afterwards_and_sees_them(first: Delivered) -> None:
    found = first.console
    assert f"reader: credential {DIGEST}" in found
    assert f"reader: variable {DIGEST}" in found
    assert f"reader: file {DIGEST} 440 root:reader" in found
    assert "reader: port 8443" in found
    assert "reader: reads the state" not in found
    marks = ("waiting for secrets", "request refused", "secrets received", "reader: done, 1 in all")
    places = [found.index(mark) for mark in marks]
    assert places == sorted(places)


def test_no_value_is_on_the_console(first: Delivered, second: Delivered) -> None:
    for console in (first.console, second.console):
        for value in ("Sup3rS3cret", OTHER, "tok_with"):
            assert value not in console
        assert not re.search(r"Failed to start|FAILED|Dependency failed", console)


def answers(console: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in re.findall(r"asker: (?:issued|answered) (\{.*\})", console)]


def test_programs_of_the_group_get_quotes_over_their_report_data(first: Delivered) -> None:
    issued, validated, refused = answers(first.console)
    assert issued["ok"]
    assert issued["provider"] == "fake"
    assert issued["report_data"] == f"{42:0128d}"
    report_data = base64.b64decode(issued["quote"])[48 + 520 :][:64]  # header and body of a quote of version 4
    assert report_data.hex() == issued["report_data"]
    assert validated["ok"]
    assert not validated["valid"]
    assert validated["fields"]["report_data"] == issued["report_data"]
    assert refused["error"]["code"] == "request"


def test_boot_steps_get_quotes_too(first: Delivered) -> None:
    found = re.search(r"witness: quoted (\{.*\})", first.console)
    assert found is not None
    assert json.loads(found[1])["report_data"] == f"{7:0128d}"


def test_others_do_not_reach_the_socket(first: Delivered) -> None:
    assert re.search(r"stranger: .*Permission denied", first.console)
    assert not re.search(r'stranger: .*"ok"', first.console)


def test_a_power_cut_leaves_no_part_of_a_secret(cuts: list[tuple[str, dict[str, Any]]], second: Delivered) -> None:
    assert len(cuts) == CUTS
    for console, status in (*cuts, (second.console, second.status)):
        assert "witness: files of secrets: none" in console
        assert status == WAITING
        assert "disk: format" not in console
        assert "REFUSED" not in console


def test_the_next_boot_opens_the_disk_and_has_its_data(
    first: Delivered, cuts: list[tuple[str, dict[str, Any]]], second: Delivered
) -> None:
    written = f"reader: a start that is written down, with {DIGEST}"
    found = re.search(r"witness: starts on the disk: (\d+)", second.console)
    assert found is not None
    before = int(found[1])
    assert 1 <= before <= 1 + CUTS
    assert second.console.count(written) == before
    assert f"reader: done, {before + 1} in all" in second.console
    assert second.sent.returncode == 0, second.sent.stderr
