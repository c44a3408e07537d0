"""Laws of a build's key: it changes with every change of any input, and with nothing else."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
import tempfile
from pathlib import Path

from hypothesis import assume, given
from hypothesis import strategies as st
from tdxc_runtime.builds import cache_key, changed_inputs
from tdxc_runtime.builds.declared import DECLARATION, read_builds
from tdxc_runtime.builds.key import complete_inputs

NAMES = st.text(min_size=1, max_size=20)
INPUTS = st.dictionaries(NAMES, st.text(max_size=20), min_size=1, max_size=8)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=20)
DECLARED = st.dictionaries(TEXTS, TEXTS, min_size=1, max_size=8)


@given(st.data(), INPUTS, st.text(max_size=20))
def test_any_other_value_of_any_input_gives_another_key(data: st.DataObject, inputs: dict[str, str], text: str) -> None:
    name = data.draw(st.sampled_from(sorted(inputs)))
    assume(inputs[name] != text)
    assert cache_key({**inputs, name: text}) != cache_key(inputs)


@given(INPUTS, NAMES, st.text(max_size=20))
def test_an_input_more_or_less_gives_another_key(inputs: dict[str, str], name: str, text: str) -> None:
    assume(name not in inputs)
    assert cache_key({**inputs, name: text}) != cache_key(inputs)


@given(st.data(), INPUTS, NAMES)
def test_a_value_under_another_name_gives_another_key(data: st.DataObject, inputs: dict[str, str], name: str) -> None:
    assume(name not in inputs)
    old = data.draw(st.sampled_from(sorted(inputs)))
    renamed = {name if key == old else key: value for key, value in inputs.items()}
    assert cache_key(renamed) != cache_key(inputs)


@given(INPUTS, INPUTS)
def test_keys_are_equal_just_when_inputs_are(one: dict[str, str], two: dict[str, str]) -> None:
    assert (cache_key(one) == cache_key(two)) == (one == two)


@given(INPUTS, st.randoms())
def test_the_order_in_which_inputs_are_named_does_not_count(inputs: dict[str, str], order: random.Random) -> None:
    items = list(inputs.items())
    order.shuffle(items)
    assert cache_key(dict(items)) == cache_key(inputs)


@given(INPUTS, INPUTS)
def test_the_difference_names_each_changed_input_and_no_other(one: dict[str, str], two: dict[str, str]) -> None:
    changes = {change.name: change for change in changed_inputs(one, two)}
    assert set(changes) == {name for name in one | two if one.get(name) != two.get(name)}
    for name, change in changes.items():
        assert (change.before, change.after) == (one.get(name, ""), two.get(name, ""))


@given(DECLARED, st.dictionaries(TEXTS, TEXTS, max_size=5), TEXTS)
def test_packages_and_tools_are_inputs(declared: dict[str, str], packages: dict[str, str], mkosi: str) -> None:
    whole = cache_key(complete_inputs(declared, packages, mkosi))
    assert cache_key(complete_inputs(declared, {**packages, "gcc-14": "14.2 sha256:0"}, mkosi)) != whole or (
        packages.get("gcc-14") == "14.2 sha256:0"
    )
    assert cache_key(complete_inputs(declared, packages, mkosi + ".1")) != whole


def declare(tree: Path, builds: list[tuple[str, dict[str, object]]]) -> None:
    path = tree / DECLARATION
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"format": 1, "builds": dict(builds)}), encoding="utf-8")


def entry(inputs: dict[str, str], **more: object) -> dict[str, object]:
    return {"profiles": [], "language": "c", "network": False, "packages": ["gcc"], "inputs": inputs, **more}


@given(DECLARED, DECLARED)
def test_other_builds_their_order_and_the_name_do_not_count(inputs: dict[str, str], others: dict[str, str]) -> None:
    found = []
    for builds in (
        [("hello", entry(inputs))],
        [("a", entry(others)), ("hello", entry(inputs)), ("z", entry(others))],
        [("z", entry(others)), ("hello", entry(inputs)), ("a", entry(others))],
        [("renamed", entry(inputs))],
    ):
        with tempfile.TemporaryDirectory() as folder:
            declare(Path(folder), builds)
            found += [build for build in read_builds(Path(folder), ()) if build.name in {"hello", "renamed"}]
    assert len({cache_key(build.inputs) for build in found}) == 1
    assert len(found) == 4


KEY_OF = """
import json, sys
from tdxc_runtime.builds import cache_key
print(cache_key(json.loads(sys.stdin.buffer.read())))
"""


def test_folder_time_umask_locale_hash_seed_and_job_count_do_not_count(tmp_path: Path) -> None:
    inputs = {"source": "sha256:00", "environment.NAME": "\u00e4\U0001f600", "flag.ldflags": ""}
    places = [tmp_path / "one", tmp_path / "two words"]
    keys = set()
    for number, place in enumerate(places):
        place.mkdir()
        environment = {"TZ": f"UTC{number}", "LC_ALL": ("C", "C.UTF-8")[number], "PYTHONHASHSEED": str(number + 1)}
        more = {"MAKEFLAGS": f"-j{number + 1}", "HOME": str(place), "SOURCE_DATE_EPOCH": str(number)}
        done = subprocess.run(
            [sys.executable, "-c", KEY_OF],
            input=json.dumps(inputs).encode(),
            env={**os.environ, **environment, **more},
            cwd=place,
            umask=(0o022, 0o077)[number],
            stdout=subprocess.PIPE,
            check=True,
        )
        keys.add(done.stdout.decode().strip())
    assert keys == {cache_key(inputs)}
