import hashlib
import json

import pytest
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan
from tdxc_runtime.measure.events import (
    MRTD,
    RTMR0,
    RTMR1,
    RTMR2,
    Algorithm,
    Alternative,
    Alternatives,
    EventType,
    Origin,
    PredictedEvent,
    Register,
    event_type_name,
    replay,
    variants,
)
from tdxc_runtime.measure.manifest import Endorsement, Manifest, Platform, State
from tdxc_runtime.measure.manifest_json import manifest_from_json, manifest_to_json


def action(text: str, register: Register = RTMR1) -> PredictedEvent:
    return PredictedEvent.of_bytes(
        register=register, event_type=EventType.EV_EFI_ACTION, data=text.encode(), description=text
    )


def pending(register: Register = RTMR1) -> PredictedEvent:
    return PredictedEvent(register=register, event_type=EventType.EV_IPL, pending="no artifact was given")


EBS = Alternatives(
    name="exit-boot-services",
    options=(
        Alternative(reason="first call succeeds", events=(action("ok"),)),
        Alternative(reason="memory map was stale", events=(action("failed"), action("ok"))),
    ),
)


@pytest.mark.parametrize("name", ["mrtd", "rtmr0", "rtmr3", "pcr0", "pcr9", "pcr10", "pcr19", "pcr20", "pcr23", "PCR4"])
def test_register_names_round_trip(name: str) -> None:
    assert Register.parse(name).name == name.lower()


@pytest.mark.parametrize("name", ["", "rtmr4", "pcr24", "pcr01", "pcr-1", "mrtd0", "pcr", "rtmr", "pcr٣"])
def test_names_of_no_register_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match="not a register"):
        Register.parse(name)


@pytest.mark.parametrize(
    ("pcr", "td"), [(0, "mrtd"), (1, "rtmr0"), (2, "rtmr1"), (6, "rtmr1"), (7, "rtmr0"), (8, "rtmr2")]
)
def test_pcrs_map_to_the_registers_of_a_td(pcr: int, td: str) -> None:
    assert Register.pcr(pcr).in_td.name == td


def test_pcrs_above_15_have_no_counterpart() -> None:
    with pytest.raises(ValueError, match="counterpart"):
        _ = Register.pcr(16).in_td


def test_replay_extends_from_zero_and_ignores_other_registers() -> None:
    first, other, second = action("a"), action("x", RTMR2), action("b")
    value = hashlib.sha384(bytes(48) + hashlib.sha384(b"a").digest()).digest()
    value = hashlib.sha384(value + hashlib.sha384(b"b").digest()).digest()
    assert replay([first, other, second], RTMR1) == value
    assert replay([], RTMR1) == bytes(48)


def test_replay_of_a_pcr_is_per_bank_and_drtm_pcrs_start_at_ones() -> None:
    event = action("a", Register.pcr(4))
    expected = hashlib.sha256(bytes(32) + hashlib.sha256(b"a").digest()).digest()
    assert replay([event], Register.pcr(4), Algorithm.SHA256) == expected
    assert replay([], Register.pcr(17), Algorithm.SHA256) == b"\xff" * 32
    assert replay([], Register.pcr(23), Algorithm.SHA256) == bytes(32)


def test_no_register_comes_out_of_a_pending_event() -> None:
    assert replay([action("a"), pending()], RTMR1) is None
    assert replay([action("a"), pending(RTMR2)], RTMR1) is not None


def test_mrtd_is_a_single_digest_and_unknown_without_its_event() -> None:
    digest = hashlib.sha384(b"pages").digest()
    event = PredictedEvent(
        register=MRTD, event_type=EventType.EV_NO_ACTION, digests=((Algorithm.SHA384, digest),), description="pages"
    )
    assert replay([event], MRTD) == digest
    assert replay([], MRTD) is None


def test_an_event_is_pending_or_has_digests_of_the_right_size() -> None:
    with pytest.raises(ValueError, match="either digests or"):
        PredictedEvent(register=RTMR1, event_type=EventType.EV_IPL)
    with pytest.raises(ValueError, match="48 bytes"):
        PredictedEvent(register=RTMR1, event_type=EventType.EV_IPL, digests=((Algorithm.SHA384, b"x"),))


def test_a_pcr_event_in_a_td_keeps_only_the_sha384_digest() -> None:
    event = action("a", Register.pcr(9)).in_td()
    assert event.register == RTMR2
    assert event.digests == ((Algorithm.SHA384, hashlib.sha384(b"a").digest()),)


def test_variants_enumerate_every_decision_likeliest_first() -> None:
    found = variants((action("start"), EBS), RTMR1)
    assert [[e.description for e in v.events] for v in found] == [["start", "ok"], ["start", "failed", "ok"]]
    assert [dict(v.reasons)["exit-boot-services"] for v in found] == ["first call succeeds", "memory map was stale"]


def test_points_of_one_name_are_decided_together() -> None:
    here = Alternatives(
        name="separator", options=(Alternative(reason="old", events=(action("s", RTMR0),)), Alternative(reason="new"))
    )
    there = Alternatives(
        name="separator", options=(Alternative(reason="old"), Alternative(reason="new", events=(action("s", RTMR1),)))
    )
    assert [[str(e.register) for e in v.events] for v in variants((here, there))] == [["RTMR0"], ["RTMR1"]]


def test_contradicting_or_endless_alternatives_are_refused() -> None:
    three = Alternatives(name="exit-boot-services", options=(*EBS.options, Alternative(reason="third")))
    with pytest.raises(ValueError, match="differ in the number"):
        variants((EBS, three))
    many = [Alternatives(name=f"n{i}", options=EBS.options) for i in range(7)]
    with pytest.raises(ValueError, match="128 combinations"):
        variants(many)


def test_event_type_names_are_those_of_the_tcg() -> None:
    assert event_type_name(0x80000006) == "EV_EFI_GPT_EVENT"
    assert event_type_name(0x1234) == "0x00001234"


def manifest() -> Manifest:
    origin = Origin(span=SourceSpan(file="recipe.py", line=12, column=5), node="cmdline", artifact="a.efi")
    cmdline = PredictedEvent.of_bytes(
        register=Register.pcr(9), event_type=EventType.EV_EVENT_TAG, data=b"c\0", description="cmdline", origin=origin
    )
    return Manifest(
        platform=Platform.QEMU,
        prediction=(
            action("start"),
            EBS,
            cmdline,
            cmdline,
            cmdline.in_td(),
            PredictedEvent(register=RTMR0, event_type=EventType.EV_EFI_HANDOFF_TABLES2, pending="no memory size given"),
        ),
        covers=(RTMR0, RTMR1, RTMR2, Register.pcr(9), Register.pcr(12)),
        endorsements=(Endorsement(register=MRTD, values=(b"\x01" * 48, b"\x02" * 48), by="somebody"),),
        unpredictable=((Register.pcr(10), "IMA writes it"),),
        inputs={"artifact": {"sha256": "00"}},
        hints=((b"\x07" * 48, "8 GiB of memory"),),
    )


def test_manifest_json_round_trips() -> None:
    value = json.loads(json.dumps(manifest_to_json(manifest())))
    again = manifest_from_json(value, name="m.json")
    assert again == attrs_evolved(manifest())
    assert manifest_to_json(again) == value


def attrs_evolved(value: Manifest) -> Manifest:
    import attrs

    return attrs.evolve(value, pending=("no memory size given",))


def test_manifest_json_has_the_promised_shape() -> None:
    value = json.loads(json.dumps(manifest_to_json(manifest())))
    assert value["rtmr0"] is None
    assert value["mrtd"] == "01" * 48
    assert bytes.fromhex(value["rtmr1"]) == replay([action("start"), action("ok")], RTMR1)
    assert value["pending"] == ["no memory size given"]
    assert value["pcrs"]["sha256"]["12"] == "00" * 32
    assert {row["algorithm"] for row in value["variants"]["rtmr1"]} == {"sha384"}
    assert manifest().state(Register.pcr(10)) == (State.UNPREDICTABLE, "IMA writes it")
    assert manifest().state(RTMR0) == (State.PENDING, "no memory size given")
    for row in value["events"]:
        assert {"register", "digest", "type", "description", "origin"} <= set(row)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("schema_version", 2),
        ("platform", "aws"),
        ("events", {}),
        ("events", [{"register": "rtmr9"}]),
        ("registers", []),
        ("alternatives", [{"name": "x", "at": -1, "options": []}]),
        ("alternatives", [{"name": "x", "at": 10**9, "options": []}]),
        ("rtmr1", "00" * 48),
        ("inputs", 3),
        ("pending", [1]),
        ("hints", []),
        ("hints", {"zz": "x"}),
        ("hints", {"00": 1}),
    ],
)
def test_manifests_that_do_not_fit_are_diagnosed(key: str, value: object) -> None:
    broken = json.loads(json.dumps(manifest_to_json(manifest()))) | {key: value}
    with pytest.raises(DiagnosticError) as caught:
        manifest_from_json(broken, name="m.json")
    assert caught.value.diagnostics[0].code is Code.E_MEASUREMENT
    assert caught.value.diagnostics[0].span.file == "m.json"


@pytest.mark.parametrize("value", [None, [], 3, "x", {}])
def test_json_of_other_shapes_is_diagnosed(value: object) -> None:
    with pytest.raises(DiagnosticError):
        manifest_from_json(value, name="m.json")
