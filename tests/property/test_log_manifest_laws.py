"""What must hold of any manifest: its JSON form is read back, and no JSON does harm."""

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from support.boots import Boot, manifest_of
from support.fuzzing import only_diagnosed
from tdxc.diagnostics import Code, SourceSpan
from tdxc_runtime.measure.events import (
    MRTD,
    RTMR0,
    RTMR1,
    RTMR2,
    Alternative,
    Alternatives,
    EventType,
    Origin,
    PredictedEvent,
    Register,
    replay,
    variants,
)
from tdxc_runtime.measure.manifest import Endorsement, Manifest, Platform
from tdxc_runtime.measure.manifest_json import manifest_from_json, manifest_to_json

REGISTERS = st.sampled_from((RTMR0, RTMR1, RTMR2, Register.pcr(4), Register.pcr(11), Register.pcr(23)))
WORDS = st.text(max_size=12)
ORIGINS = st.builds(
    Origin,
    span=st.builds(SourceSpan, file=st.sampled_from(("", "recipe.py", "a:b.py")), line=st.just(0), column=st.just(0))
    | st.builds(SourceSpan, file=st.just("recipe.py"), line=st.integers(1, 9999), column=st.integers(0, 200)),
    node=WORDS,
    artifact=WORDS,
    section=WORDS,
    rule=WORDS,
)


@st.composite
def events(draw: st.DrawFn) -> PredictedEvent:
    register, kind = draw(REGISTERS), draw(st.sampled_from(EventType))
    description, origin = draw(WORDS), draw(ORIGINS)
    if draw(st.integers(0, 5)) == 0:
        pending = draw(st.text(min_size=1, max_size=12))
        return PredictedEvent(
            register=register, event_type=kind, description=description, origin=origin, pending=pending
        )
    return PredictedEvent.of_bytes(
        register=register,
        event_type=kind,
        data=draw(st.binary(max_size=40)),
        description=description,
        origin=origin,
        keep_data=draw(st.booleans()),
    )


OPTIONS = st.builds(Alternative, reason=WORDS, events=st.lists(events(), max_size=3).map(tuple))


@st.composite
def manifests(draw: st.DrawFn) -> Manifest:
    points = [
        Alternatives(name=f"point {number}", options=tuple(draw(st.lists(OPTIONS, min_size=2, max_size=3))))
        for number in range(draw(st.integers(0, 3)))
    ]
    items: list[PredictedEvent | Alternatives] = draw(st.permutations([*draw(st.lists(events(), max_size=6)), *points]))
    endorsed = draw(st.lists(st.binary(min_size=48, max_size=48), max_size=2, unique=True))
    covers = draw(st.sets(REGISTERS, max_size=4))
    missing = draw(st.dictionaries(REGISTERS, WORDS.filter(bool), max_size=3))
    return Manifest(
        platform=draw(st.sampled_from(Platform)),
        prediction=tuple(items),
        covers=tuple(sorted(covers)),
        missing=tuple((register, reason) for register, reason in missing.items() if register not in covers),
        endorsements=(Endorsement(register=MRTD, values=tuple(endorsed), by="x"),) if endorsed else (),
        inputs={"artifact": {"name": "x"}},
    )


@given(manifests())
@settings(deadline=None)
def test_a_written_manifest_is_read_back(manifest: Manifest) -> None:
    value = json.loads(json.dumps(manifest_to_json(manifest)))
    again = manifest_from_json(value, name="m")
    assert manifest_to_json(again) == value
    assert again.endorsements == manifest.endorsements
    for register in manifest.covers:
        for algorithm in register.algorithms:
            assert again.expected(register, algorithm) == manifest.expected(register, algorithm)


@given(manifests())
@settings(deadline=None)
def test_values_follow_from_events_alone(manifest: Manifest) -> None:
    for register in manifest.covers:
        values = {v.value for v in manifest.expected(register, register.algorithms[0])}
        replayed = {replay(v.events, register, register.algorithms[0]) for v in variants(manifest.prediction)}
        assert values == replayed or (not values and None in replayed) or register == MRTD


JSON = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.text(max_size=6)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=6), inner, max_size=3)),
    max_leaves=6,
)
GOOD = json.loads(json.dumps(manifest_to_json(manifest_of(Boot()))))


@given(st.data())
@settings(deadline=None)
def test_damaged_manifests_do_no_harm(data: st.DataObject) -> None:
    """Replace one value anywhere in a good manifest by any JSON."""
    value = json.loads(json.dumps(GOOD))
    place = value
    while isinstance(place, (dict, list)) and place:
        keys = sorted(place) if isinstance(place, dict) else range(len(place))
        key = data.draw(st.sampled_from(keys))
        if data.draw(st.integers(0, 2)) == 0 or not isinstance(place[key], (dict, list)) or not place[key]:
            place[key] = data.draw(JSON)
            break
        place = place[key]
    with only_diagnosed(Code.E_MEASUREMENT, "m"):
        manifest_to_json(manifest_from_json(value, name="m"))


@given(JSON)
def test_any_json_is_diagnosed(value: object) -> None:
    with only_diagnosed(Code.E_MEASUREMENT, "m"):
        manifest_from_json(value, name="m")
