import base64
import json
import re
from importlib.resources import files
from pathlib import Path

import attrs
import cbor2
import jsonschema
import lark
import pycddl  # type: ignore[import-untyped]  # pycddl has no types
import pytest
from support.boots import Boot, manifest_of
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.measure.events import MRTD, RTMR0, RTMR1, RTMR2, RTMR3, Algorithm, EventType, PredictedEvent, Register
from tdxc_runtime.measure.manifest import Endorsement, Manifest, Platform
from tdxc_runtime.measure.policies import PolicyFormat, emit_policy
from tdxc_runtime.measure.policies.cbor import Tag, encode

FOLDER = Path(__file__).parent
MANIFEST = manifest_of(Boot())
FIRST, SECOND = (value.value for value in MANIFEST.expected(RTMR1))
MRTD_VALUE = MANIFEST.expected(MRTD)[0].value
OTHERS = {r: MANIFEST.expected(r)[0].value for r in (RTMR0, RTMR2)}
WITHOUT_RTMR0 = attrs.evolve(
    MANIFEST,
    prediction=(
        *MANIFEST.prediction,
        PredictedEvent(register=RTMR0, event_type=EventType.EV_IPL, pending="no memory size was given"),
    ),
)
GCP = attrs.evolve(
    WITHOUT_RTMR0,
    platform=Platform.GCP,
    endorsements=(Endorsement(register=MRTD, values=(b"\x01" * 48, b"\x02" * 48), by="Google"),),
)
AZURE = attrs.evolve(
    MANIFEST,
    platform=Platform.AZURE,
    covers=tuple(Register.pcr(i) for i in (4, 9, 11, 12)),
    unpredictable=tuple((r, "RTMRs describe the paravisor") for r in (MRTD, RTMR0, RTMR1, RTMR2, RTMR3)),
)


def emit(policy_format: PolicyFormat, manifest: Manifest = MANIFEST) -> bytes:
    data = emit_policy(manifest, policy_format, name="demo")
    assert data == emit_policy(manifest, policy_format, name="demo")
    return data


def refused(policy_format: PolicyFormat, manifest: Manifest) -> str:
    with pytest.raises(DiagnosticError) as caught:
        emit_policy(manifest, policy_format, name="demo")
    assert {d.code for d in caught.value.diagnostics} == {Code.E_MEASUREMENT}
    assert all(d.fix for d in caught.value.diagnostics)
    return " ".join(d.message for d in caught.value.diagnostics)


@pytest.mark.parametrize("manifest", [MANIFEST, GCP, AZURE])
def test_plain_reference_values_fit_their_schema(manifest: Manifest) -> None:
    value = json.loads(emit(PolicyFormat.JSON, manifest))
    schema = json.loads(files("tdxc_runtime.measure.policies").joinpath("reference-values.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.validate(value, schema)


def test_plain_reference_values_keep_sets_together() -> None:
    value = json.loads(emit(PolicyFormat.JSON))
    assert [accepted["registers"]["rtmr1"] for accepted in value["td"]] == [FIRST.hex(), SECOND.hex()]
    assert [accepted["when"] for accepted in value["td"]] == [
        ["the first attempt succeeds"],
        ["the first attempt fails"],
    ]
    assert {accepted["registers"]["mrtd"] for accepted in value["td"]} == {MRTD_VALUE.hex()}


def test_what_is_left_out_is_said() -> None:
    value = json.loads(emit(PolicyFormat.JSON, WITHOUT_RTMR0))
    assert value["omitted"] == {"rtmr0": "it is not known: no memory size was given"}
    assert all("rtmr0" not in accepted["registers"] for accepted in value["td"])
    for text in (emit(PolicyFormat.MAA, WITHOUT_RTMR0), emit(PolicyFormat.GO_TDX_GUEST, WITHOUT_RTMR0)):
        assert b"RTMR0 is left out, it is not known: no memory size was given" in text


def test_endorsed_values_multiply_the_sets() -> None:
    value = json.loads(emit(PolicyFormat.JSON, GCP))
    found = [(accepted["registers"]["mrtd"], accepted["registers"]["rtmr1"]) for accepted in value["td"]]
    assert len(found) == 4
    assert set(found) == {(m * 48, r.hex()) for m in ("01", "02") for r in (FIRST, SECOND)}


def test_azure_attestation_permits_exactly_the_accepted_sets() -> None:
    text = emit(PolicyFormat.MAA).decode()
    tree = lark.Lark((FOLDER / "maa_policy.lark").read_text()).parse(text)
    sections = {str(section.children[0]): section.children[1:] for section in tree.find_data("section")}
    assert set(sections) == {"authorizationrules", "issuancerules"}
    rules = re.findall(r"(\[.*?)=> permit\(\);", text, re.DOTALL)
    claims = [dict(re.findall(r'type=="([^"]+)", value==("?[^" ]+)', rule)) for rule in rules]
    assert [rule["tdx_rtmr1"].strip('"') for rule in claims] == [FIRST.hex(), SECOND.hex()]
    for rule in claims:
        assert rule["tdx_td_attributes_debug"] == "false"
        assert rule["x-ms-attestation-type"].strip('"') == "tdxvm"
        assert rule["tdx_mrtd"].strip('"') == MRTD_VALUE.hex()
        assert rule["tdx_rtmr2"].strip('"') == OTHERS[RTMR2].hex()


def test_trustee_gets_a_message_with_the_names_that_its_policy_asks_for() -> None:
    message = json.loads(emit(PolicyFormat.TRUSTEE))
    assert (message["version"], message["type"]) == ("0.1.0", "sample")
    assert json.loads(base64.b64decode(message["payload"])) == {
        "mr_td": [MRTD_VALUE.hex()],
        "rtmr_0": [OTHERS[RTMR0].hex()],
        "rtmr_1": [FIRST.hex(), SECOND.hex()],
        "rtmr_2": [OTHERS[RTMR2].hex()],
    }


def test_trustee_gets_pcrs_of_azure() -> None:
    values = json.loads(base64.b64decode(json.loads(emit(PolicyFormat.TRUSTEE, AZURE))["payload"]))
    assert sorted(values) == ["tdx_pcr04", "tdx_pcr09", "tdx_pcr11", "tdx_pcr12"]
    assert values["tdx_pcr11"] == [MANIFEST.expected(Register.pcr(11), Algorithm.SHA256)[0].value.hex()]


def strings_of(text: str, field: str) -> list[bytes]:
    """The values of a field of a text protobuf whose strings have every byte escaped."""
    found = re.findall(rf'^\s*{field}: "((?:\\x[0-9a-f]{{2}})*)"', text, re.MULTILINE)
    return [bytes.fromhex(value.replace("\\x", "")) for value in found]


def test_go_tdx_guest_gets_the_likeliest_set_and_is_told_of_the_other() -> None:
    text = emit(PolicyFormat.GO_TDX_GUEST).decode()
    assert strings_of(text, "mr_td") == [MRTD_VALUE]
    assert strings_of(text, "rtmrs") == [OTHERS[RTMR0], FIRST, OTHERS[RTMR2], b""]
    assert strings_of(text, "td_attributes") == [(1 << 28).to_bytes(8, "little")]
    assert f"#   rtmr1 {SECOND.hex()}" in text
    assert text.count("{") == text.count("}") == 4


def test_dstack_gets_four_registers_and_the_alternatives() -> None:
    value = json.loads(emit(PolicyFormat.DSTACK))
    assert list(value) == ["mrtd", "rtmr0", "rtmr1", "rtmr2", "alternatives"]
    assert value["rtmr1"] == FIRST.hex()
    assert [other["rtmr1"] for other in value["alternatives"]] == [SECOND.hex()]


def test_dstack_needs_rtmr0() -> None:
    assert "dstack compares RTMR0" in refused(PolicyFormat.DSTACK, WITHOUT_RTMR0)


@pytest.mark.parametrize("manifest", [MANIFEST, GCP, AZURE])
def test_a_corim_fits_its_grammar(manifest: Manifest) -> None:
    data = emit(PolicyFormat.CORIM, manifest)
    pycddl.Schema((FOLDER / "corim_subset.cddl").read_text()).validate_cbor(data)
    assert cbor2.dumps(cbor2.loads(data), canonical=True) == data


def test_a_corim_holds_every_set() -> None:
    tag = cbor2.loads(emit(PolicyFormat.CORIM))
    assert (tag.tag, tag.value[0]) == (501, "demo-qemu")
    (inner,) = tag.value[1]
    assert inner.tag == 506
    triples = cbor2.loads(inner.value)[4][0]
    values = [measurements[0][1] for _, measurements in triples]
    assert [value[2] for value in values] == [[[7, MRTD_VALUE]]] * 2
    assert [value[14][1] for value in values] == [[[7, FIRST]], [[7, SECOND]]]
    assert {value[14][0][0][1] for value in values} == {OTHERS[RTMR0]}


def test_a_corim_for_azure_holds_both_banks_of_the_pcrs() -> None:
    (inner,) = cbor2.loads(emit(PolicyFormat.CORIM, AZURE)).value[1]
    triples = cbor2.loads(inner.value)[4][0]
    assert {environment[0][2] for environment, _ in triples} == {"vTPM"}
    assert {tuple(measurements[0][1][14]) for _, measurements in triples} == {(4, 9, 11, 12)}
    assert {digest[0] for _, ms in triples for digests in ms[0][1][14].values() for digest in digests} == {1, 7}


@pytest.mark.parametrize("policy_format", [PolicyFormat.MAA, PolicyFormat.GO_TDX_GUEST, PolicyFormat.DSTACK])
def test_a_policy_over_rtmrs_is_refused_for_azure_with_the_reason(policy_format: PolicyFormat) -> None:
    assert "paravisor" in refused(policy_format, AZURE)


@pytest.mark.parametrize("policy_format", PolicyFormat)
@pytest.mark.parametrize("register", [MRTD, RTMR1, RTMR2])
def test_a_policy_that_would_accept_any_image_is_refused(policy_format: PolicyFormat, register: Register) -> None:
    manifest = attrs.evolve(MANIFEST, covers=tuple(r for r in MANIFEST.covers if r != register))
    assert f"a policy without {register} would accept any image" in refused(policy_format, manifest)


@pytest.mark.parametrize("policy_format", [PolicyFormat.JSON, PolicyFormat.TRUSTEE, PolicyFormat.CORIM])
def test_a_manifest_without_pcrs_has_no_policy_for_azure(policy_format: PolicyFormat) -> None:
    assert "determines no PCR" in refused(policy_format, attrs.evolve(AZURE, covers=()))


@pytest.mark.parametrize(
    "value",
    [0, 23, 24, 255, 256, 65535, 65536, 2**32, 2**64 - 1, "", "ü" * 30, b"", b"x" * 300, [1, [2]], {1: "a", 300: b"b"}],
)
def test_the_encoder_agrees_with_an_independent_one(value: object) -> None:
    data = encode(value)  # type: ignore[arg-type] # every kind that there is
    assert cbor2.loads(data) == value
    assert data == cbor2.dumps(value, canonical=True)
    tagged = encode(Tag(501, value))  # type: ignore[arg-type] # as above
    assert tagged == cbor2.dumps(cbor2.CBORTag(501, value), canonical=True)


@pytest.mark.parametrize("value", [True, None, 1.5, -1, object()])
def test_the_encoder_refuses_what_a_corim_does_not_hold(value: object) -> None:
    with pytest.raises(TypeError, match=r"encoding|booleans"):
        encode(value)  # type: ignore[arg-type] # that is the point
