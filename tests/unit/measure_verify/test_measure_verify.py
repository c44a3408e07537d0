import json
from typing import Any

import attrs
import pytest
from support import quote_pki as pki
from support.boots import Boot, machine_log, manifest_of, td_events, td_log
from support.event_logs import cc_log, logged, needs_vectors, tpm_log, vector
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.measure.causes import Kind
from tdxc_runtime.measure.events import (
    MRTD,
    RTMR0,
    RTMR1,
    RTMR2,
    RTMR3,
    Algorithm,
    EventType,
    Origin,
    PredictedEvent,
    Register,
    extend,
)
from tdxc_runtime.measure.logs import EventLog, LogKind, parse_event_log
from tdxc_runtime.measure.manifest import Manifest
from tdxc_runtime.measure.quotes import TdBody, parse_quote, parse_td_report, verify_quote, write_td_report
from tdxc_runtime.measure.replay import parse_pcr_file, replay_log
from tdxc_runtime.measure.verify import Evidence, Verification, verify

GOOD = Boot()
MANIFEST = manifest_of(GOOD)


def body_of(log: EventLog) -> TdBody:
    values = replay_log(log)
    rtmrs = tuple(values[register, Algorithm.SHA384] for register in (RTMR0, RTMR1, RTMR2, RTMR3))
    return pki.body(rtmrs=rtmrs)


def against(boot: Boot, manifest: Manifest = MANIFEST, **changes: Any) -> Verification:
    """A TD that booted ``boot``, with an honest log and quote, held against a manifest."""
    log = td_log(boot)
    quote = parse_quote(pki.quote(body_of(log)), name="quote")
    return verify(attrs.evolve(Evidence(log=log, quote=quote, manifest=manifest), **changes))


def failed(result: Verification) -> dict[str, str]:
    return {check.name: check.detail for check in result.checks if not check.ok}


def test_the_predicted_boot_passes() -> None:
    result = against(GOOD)
    assert result.ok, failed(result)
    assert result.causes == ()
    names = [check.name for check in result.checks]
    assert names[:2] == ["log is whole", "log is consistent"]
    assert names[2:6] == [f"log and quote agree on rtmr{i}" for i in range(4)]
    assert names[6:] == [f"{name} matches the manifest" for name in ("mrtd", "rtmr0", "rtmr1", "rtmr2", "rtmr3")]


def test_an_accepted_alternative_passes_and_is_named() -> None:
    result = against(Boot(exit_retried=True))
    assert result.ok, failed(result)
    detail = next(check.detail for check in result.checks if check.name == "rtmr1 matches the manifest")
    assert "the first attempt fails" in detail


CAUSES = [
    (
        Boot(cmdline="console=ttyS0 root=tmpfs debug"),
        Kind.COMMAND_LINE,
        "has `debug` appended: recipe.py:12 sets 'console=ttyS0 root=tmpfs'",
    ),
    (Boot(cmdline="root=tmpfs"), Kind.COMMAND_LINE, "lacks `console=ttyS0`"),
    (Boot(cmdline="quiet console=ttyS0 root=tmpfs"), Kind.COMMAND_LINE, "has `quiet` put in front"),
    (Boot(cmdline="console=ttyS0 root=/dev/evil"), Kind.COMMAND_LINE, "is not 'console=ttyS0 root=tmpfs'"),
    (
        Boot(passed="console=ttyS0 root=tmpfs init=/x"),
        Kind.COMMAND_LINE,
        "has `init=/x` appended, and not by the image",
    ),
    (Boot(initrd=b"initrd and one more file"), Kind.INITRD, "one more file"),
    (Boot(kernel=b"kernel 6.12.99"), Kind.KERNEL, "another kernel runs: the section .linux differs: demo.efi[.linux]"),
    (Boot(kernel=b"k", uname=b"6.1"), Kind.KERNEL, "(the image was predicted with 6.12.41-cloud-amd64)"),
    (Boot(stub="257.14"), Kind.STUB, "its section .sbat, which names the stub's version, differs"),
    (Boot(stub="262.1"), Kind.STUB, "the inner kernel is not measured by the firmware, as with systemd-stub 258"),
    (Boot(memory=b"HOB of 8 GiB"), Kind.MEMORY, "same events, other memory size: the memory layout"),
    (Boot(memory=b"HOB", acpi=(b"loader", b"rsdp", b"x")), Kind.MEMORY, "same events, other memory size"),
    (Boot(acpi=(b"x", b"y", b"z")), Kind.MACHINE, "vCPUs, devices"),
    (Boot(acpi=(b"loader", b"rsdp", b"z")), Kind.MEMORY, "in all likelihood"),
]


@pytest.mark.parametrize(("boot", "kind", "words"), CAUSES)
def test_a_td_that_differs_is_told_why(boot: Boot, kind: Kind, words: str) -> None:
    result = against(boot)
    assert not result.ok
    assert result.causes[0].kind is kind, result.causes
    assert words in result.causes[0].sentence
    assert all(name.endswith("matches the manifest") for name in failed(result))
    assert any(words in detail for detail in failed(result).values())


@pytest.mark.parametrize(("boot", "kind", "words"), CAUSES)
def test_a_machine_with_a_tpm_that_differs_is_told_why(boot: Boot, kind: Kind, words: str) -> None:
    result = verify(Evidence(log=machine_log(boot), manifest=MANIFEST))
    assert not result.ok
    assert result.causes[0].kind is kind, result.causes
    assert words in result.causes[0].sentence


def test_smbios_tables_that_alone_differ_are_another_processor_s() -> None:
    booted, manifest = Boot(smbios=b"Sapphire Rapids"), manifest_of(Boot(smbios=b"Granite Rapids"))
    result = verify(Evidence(log=td_log(booted), manifest=manifest))
    assert not result.ok
    (cause,) = result.causes
    assert cause.kind is Kind.MACHINE
    assert "another processor" in cause.sentence


def test_both_sides_of_the_first_difference_are_shown() -> None:
    result = against(Boot(kernel=b"other", uname=b"other"))
    check = next(check for check in result.checks if check.name == "rtmr2 matches the manifest")
    assert check.event is not None
    assert check.event["register"] == "rtmr2"
    assert check.event["position"] == 1
    expected, found = check.event["expected"], check.event["found"]
    assert isinstance(expected, dict)
    assert isinstance(found, dict)
    assert expected["description"] == "systemd-stub measures .linux"
    assert expected["digest"] == Algorithm.SHA384.digest(GOOD.kernel).hex()
    assert expected["origin"] == {"artifact": "demo.efi", "section": ".linux"}
    assert found["digest"] == Algorithm.SHA384.digest(b"other").hex()
    assert found["type"] == "EV_IPL"


def test_differences_come_in_boot_order() -> None:
    result = against(Boot(memory=b"HOB", kernel=b"other", cmdline="x"))
    assert [d.register for d in result.differences] == [RTMR0, RTMR1, RTMR2, RTMR2, RTMR1, RTMR2]
    assert {cause.kind for cause in result.causes} == {Kind.MEMORY, Kind.KERNEL, Kind.COMMAND_LINE}


def test_a_register_is_told_only_the_causes_that_bear_on_it() -> None:
    details = failed(against(Boot(memory=b"HOB", kernel=b"other")))
    assert "kernel" not in details["rtmr0 matches the manifest"].partition("Likely cause")[2]
    assert "memory" not in details["rtmr2 matches the manifest"].partition("Likely cause")[2]


def test_a_log_that_the_quote_does_not_confirm_explains_with_a_doubt() -> None:
    quote = parse_quote(pki.quote(body_of(td_log(Boot(kernel=b"really this")))), name="quote")
    details = failed(verify(Evidence(log=td_log(Boot(kernel=b"said this")), quote=quote, manifest=MANIFEST)))
    assert "first difference (by a log that the quote does not confirm)" in details["rtmr1 matches the manifest"]
    assert "log and quote agree on rtmr1" in details
    assert not any("does not confirm" in detail for detail in failed(against(Boot(kernel=b"x"))).values())


def test_several_files_of_the_image_at_once_are_several_causes() -> None:
    kinds = [cause.kind for cause in against(Boot(kernel=b"x", initrd=b"y")).causes]
    assert kinds[:2] == [Kind.KERNEL, Kind.INITRD]


def test_hints_name_what_a_digest_means() -> None:
    hints = {Algorithm.SHA384.digest(b"HOB of 8 GiB"): "8 GiB instead of 4 GiB"}
    result = against(Boot(memory=b"HOB of 8 GiB"), hints=hints)
    assert "other memory size (8 GiB instead of 4 GiB)" in result.causes[0].sentence
    result = against(Boot(memory=b"HOB of 8 GiB"), attrs.evolve(MANIFEST, hints=tuple(hints.items())))
    assert "other memory size (8 GiB instead of 4 GiB)" in result.causes[0].sentence


@pytest.mark.parametrize("dropped", [1, 2, 5])
def test_a_log_cut_at_an_event_is_told_by_the_quote(dropped: int) -> None:
    whole = td_log(GOOD)
    quote = parse_quote(pki.quote(body_of(whole)), name="quote")
    cut = parse_event_log(cc_log(td_events(GOOD)[:-dropped]), name="ccel", kind=LogKind.CC)
    result = verify(Evidence(log=cut, quote=quote, manifest=MANIFEST))
    details = failed(result)
    assert all(name.startswith("log and quote agree") for name in details)
    assert all("the log is truncated" in detail for detail in details.values())
    assert "Exit Boot Services Returned with Success" in details["log and quote agree on rtmr1"] or dropped > 1


def test_a_cut_log_alone_is_told_by_the_manifest() -> None:
    cut = parse_event_log(cc_log(td_events(GOOD)[:-3]), name="ccel", kind=LogKind.CC)
    result = verify(Evidence(log=cut, manifest=MANIFEST))
    assert [cause.kind for cause in result.causes] == [Kind.TRUNCATED_LOG]
    assert "the last 3 events are missing" in result.causes[0].sentence
    assert set(failed(result)) == {"rtmr1 matches the manifest", "rtmr2 matches the manifest"}


def test_a_log_cut_within_an_event_says_where() -> None:
    data = cc_log(td_events(GOOD), b"")
    log = parse_event_log(data[:-10], name="ccel", kind=LogKind.CC, tolerant=True)
    result = verify(Evidence(log=log, manifest=MANIFEST))
    assert "truncated or damaged behind event" in failed(result)["log is whole"]
    assert result.causes[0].kind is Kind.TRUNCATED_LOG


def test_a_log_that_claims_more_than_was_extended() -> None:
    quote = parse_quote(pki.quote(body_of(td_log(GOOD))), name="quote")
    longer = [*td_events(GOOD), logged(RTMR1, EventType.EV_EFI_ACTION, b"never happened")]
    log = parse_event_log(cc_log(longer), name="ccel", kind=LogKind.CC)
    details = failed(verify(Evidence(log=log, quote=quote)))
    assert "holds only the first" in details["log and quote agree on rtmr1"]


def test_a_register_that_was_extended_behind_the_log() -> None:
    body = body_of(td_log(GOOD))
    rtmr2 = extend(body.rtmrs[2], bytes(48), Algorithm.SHA384)
    quote = parse_quote(pki.quote(attrs.evolve(body, rtmrs=(*body.rtmrs[:2], rtmr2, body.rtmrs[3]))), name="quote")
    result = verify(Evidence(log=td_log(GOOD), quote=quote, manifest=MANIFEST))
    details = failed(result)
    assert "something was extended that is not in the log" in details["log and quote agree on rtmr2"]
    assert "the logged events are as predicted" in details["rtmr2 matches the manifest"]


def test_a_log_that_lies_about_an_event_is_inconsistent() -> None:
    lie = logged(RTMR1, EventType.EV_EFI_ACTION, b"Exit Boot Services Invocation", measured=b"something else")
    log = parse_event_log(cc_log([lie]), name="ccel", kind=LogKind.CC)
    result = verify(Evidence(log=log))
    assert "log is consistent" in failed(result)
    check = next(check for check in result.checks if not check.ok)
    assert check.event is not None
    assert check.event["number"] == 1


def test_a_log_without_events_is_not_whole() -> None:
    log = parse_event_log(cc_log([]), name="ccel", kind=LogKind.CC)
    assert not verify(Evidence(log=log)).ok


def test_a_log_alone_is_replayed_and_checked() -> None:
    result = verify(Evidence(log=td_log(GOOD)))
    assert result.ok
    json_form = result.to_json()
    assert isinstance(json_form["replayed"], dict)
    assert set(json_form["replayed"]) == {"rtmr0", "rtmr1", "rtmr2", "rtmr3"}
    assert json_form["quote"] is None


def test_the_json_form_has_the_promised_shape() -> None:
    value = against(Boot(cmdline="x")).to_json()
    assert value["ok"] is False
    assert isinstance(value["quote"], dict)
    assert value["quote"]["mrtd"] == "0b" * 48
    assert isinstance(value["checks"], list)
    for check in value["checks"]:
        assert set(check) == {"name", "ok", "detail", "event"}
    pcrs = verify(Evidence(log=machine_log(GOOD))).to_json()["replayed"]
    assert isinstance(pcrs, dict)
    assert set(pcrs["pcrs"]) == {"sha256", "sha384"}


def test_a_debug_td_does_not_pass() -> None:
    body = attrs.evolve(body_of(td_log(GOOD)), td_attributes=1)
    quote = parse_quote(pki.quote(body), name="quote")
    checked = verify_quote(quote, name="quote", at=pki.NOW, root_key=pki.world().root.point)
    result = verify(Evidence(quote=quote, quote_result=checked, manifest=MANIFEST))
    assert list(failed(result)) == ["TD is not debuggable"]


def test_a_quote_without_a_log_cannot_say_why() -> None:
    quote = parse_quote(pki.quote(body_of(td_log(Boot(kernel=b"x")))), name="quote")
    details = failed(verify(Evidence(quote=quote, manifest=MANIFEST)))
    assert "give the event log" in details["rtmr1 matches the manifest"]


def test_a_report_counts_like_a_quote() -> None:
    report = parse_td_report(write_td_report(body_of(td_log(GOOD))), name="report")
    result = verify(Evidence(log=td_log(GOOD), report=report, manifest=MANIFEST))
    assert result.ok
    assert "report MAC" in [item.name for item in result.not_checked]


def test_nothing_to_verify_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="no event log"):
        verify(Evidence(manifest=MANIFEST))


def test_a_manifest_that_knows_nothing_of_the_evidence_fails() -> None:
    result = verify(Evidence(log=td_log(GOOD), manifest=Manifest()))
    assert list(failed(result)) == ["manifest was compared"]


def test_pending_and_unpredictable_registers_are_said_not_to_be_checked() -> None:
    pending = PredictedEvent(register=RTMR0, event_type=EventType.EV_IPL, pending="no memory size was given")
    manifest = attrs.evolve(MANIFEST, prediction=(*MANIFEST.prediction, pending), unpredictable=((RTMR3, "run time"),))
    manifest = attrs.evolve(manifest, covers=tuple(r for r in manifest.covers if r != RTMR3))
    result = against(GOOD, manifest)
    assert result.ok
    reasons = {item.name: item.reason for item in result.not_checked}
    assert reasons["rtmr0 matches the manifest"] == "no memory size was given"
    assert reasons["rtmr3 matches the manifest"] == "run time"


def test_user_space_is_behind_the_firmwares_log() -> None:
    phase = PredictedEvent.of_bytes(
        register=Register.pcr(11), event_type=EventType.EV_IPL, data=b"ready", origin=Origin(rule="systemd-pcrphase")
    )
    manifest = attrs.evolve(MANIFEST, prediction=(*MANIFEST.prediction, phase))
    log = machine_log(GOOD)
    assert verify(Evidence(log=log, manifest=manifest)).ok
    pcrs = dict(replay_log(log))
    assert not verify(Evidence(log=log, pcrs=pcrs, manifest=manifest)).ok
    for algorithm in (Algorithm.SHA256, Algorithm.SHA384):
        key = (Register.pcr(11), algorithm)
        pcrs[key] = extend(pcrs[key], algorithm.digest(b"ready"), algorithm)
    assert not verify(Evidence(log=machine_log(Boot(kernel=b"x")), pcrs=pcrs, manifest=manifest)).ok
    result = verify(Evidence(pcrs=pcrs, manifest=manifest))
    assert result.ok, failed(result)


def test_boot_phases_that_nobody_predicted_are_recognised() -> None:
    log = machine_log(GOOD)
    pcrs = dict(replay_log(log))
    key = (Register.pcr(11), Algorithm.SHA256)
    for word in ("enter-initrd", "leave-initrd"):
        pcrs[key] = extend(pcrs[key], Algorithm.SHA256.digest(word.encode()), Algorithm.SHA256)
    result = verify(Evidence(log=log, pcrs=pcrs))
    assert result.ok
    assert any("enter-initrd, leave-initrd" in check.detail for check in result.checks)


def test_pcrs_that_the_log_does_not_explain() -> None:
    log = machine_log(GOOD)
    pcrs = dict(replay_log(log)) | {(Register.pcr(4), Algorithm.SHA256): b"\x01" * 32}
    assert list(failed(verify(Evidence(log=log, pcrs=pcrs)))) == ["log and pcr4 (sha256) agree"]


def test_startup_locality_is_the_start_of_pcr_0() -> None:
    announce = attrs.evolve(logged(Register.pcr(0), EventType.EV_NO_ACTION, b"StartupLocality\0\x03"), register=None)
    event = logged(Register.pcr(0), EventType.EV_SEPARATOR, bytes(4))
    log = parse_event_log(tpm_log([announce, event]), name="log", kind=LogKind.TPM)
    start = bytes(31) + b"\x03"
    expected = extend(start, Algorithm.SHA256.digest(bytes(4)), Algorithm.SHA256)
    assert replay_log(log)[Register.pcr(0), Algorithm.SHA256] == expected


ZERO, ELEVEN, FOUR = "01" * 32, "AB" * 32, "04" * 48
ROWS = {"sha256": {"0": f"0x{ZERO}", "11": ELEVEN}, "sha384": {"4": FOUR, "5": None}}


@pytest.mark.parametrize(
    "text",
    [
        f"  sha256:\n    0 : 0x{ZERO}\n    11: 0x{ELEVEN}\n  sha384:\n    4 : 0x{FOUR}\n",
        json.dumps(ROWS),
        json.dumps({"pcrs": ROWS}),
    ],
)
def test_lists_of_pcrs(text: str) -> None:
    assert parse_pcr_file(text.encode(), name="pcrs") == {
        (Register.pcr(0), Algorithm.SHA256): b"\x01" * 32,
        (Register.pcr(11), Algorithm.SHA256): b"\xab" * 32,
        (Register.pcr(4), Algorithm.SHA384): b"\x04" * 48,
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "sha256:\n",
        "0 : 0x00\n",
        "sha256:\n  0 : 0x00\n",
        "sha256:\n  24 : 0x" + "00" * 32,
        "sha256:\n  0 : 0x" + "00" * 32 + "\nnonsense",
        "{}",
        '{"pcrs": []}',
        '{"sha256": 3}',
        '{"sha257": {"0": "00"}}',
        '{"sha256": {"x": "00"}}',
        '{"sha256": {"0": 7}}',
        '{"sha256": {"0": "zz"}}',
        "{" * 10000,
        "\udcff",
        " " * 70000,
    ],
)
def test_files_that_are_no_list_of_pcrs(text: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        parse_pcr_file(text.encode("utf-8", "surrogateescape"), name="pcrs")
    (diagnostic,) = caught.value.diagnostics
    assert diagnostic.code is Code.E_EVENTLOG
    assert diagnostic.span.file == "pcrs"


@needs_vectors
def test_a_real_td_whose_kernel_measures_with_ima() -> None:
    log = parse_event_log(vector("cc-trusted-api/ccel_data.bin"), name="ccel", kind=LogKind.CC)
    quote = parse_quote(vector("cc-trusted-api/quote.bin"), name="quote")
    details = failed(verify(Evidence(log=log, quote=quote)))
    assert list(details) == ["log and quote agree on rtmr2"]
    assert "IMA" in details["log and quote agree on rtmr2"]


def test_mrtd_is_compared_too() -> None:
    quote = parse_quote(pki.quote(attrs.evolve(body_of(td_log(GOOD)), mr_td=b"\x77" * 48)), name="quote")
    details = failed(verify(Evidence(log=td_log(GOOD), quote=quote, manifest=MANIFEST)))
    assert list(details) == [f"{MRTD.name} matches the manifest"]
    assert "the log has no event of MRTD" in details["mrtd matches the manifest"]


def test_a_machine_log_shows_nothing_of_rtmr2() -> None:
    result = verify(Evidence(log=machine_log(GOOD), manifest=MANIFEST))
    assert result.ok
    assert f"{RTMR2.name} matches the manifest" in [item.name for item in result.not_checked]
