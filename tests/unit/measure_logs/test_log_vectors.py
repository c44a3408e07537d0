"""Every expected value of the real logs."""

import json
import re

import pytest
from support.event_logs import dstack_log, needs_vectors, vector
from tdxc_runtime.measure.events import RTMR0, RTMR1, RTMR2, RTMR3, Algorithm, EventType, Register
from tdxc_runtime.measure.logs import EventLog, LogKind, inconsistencies, parse_event_log
from tdxc_runtime.measure.quotes import parse_quote
from tdxc_runtime.measure.replay import replay_log

pytestmark = needs_vectors

TPM_LOGS = ("disk", "t1", "t11", "t3", "t5", "t8", "t9", "tiny257")
HASHED = {
    EventType.EV_SEPARATOR,
    EventType.EV_EFI_VARIABLE_DRIVER_CONFIG,
    EventType.EV_EFI_VARIABLE_BOOT,
    EventType.EV_EFI_GPT_EVENT,
    EventType.EV_EFI_ACTION,
}


def log_of(path: str) -> EventLog:
    kind = LogKind.TPM if path.startswith("qemu-tcg") else LogKind.CC
    return parse_event_log(vector(path), name=path, kind=kind)


def rtmr(log: EventLog, register: Register) -> str:
    return replay_log(log)[register, Algorithm.SHA384].hex()


def digests(log: EventLog, event_type: EventType, algorithm: Algorithm, pcr: int) -> list[str]:
    found = (e.digest(algorithm) for e in log.of(Register.pcr(pcr)) if e.event_type == event_type)
    return [digest.hex() for digest in found if digest is not None]


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (RTMR0, "8083cd6898cc52a90231cdf9c0532bf9513c40465c6f71e56cbe32ee2c11a9dfc030297ca3ca0f62477d6d1f610d3fdb"),
        (RTMR1, "6484f0d72c03521c0434553be34e8db8228b729e799666d2b7754085c77aa9981f5a440df3047194b24f212ff1160c1e"),
        (RTMR2, "c3e7ed9d7e909b29732f676d01dc63de869b049362b522a315cb042689670be07344c347cf85d985c7b928d4934e41e1"),
    ],
)
def test_an_unpadded_log_of_a_td(register: Register, value: str) -> None:
    assert rtmr(log_of("go-eventlog/CCEL_unpadded.data.bin"), register) == value


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (RTMR0, "c15727cac1f57d0e91106da180b3eaba72116661e17ba0553773843a9b072ecfa38cc803dfb55e0f87ec236780adb3a6"),
        (RTMR1, "61e958c6f954ce23031fb3cae87bf4da209d697bc15a4aefcdcc92070f7b2df34720b2bb57de89c9d03c7c9aa1136569"),
    ],
)
def test_a_padded_log_agrees_with_its_quote(register: Register, value: str) -> None:
    quote = parse_quote(vector("cc-trusted-api/quote.bin"), name="quote")
    assert rtmr(log_of("cc-trusted-api/ccel_data.bin"), register) == value
    assert quote.body.registers[register].hex() == value


def test_an_ima_measurement_behind_the_log_explains_rtmr2() -> None:
    line = re.fullmatch(r"\s*2 ([0-9a-f]{96}) ima-ng .*\s*", vector("cc-trusted-api/ima_log.bin").decode())
    assert line is not None
    before = replay_log(log_of("cc-trusted-api/ccel_data.bin"))[RTMR2, Algorithm.SHA384]
    value = Algorithm.SHA384.digest(before + bytes.fromhex(line[1]))
    quote = parse_quote(vector("cc-trusted-api/quote.bin"), name="quote")
    assert value == quote.body.registers[RTMR2]
    assert value.hex() == (
        "247eed9f748b228edb65339138eb20ccf78867bc3ec68bb40faffba40ed0f87444a389001e7d1c46a2df56353c047cf2"
    )


@pytest.mark.parametrize(
    ("register", "value"),
    [
        (RTMR0, "2e3843265f8ecdd4e2282694747f6f2f111605c33f2a8882f5734ee6f3a6ce63d8f34aeef06093dcda76fa5f9d33d8d6"),
        (RTMR1, "a1b79d76021970f57c45c4a7c395f780bab37011a4df27fe44e8559bd1abb4d6e52f12f866d1d08405448eb797a5970f"),
        (RTMR2, "1e31b59d605df7ee8160cf7966be9bafa6d0e1905de7e09695a24cd9748e71a603a51fae1297619fa0c30517addbcd07"),
        (RTMR3, "0f787c3877f3e95095d5a4d13dd0fe0233803b30120d8469866719dc28f519ce021fe1e53459121e7a5a4443147185a8"),
    ],
)
def test_a_log_with_run_time_events_agrees_with_its_quote(register: Register, value: str) -> None:
    quote = parse_quote(bytes.fromhex(json.loads(vector("dstack/quote-report.json"))["quote"]), name="quote")
    assert rtmr(parse_event_log(dstack_log(), name="log", kind=LogKind.CC), register) == value
    assert quote.body.registers[register].hex() == value


@pytest.mark.parametrize(
    ("path", "count"),
    [
        ("go-eventlog/CCEL_unpadded.data.bin", 12),
        ("cc-trusted-api/ccel_data.bin", 14),
        *(
            (f"qemu-tcg/{name}.eventlog.bin", n)
            for name, n in zip(TPM_LOGS, (24, 24, 18, 24, 24, 24, 19, 20), strict=True)
        ),
    ],
)
def test_every_digest_that_is_of_its_data_agrees_with_it(path: str, count: int) -> None:
    log = log_of(path)
    assert not list(inconsistencies(log))
    assert sum(event.event_type in HASHED for event in log) == count


@pytest.mark.parametrize(
    ("name", "pcr", "value"),
    [
        ("tiny257", 4, "aa7260561eb690931d9115853f4ba31919129ab06b983f17e72d3cd83b29e036"),
        ("tiny257", 11, "c3a20524cf4cac432196104f030b19267cb593ecedb5de986899bac87a5d507f"),
        ("disk", 11, "0f8312dbeb4a8c51a0593e0007ed5f9b7edcdb7e12e6c172e7967e57d02491b6"),
        ("t8", 11, "f382de8b6f09a9a47f3921e28d56d6c8c5dfe432338899640d9387361148cb29"),
        ("t5", 11, "c0f5b61d9fe8861fdbab11311e65de61922d0f00001ddb9480dad8d8d81f58a7"),
        ("t1", 11, "c0f5b61d9fe8861fdbab11311e65de61922d0f00001ddb9480dad8d8d81f58a7"),
    ],
)
def test_pcrs_of_real_boots(name: str, pcr: int, value: str) -> None:
    values = replay_log(log_of(f"qemu-tcg/{name}.eventlog.bin"))
    assert values[Register.pcr(pcr), Algorithm.SHA256].hex() == value


@pytest.mark.parametrize(
    ("name", "uki", "inner"),
    [
        ("disk", "1e461e17e56f151f55fc5f8abd27f4aca5c9f125703ee08699d1288afb0a3ced", True),
        ("t8", "40d4e9c3e08f9b9fa845f5f0bb5701e8a96895ced61c595ab43070aa11ddf241", True),
        ("t5", "0c1bae9f0ae4bbf7679519926af94326892e69a8fa2455c10ac626e84d0a0376", False),
        ("t1", "0c1bae9f0ae4bbf7679519926af94326892e69a8fa2455c10ac626e84d0a0376", False),
        ("tiny257", "2944a81be4303f309bbf7023fe2fddbb3b5d6707abcc17f4f9fd9839a0c2529b", True),
    ],
)
def test_images_of_real_boots(name: str, uki: str, inner: bool) -> None:
    log = log_of(f"qemu-tcg/{name}.eventlog.bin")
    found = digests(log, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, Algorithm.SHA256, 4)
    assert found[0] == uki
    assert len(found) == 1 + inner
    if inner and name != "tiny257":
        assert found[1] == "782467f032ce2d6a96d9131eac2bcf910ba46099c99e6cfd20555da97a7f1390"


@pytest.mark.parametrize(
    ("name", "sha256", "sha384"),
    [
        (
            "tiny257",
            "428e6671173f97b3d4f922f3687ab276bdc05ca167540dedda2ed9ca4bb43f66",
            "f646623fee21d5962149025c78aa8c2d353dce3916bf8ae12e2a43ebe2b52a243d90d99622be146725dab7bcda87bd21",
        ),
        (
            "disk",
            "cafee570f8ead5fc6aa90bf80a9f95b6403c8e3aa92de68e50adc9d0ca0efb76",
            "3b84a6094eae27775529a882d0694c3477d56e1c8f429ead38aaa535c91377ee0298c629fe249afd8477cc0c64aecc3e",
        ),
    ],
)
def test_partition_tables_of_real_boots(name: str, sha256: str, sha384: str) -> None:
    log = log_of(f"qemu-tcg/{name}.eventlog.bin")
    assert digests(log, EventType.EV_EFI_GPT_EVENT, Algorithm.SHA256, 5) == [sha256]
    assert digests(log, EventType.EV_EFI_GPT_EVENT, Algorithm.SHA384, 5) == [sha384]


@pytest.mark.parametrize(
    ("name", "options", "initrd"),
    [
        (
            "disk",
            "94257040b24c54c089ca04a92d9bf474dded9049f55263a97101f7cbbbe8e969",
            "e3614438478d7c4a1534e83716bec0f2215f4981599a8078a8b1231cd20365b4",
        ),
        (
            "t8",
            "94257040b24c54c089ca04a92d9bf474dded9049f55263a97101f7cbbbe8e969",
            "2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881",
        ),
        (
            "t5",
            "94257040b24c54c089ca04a92d9bf474dded9049f55263a97101f7cbbbe8e969",
            "45d51e83d2604287d7cebdc06fed19806d624a99e2bd11d796bfc406eb930d74",
        ),
        ("t9", "c9e884473c097242b69a624dfcd2e820abfaa0e42ee84efcd12f42bd13b29967", None),
        ("t11", "bfce30593a180a1bfd66960c60cd2cb5abd718a2867b6dc4c7dc68b10deec135", None),
    ],
)
def test_kernel_events_of_real_boots(name: str, options: str, initrd: str | None) -> None:
    found = digests(log_of(f"qemu-tcg/{name}.eventlog.bin"), EventType.EV_EVENT_TAG, Algorithm.SHA256, 9)
    assert found[0] == options
    if initrd is not None:
        assert found[1] == initrd


@pytest.mark.parametrize(
    ("path", "digest"),
    [
        (
            "cc-trusted-api/ccel_data.bin",
            "0b8772e5b0b41b83e6044a68397e02f49fb47066b4fbe4917ea2c45c64f323fdacbb37948f821ebaf8bc9c938ba8a749",
        ),
        (
            "go-eventlog/CCEL_unpadded.data.bin",
            "2e070cda358b5aa00f27cca25c47381bb564f4be3a84d059805a73cbbde764ed8341f7e09915b5e7b370f9c08a743fbd",
        ),
    ],
)
def test_the_first_event_of_a_td_is_its_memory_layout(path: str, digest: str) -> None:
    first = log_of(path)[1]
    assert first.event_type == EventType.EV_EFI_HANDOFF_TABLES2
    assert first.digest(Algorithm.SHA384) == bytes.fromhex(digest)
