"""systemd-stub by version: sections, order, command line, initrd, companion files; against real boots' logs."""

import hashlib
import json
import stat

import attrs
import pytest
from support.efi_images import Part, build_kernel, build_uki, sdmagic
from support.event_logs import needs_vectors, vector
from support.real_logs import digests, tpm_boot
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.measure.events import Algorithm, EventType, Register, replay
from tdxc_runtime.measure.pe.digests import DigestPlan, Literal, Segment, Span, Zeros, hash_plans
from tdxc_runtime.measure.sources import MemorySource
from tdxc_runtime.measure.stub import cpio
from tdxc_runtime.measure.stub.cmdline import decode_section, has_console, mangle, utf16
from tdxc_runtime.measure.stub.handover import Handover, StubBoot, hand_over, section_events, section_plans
from tdxc_runtime.measure.stub.sidecars import SidecarFile, Sidecars
from tdxc_runtime.measure.stub.uki import Uki, open_uki, overlap_warning
from tdxc_runtime.measure.stub.versions import STUB_RULES, Mangling, parse_stub_version, stub_rules

SHA256 = (Algorithm.SHA256,)
NAMES = ("demo", "u252", "u262a")
SBAT, DATA_AT = 0x2000, 0x900000
"""Where the made-up UKI has its ``.sbat``, and where nothing of it is."""
DATA = Part(".data", bytes(8), address=DATA_AT, writable=True)
LOGS = {"demo": "disk", "u252": "t8", "u262a": "t5"}


def opened(data: bytes, profile: int = 0) -> Uki:
    return open_uki(MemorySource(name="image.efi", data=data), artifact="out/image.efi", profile=profile)


def initrd_of(uki: Uki, handover: Handover) -> bytes:
    def content(segment: Segment) -> bytes:
        if isinstance(segment, Span):
            return uki.source.read(segment.offset, segment.size)
        return bytes(segment.count) if isinstance(segment, Zeros) else segment.data

    return b"".join(map(content, handover.initrd))


def event_names(uki: Uki) -> list[str]:
    found = section_events(uki, hash_plans(uki.source, section_plans(uki), Register.pcr(11).algorithms))
    return [(event.data or b"").decode().rstrip("\0") for event in found[::2]]


def refused(data: bytes, profile: int = 0) -> DiagnosticError:
    with pytest.raises(DiagnosticError) as caught:
        hand_over(opened(data, profile), StubBoot())
    return caught.value


@pytest.mark.parametrize(
    ("stub", "expected"),
    [
        ("252.39-1~deb12u1", [".linux", ".osrel", ".cmdline", ".initrd", ".pcrpkey"]),
        ("254", [".linux", ".osrel", ".cmdline", ".initrd", ".uname", ".sbat", ".pcrpkey"]),
        ("256.4", [".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".uname", ".sbat", ".pcrpkey"]),
        (
            "257.13-1~deb13u1",
            [".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".uname", ".sbat", ".pcrpkey", ".hwids"],
        ),
    ],
)
def test_sections_are_announced_in_the_versions_own_order(stub: str, expected: list[str]) -> None:
    extra = [Part(name, name.encode()) for name in (".ucode", ".pcrsig", ".pcrpkey", ".hwids")]
    assert event_names(opened(build_uki(stub=stub, extra=extra))) == expected


def test_the_signature_section_is_never_measured() -> None:
    assert all(".pcrsig" not in rules.measured_sections for rules in STUB_RULES)


@pytest.mark.parametrize("version", ["251", "263", "257~rc1", "258-rc2-12-gabcdef", "garbage"])
def test_an_unknown_stub_is_an_error_that_names_the_known_ones(version: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        stub_rules(version, artifact="image.efi")
    assert caught.value.diagnostics[0].code is Code.E_MEASUREMENT
    assert "252 to 262" in caught.value.diagnostics[0].fix


def test_the_version_is_read_from_the_magic_section() -> None:
    assert parse_stub_version(sdmagic("257.13-1~deb13u1")) == "257.13-1~deb13u1"
    assert parse_stub_version(b"#### LoaderInfo: systemd-boot 257 ####") is None


@pytest.mark.parametrize(
    ("data", "code", "words"),
    [
        (build_kernel(), Code.E_ARTIFACT, "no '.linux' section"),
        (b"plain text", Code.E_ARTIFACT, "not an EFI image"),
        (build_uki(stub="300"), Code.E_MEASUREMENT, "systemd-stub 300"),
        (build_uki(extra=[Part(".dtbauto", b"tree")]), Code.E_MEASUREMENT, "hardware"),
        (build_uki(stub="256", extra=[Part(".profile", b"ID=a")]), Code.E_MEASUREMENT, "does not know"),
        (build_uki(stub="254", extra=[Part(".osrel", b"ID=b")]), Code.E_ARTIFACT, "two '.osrel'"),
        (build_uki(extra=[Part(".pcrpkey", b"key", 1 << 30)]), Code.E_ARTIFACT, "claims"),
        (build_uki(extra=[Part(".late", b"late", address=SBAT + 40)]), Code.E_ARTIFACT, "'.sbat' shares memory"),
        (build_uki(extra=[Part(".late", b"late", 0, SBAT - 500)]), Code.E_ARTIFACT, "with section '.late'"),
        (build_uki(extra=[Part(".pcrpkey", b"key", address=0x3FF)]), Code.E_ARTIFACT, "with the headers"),
        (build_uki(extra=[DATA, Part(".pcrpkey", b"key", address=DATA_AT)]), Code.E_ARTIFACT, "with section '.data'"),
        (build_uki(cmdline="caf\udce9".encode("utf-8", "surrogateescape").decode("latin-1")), None, ""),
    ],
)
def test_images_that_cannot_be_predicted_are_refused(data: bytes, code: Code | None, words: str) -> None:
    if code is None:
        assert hand_over(opened(data), StubBoot()).cmdline
        return
    diagnostic = refused(data).diagnostics[0]
    assert diagnostic.code is code
    assert words in diagnostic.message
    assert diagnostic.fix


def test_sections_that_share_memory_without_a_loss_for_what_is_measured_are_a_warning() -> None:
    late = [Part(".late", b"late", address=SBAT + 40)]
    (warning,) = overlap_warning(opened(build_uki(stub="252.39-1~deb12u2", extra=late)))
    assert warning.code is Code.W_MEASUREMENT
    assert "'.sbat' and '.late'" in warning.message
    assert "254 or newer" in warning.fix
    constant = attrs.evolve(DATA, writable=False)
    on_top = opened(build_uki(extra=[constant, Part(".pcrpkey", b"key", address=DATA_AT)]))
    assert on_top.small(".pcrpkey") == b"key"
    assert len(overlap_warning(on_top)) == 1
    end = SBAT + len(opened(build_uki()).small(".sbat") or b"")
    assert not overlap_warning(opened(build_uki(extra=[Part(".late", b"late", address=end)])))


def test_a_command_line_that_is_not_utf8_is_refused() -> None:
    data = build_uki(cmdline="quiet").replace(b"quiet\0", b"qui\xfft\0", 1)
    assert "not UTF-8" in refused(data).diagnostics[0].message


def test_a_profile_overrides_the_base_and_is_measured_itself() -> None:
    extra = [
        Part(".profile", b"ID=main"),
        Part(".profile", b"ID=debug"),
        Part(".cmdline", b"console=ttyS0 debug"),
    ]
    base, debug = opened(build_uki(extra=extra)), opened(build_uki(extra=extra), profile=1)
    assert hand_over(base, StubBoot()).cmdline == "console=ttyS0 quiet"
    handover = hand_over(debug, StubBoot())
    assert handover.cmdline == "console=ttyS0 debug"
    assert [event.data for event in handover.events] == [utf16("1")]
    assert handover.events[0].event_type is EventType.EV_EVENT_TAG
    assert debug.small(".profile") == b"ID=debug"
    assert "no profile 2" in refused(build_uki(extra=extra), profile=2).diagnostics[0].message


@pytest.mark.parametrize(
    ("mangling", "expected"),
    [
        (Mangling.NONE, " a\tb\n c \n"),
        (Mangling.TRAILING, " a b  c"),
        (Mangling.BOTH_ENDS, "a b  c"),
    ],
)
def test_command_lines_are_cleaned_as_the_version_does(mangling: Mangling, expected: str) -> None:
    assert mangle(" a\tb\n c \n", mangling) == expected


def test_text_ends_at_nul_and_leaves_out_what_ucs2_cannot_hold() -> None:
    assert decode_section("päth \U0001f600 x\0rest".encode()) == "päth  x"


@pytest.mark.parametrize(
    ("line", "named"), [("console=ttyS0", True), ("quiet console=", True), ("xconsole=1", False), ("", False)]
)
def test_consoles_are_recognised_as_words(line: str, named: bool) -> None:
    assert has_console(line) is named


def test_an_old_stub_passes_a_lone_initrd_as_it_is() -> None:
    uki = opened(build_uki(stub="252.39-1~deb12u1", initrd=b"odd length!"))
    assert initrd_of(uki, hand_over(uki, StubBoot())) == b"odd length!"


def test_a_newer_stub_pads_the_initrd_and_appends_os_release() -> None:
    uki = opened(build_uki(initrd=b"odd length!", osrel=b"ID=x"))
    expected = b"odd length!\0" + cpio.pack(cpio.META, (("os-release", b"ID=x"),))
    assert initrd_of(uki, hand_over(uki, StubBoot())) == expected


def test_microcode_comes_first_and_meta_files_last() -> None:
    extra = [Part(".ucode", b"micro"), Part(".pcrsig", b"{}"), Part(".pcrpkey", b"PEM")]
    uki = opened(build_uki(initrd=b"base", extra=extra))
    archives = (("tpm2-pcr-signature.json", b"{}"), ("tpm2-pcr-public-key.pem", b"PEM"))
    packed = b"".join(cpio.pack(cpio.META, (pair,)) for pair in archives)
    start = b"micro\0\0\0" + b"base" + packed
    assert initrd_of(uki, hand_over(uki, StubBoot())).startswith(start)


def members(archive: bytes) -> list[tuple[str, int, bytes]]:
    """Name, mode and content of each member, read by the format's own description."""
    found: list[tuple[str, int, bytes]] = []
    position = 0
    while True:
        assert archive[position : position + 6] == b"070701"
        fields = [int(archive[position + 6 + 8 * i : position + 14 + 8 * i], 16) for i in range(13)]
        name = archive[position + 110 : position + 110 + fields[11] - 1].decode()
        start = position + (110 + fields[11] + 3) // 4 * 4
        position = start + (fields[6] + 3) // 4 * 4
        if name == "TRAILER!!!":
            assert position == len(archive)
            return found
        found.append((name, fields[1], archive[start : start + fields[6]]))


def test_archives_hold_the_folders_and_files_with_their_modes() -> None:
    assert members(cpio.pack(cpio.CREDENTIALS, (("a.cred", b"secret"), ("b.cred", b"")))) == [
        (".extra", stat.S_IFDIR | 0o555, b""),
        (".extra/credentials", stat.S_IFDIR | 0o500, b""),
        (".extra/credentials/a.cred", stat.S_IFREG | 0o400, b"secret"),
        (".extra/credentials/b.cred", stat.S_IFREG | 0o400, b""),
    ]


def test_companion_files_are_measured_and_join_the_initrd_sorted() -> None:
    files = (SidecarFile(name="b.cred", data=b"2"), SidecarFile(name="a.cred", data=b"1"))
    sidecars = Sidecars(credentials=files, sysexts=(SidecarFile(name="x.raw", data=b"img"),))
    uki = opened(build_uki())
    handover = hand_over(uki, StubBoot(sidecars=sidecars))
    archive = cpio.pack(cpio.CREDENTIALS, (("a.cred", b"1"), ("b.cred", b"2")))
    assert [event.register for event in handover.events] == [Register.pcr(12), Register.pcr(13)]
    assert handover.events[0].digest(Algorithm.SHA256) == hashlib.sha256(archive).digest()
    assert archive in initrd_of(uki, handover)
    assert not hand_over(uki, StubBoot(sidecars=sidecars, file_system=False)).events


def test_addons_and_smbios_strings_extend_the_command_line() -> None:
    sidecars = Sidecars(addon_cmdlines=("one=1", " two=2 "), kernel_cmdline_extra="host=1")
    uki = opened(build_uki(cmdline="console=ttyS0"))
    inside = hand_over(uki, StubBoot(sidecars=sidecars))
    assert inside.cmdline == "console=ttyS0 one=1 two=2"
    assert [event.data for event in inside.events] == [utf16("one=1 two=2")]
    outside = hand_over(uki, StubBoot(sidecars=sidecars, confidential=False))
    assert outside.cmdline == "console=ttyS0 one=1 two=2 host=1"


@pytest.mark.parametrize(
    ("secure_boot", "embedded", "confidential", "expected"),
    [
        (False, "console=ttyS0", True, "console=hvc0"),
        (True, "console=ttyS0", True, "console=ttyS0"),
        (True, None, True, None),
        (True, None, False, "console=hvc0"),
    ],
)
def test_a_passed_command_line_wins_unless_secure_boot_forbids(
    *, secure_boot: bool, embedded: str | None, confidential: bool, expected: str | None
) -> None:
    boot = StubBoot(load_options="console=hvc0", secure_boot=secure_boot, confidential=confidential)
    handover = hand_over(opened(build_uki(cmdline=embedded)), boot)
    assert handover.cmdline == expected
    assert bool(handover.events) is (expected == "console=hvc0")


def test_a_secret_in_the_initrd_makes_it_pending_on_disk_boots_only() -> None:
    uki = opened(build_uki(stub="262.1-1"))
    assert "random secret" in hand_over(uki, StubBoot()).initrd_pending
    assert not hand_over(uki, StubBoot(file_system=False)).initrd_pending
    assert not hand_over(uki, StubBoot(sidecars=Sidecars(boot_secret_disabled=True))).initrd_pending
    assert not hand_over(opened(build_uki()), StubBoot()).initrd_pending


def test_a_missing_console_makes_the_command_line_pending_for_stubs_that_add_one() -> None:
    assert "console=" in hand_over(opened(build_uki(stub="262", cmdline="quiet")), StubBoot()).cmdline_pending
    assert not hand_over(opened(build_uki(stub="262")), StubBoot()).cmdline_pending
    assert not hand_over(opened(build_uki(cmdline="quiet")), StubBoot()).cmdline_pending


@needs_vectors
def test_pcr11_of_a_real_boot_event_by_event() -> None:
    uki = opened(vector("qemu-tcg/tiny257.efi"))
    found = section_events(uki, hash_plans(uki.source, section_plans(uki), Register.pcr(11).algorithms))
    log = tpm_boot("tiny257")
    for algorithm in Register.pcr(11).algorithms:
        logged = digests(log, Register.pcr(11), algorithm=algorithm)
        assert [(event.digest(algorithm) or b"").hex() for event in found] == logged
    value = replay(found, Register.pcr(11), Algorithm.SHA256)
    assert value is not None
    assert value.hex() == "c3a20524cf4cac432196104f030b19267cb593ecedb5de986899bac87a5d507f"


@needs_vectors
@pytest.mark.parametrize("name", NAMES)
def test_sections_of_real_boots_follow_the_rule_table(name: str) -> None:
    known = json.loads(vector("qemu-tcg/uki-digests.json"))[name]
    rules = stub_rules(known["stub"], artifact=name)
    expected = []
    for section in (section for section in rules.measured_sections if section in known["sections"]):
        expected.append(hashlib.sha256(section.encode() + b"\0").hexdigest())
        expected.append(known["sections"][section]["sha256"])
    assert digests(tpm_boot(LOGS[name]), Register.pcr(11)) == expected


@needs_vectors
@pytest.mark.parametrize("name", NAMES)
def test_command_lines_and_initrds_of_real_boots(name: str) -> None:
    known = json.loads(vector("qemu-tcg/uki-digests.json"))[name]
    line = utf16(mangle(known["cmdline"], stub_rules(known["stub"], artifact=name).mangling))
    rules = stub_rules(known["stub"], artifact=name)
    initrd = known["combined_initrd_sha256"] if rules.combines_osrel else known["sections"][".initrd"]["sha256"]
    assert digests(tpm_boot(LOGS[name]), Register.pcr(9)) == [hashlib.sha256(line).hexdigest(), initrd]


@needs_vectors
def test_whether_the_firmware_loads_the_inner_kernel_follows_the_version() -> None:
    for name in NAMES:
        known = json.loads(vector("qemu-tcg/uki-digests.json"))[name]
        loaded = digests(tpm_boot(LOGS[name]), Register.pcr(4), kind=EventType.EV_EFI_BOOT_SERVICES_APPLICATION)
        expected = [known["authenticode_sha256"]]
        if stub_rules(known["stub"], artifact=name).kernel_loaded_by_firmware:
            expected.append(known["linux_authenticode_sha256"])
        assert loaded == expected


def test_the_initrd_plan_shares_the_section_of_a_uki_without_microcode() -> None:
    uki = opened(build_uki())
    plans = section_plans(uki)
    initrd = DigestPlan(name="(initrd)", segments=hand_over(uki, StubBoot()).initrd)
    section = next(plan for plan in plans if plan.name == ".initrd")
    assert initrd.segments[: len(section.segments)] == section.segments
    assert isinstance(initrd.segments[-1], Literal)
    found = hash_plans(uki.source, (*plans, initrd), SHA256)["(initrd)"]
    assert dict(found)[Algorithm.SHA256] == hashlib.sha256(initrd_of(uki, hand_over(uki, StubBoot()))).digest()
