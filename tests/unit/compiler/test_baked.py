"""What a bake leaves beside its artifacts, and what a prediction makes of it. The UKI is a made-up one."""

from __future__ import annotations

import json
import lzma
import re
import uuid
from pathlib import Path

import attrs
import pytest
from support.commands import invoke
from support.efi_images import DEFAULT_AREAS, Part, build_firmware, build_uki
from support.event_logs import needs_vectors, vector
from support.resolved_images import SPAN, resolved_image
from tdx import Image
from tdxc.baked import describe_bake, disk_table, firmware_of, manifest_name, measure, read_bake, with_bake
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan
from tdxc.ir import (
    Blob,
    DebloatKind,
    EfiStub,
    Firmware,
    KeepDecision,
    OutputTarget,
    Reproducibility,
    ResolvedImage,
    codec,
)
from tdxc_runtime.disk import make_esp_disk, write_raw
from tdxc_runtime.measure.events import RTMR1, RTMR2, Register, variants
from tdxc_runtime.measure.firmware.load import parse_firmware
from tdxc_runtime.measure.firmware.mrtd import PageOrder
from tdxc_runtime.measure.machine import GuestMachine
from tdxc_runtime.measure.manifest import Platform
from tdxc_runtime.measure.request import BootMode, MeasurementRequest
from tdxc_runtime.measure.stub.versions import parse_stub_version

SEED = uuid.UUID(int=7)
PHASES = "systemd-pcrphase.service"


def image(*, debloat: bool = True, kept: tuple[str, ...] = (), targets: tuple[str, ...] = ("qemu",)) -> ResolvedImage:
    base = resolved_image()
    keep = tuple(KeepDecision(span=SPAN, kind=DebloatKind.UNIT, name=name, reason="a test") for name in kept)
    return attrs.evolve(
        base,
        reproducibility=Reproducibility(span=SPAN, enabled=True, source_date_epoch=0, seed=str(SEED)),
        debloat=attrs.evolve(base.debloat, enabled=debloat, keep=keep),
        output_targets=tuple(OutputTarget(span=SPAN, name=name) for name in targets),
    )


def bake(folder: Path, variant: ResolvedImage, *, stub: str = "257.13-1~deb13u1") -> Path:
    folder.mkdir()
    (folder / "node.efi").write_bytes(build_uki(stub=stub))
    describe_bake(folder, "ab" * 32, variant)
    return folder


def request(folder: Path, boot: BootMode = BootMode.DISK) -> MeasurementRequest:
    return MeasurementRequest(artifact=folder, boot=boot)


def test_a_folder_tells_what_was_baked(tmp_path: Path) -> None:
    found = read_bake(bake(tmp_path / "out", image(kept=(PHASES, "package:linux-image"))))
    assert (found.recipe_digest, found.seed, found.targets) == ("ab" * 32, SEED, ("qemu",))
    assert found.units is not None
    assert PHASES in found.units
    assert "package:linux-image" not in found.units
    assert found.origins[".initrd"] == SPAN


def test_without_debloat_nobody_counted_the_units(tmp_path: Path) -> None:
    assert read_bake(bake(tmp_path / "out", image(debloat=False))).units is None


@pytest.mark.parametrize("content", ["", "[]", "nul", '{"seed": 5, "units": {}, "targets": 1}', '{"seed": "x"}'])
def test_a_damaged_description_counts_as_unknown(tmp_path: Path, content: str) -> None:
    (tmp_path / "image.json").write_text(content)
    found = read_bake(tmp_path)
    assert (found.seed, found.units, found.targets, found.origins) == (None, None, (), {})


def test_the_table_is_that_of_the_disk_which_the_bake_writes(tmp_path: Path) -> None:
    folder = bake(tmp_path / "out", image())
    without_file = measure(request(folder)).manifest
    with (tmp_path / "disk.raw").open("wb") as file:
        write_raw(make_esp_disk(folder / "node.efi", SEED).image, file)
    with_file = measure(attrs.evolve(request(folder), disk=tmp_path / "disk.raw")).manifest
    assert without_file.expected(RTMR1)
    assert without_file.expected(RTMR1) == with_file.expected(RTMR1)
    other = disk_table(folder / "node.efi", uuid.UUID(int=8))
    assert other.event_data != disk_table(folder / "node.efi", SEED).event_data


def test_a_direct_boot_has_no_partitions_to_measure(tmp_path: Path) -> None:
    assert with_bake(request(bake(tmp_path / "out", image()), BootMode.DIRECT)).partition_table is None


@pytest.mark.parametrize(("kept", "outcomes", "events"), [((), 1, 0), ((PHASES,), 1, 1)])
def test_kept_units_decide_about_boot_phases(tmp_path: Path, kept: tuple[str, ...], outcomes: int, events: int) -> None:
    manifest = measure(request(bake(tmp_path / "out", image(kept=kept)))).manifest
    found = variants(manifest.prediction, Register.pcr(11))
    assert len(found) == outcomes
    assert len([e for e in found[0].events if e.origin.rule == "systemd-pcrphase"]) == events


def test_unknown_units_leave_every_outcome(tmp_path: Path) -> None:
    manifest = measure(request(bake(tmp_path / "out", image(debloat=False)))).manifest
    assert len(manifest.expected(Register.pcr(11))) == 3


def test_a_manifest_for_each_platform_names_recipe_lines_and_no_folder(tmp_path: Path) -> None:
    folder = bake(tmp_path / "a long name", image(targets=("qemu", "azure", "gcp")))
    other = bake(tmp_path / "b", image(targets=("qemu", "azure", "gcp")))
    for platform in ("qemu", "azure", "gcp"):
        text = (folder / manifest_name(platform)).read_text()
        assert text == (other / manifest_name(platform)).read_text()
        assert "a long name" not in text
        assert json.loads(text)["platform"] == platform
        assert str(SPAN) in text


def test_origins_reach_the_events(tmp_path: Path) -> None:
    folder = bake(tmp_path / "out", image())
    (folder / "origins.json").write_text(json.dumps({".cmdline": "recipe.py:12:5", ".initrd": "odd:1:name"}))
    events = variants(measure(request(folder)).manifest.prediction, RTMR2)[0].events
    found = {event.origin.section: event.origin.span for event in events}
    assert found[".cmdline"] == SourceSpan(file="recipe.py", line=12, column=5)
    assert found[".initrd"] == SourceSpan(file="odd:1:name")
    assert {event.origin.artifact for event in events} == {"node.efi"}


def test_a_stub_that_nobody_knows_is_a_warning_of_the_bake_and_leaves_no_manifest(tmp_path: Path) -> None:
    unknown = "999"
    assert parse_stub_version(b"#### LoaderInfo: systemd-stub 999 ####") == unknown
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / "node.efi").write_bytes(build_uki(stub=unknown))
    (warning,) = describe_bake(folder, "ab" * 32, image())
    assert warning.code is Code.W_MEASUREMENT
    assert warning.notes
    assert not (folder / manifest_name("qemu")).exists()


def test_a_stub_without_room_for_what_ukify_adds_is_told_once_where_it_is_pinned(tmp_path: Path) -> None:
    (tmp_path / "node.efi").write_bytes(build_uki(stub="252.39", extra=[Part(".late", b"late", address=0x2000)]))
    pin = attrs.evolve(SPAN, line=SPAN.line + 3)
    pinned = attrs.evolve(image(targets=("qemu", "azure")), efi_stub=EfiStub(span=pin, version="252.39"))
    (warning,) = describe_bake(tmp_path, "ab" * 32, pinned)
    assert (warning.code, warning.span) == (Code.W_MEASUREMENT, pin)
    assert "254 or newer" in warning.fix
    assert (tmp_path / manifest_name("azure")).exists()


def test_registers_of_sections_on_top_of_each_other_are_not_predicted(tmp_path: Path) -> None:
    (tmp_path / "node.efi").write_bytes(build_uki(extra=[Part(".late", b"late", address=0x2000)]))
    (warning,) = describe_bake(tmp_path, "ab" * 32, image())
    assert "'.sbat' shares memory with section '.late'" in warning.notes[0].message
    assert "254 or newer" in warning.fix
    assert not (tmp_path / manifest_name("qemu")).exists()


def test_the_firmware_of_the_recipe_goes_with_the_bake(tmp_path: Path) -> None:
    own = attrs.evolve(image(), firmware=Firmware(value="OVMF.fd", content=Blob.of(b"firmware")))
    folder = bake(tmp_path / "out", own)
    assert (folder / "firmware.fd").read_bytes() == b"firmware"
    asked = request(folder)
    assert firmware_of(folder) == with_bake(asked).firmware == folder / "firmware.fd"
    assert with_bake(attrs.evolve(asked, platform=Platform.AZURE)).firmware is None
    assert with_bake(attrs.evolve(asked, firmware=tmp_path / "other.fd")).firmware == tmp_path / "other.fd"
    assert firmware_of(bake(tmp_path / "plain", image())) is None


@needs_vectors
def test_registers_are_predicted_for_the_firmware_of_the_recipe(tmp_path: Path) -> None:
    data = lzma.decompress(vector("debian-ovmf/OVMF.inteltdx.ms.fd.xz"))
    own = attrs.evolve(image(targets=("azure", "qemu")), firmware=Firmware(value="OVMF.fd", content=Blob.of(data)))
    folder = bake(tmp_path / "out", own)
    found = {name: json.loads((folder / manifest_name(name)).read_text()) for name in ("azure", "qemu")}
    expected = parse_firmware(data, name="x").mrtd[PageOrder.INTERLEAVED].hex()
    assert (found["qemu"]["mrtd"], found["azure"]["mrtd"]) == (expected, None)
    assert expected in invoke("measure", folder, "--platform", "qemu").out


@needs_vectors
def test_a_firmware_that_will_refuse_the_image_is_told_where_the_recipe_names_it(tmp_path: Path) -> None:
    line = attrs.evolve(SPAN, line=SPAN.line + 7)
    content = Blob.of(lzma.decompress(vector("debian-ovmf/OVMF.inteltdx.ms.fd.xz")))
    own = attrs.evolve(image(), firmware=Firmware(span=line, value="OVMF.fd", content=content))
    (tmp_path / "node.efi").write_bytes(build_uki())
    (warning,) = describe_bake(tmp_path, "ab" * 32, own)
    assert (warning.code, warning.span) == (Code.W_FIRMWARE, line)
    assert "enforces Secure Boot, and the image is not signed" in warning.message


@pytest.mark.parametrize(
    ("data", "words"), [(b"firmware", "TDVF"), (build_firmware((DEFAULT_AREAS[0], *DEFAULT_AREAS[2:])), "OVMF volume")]
)
def test_a_firmware_that_starts_no_trust_domain_is_refused_before_the_bake(
    tmp_path: Path, data: bytes, words: str
) -> None:
    (tmp_path / "own.fd").write_bytes(data)
    recipe = tmp_path / "recipe.py"
    recipe.write_text("from tdx import Image\n\nimg = Image('x', base='debian/trixie')\nimg.firmware = 'own.fd'\n")
    outcome = invoke("build", recipe, "-o", tmp_path / "out")
    assert outcome.status == 1
    assert "recipe.py:4:1: error[E_FIRMWARE]" in outcome.err
    assert words in outcome.err
    assert not (tmp_path / "out").exists()


def test_a_bake_without_a_uki_is_described_all_the_same(tmp_path: Path) -> None:
    assert describe_bake(tmp_path, "ab" * 32, image()) == ()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["image.json", "origins.json"]


def test_a_folder_that_names_no_known_platform_is_explained_for_qemu(tmp_path: Path) -> None:
    folder = bake(tmp_path / "out", image())
    (folder / "image.json").write_text('{"targets": ["mainframe"]}')
    assert invoke("explain", "pcr9", folder).out.startswith("pcr9 on qemu: predicted")


def test_the_command_line_of_a_folder_is_explained_with_the_recipe(tmp_path: Path) -> None:
    folder = bake(tmp_path / "out", image())
    outcome = invoke("explain", "rtmr2", folder)
    assert outcome.status == 0
    assert f"from {SPAN} (image), node.efi[.initrd]" in outcome.out


def test_what_a_register_waits_for_is_named(tmp_path: Path) -> None:
    folder = bake(tmp_path / "out", image())
    manifest = folder / "manifest.json"
    manifest.write_text(invoke("measure", folder, "--format", "json").out)
    for arguments in (("explain", "mrtd", folder), ("explain", "mrtd", manifest), ("measure", folder)):
        out = invoke(*arguments).out
        assert "missing: the firmware file (--firmware)" in out
        assert re.search(r"^mrtd .*pending.* the firmware file", out)


def test_an_image_measures_what_it_baked_and_nothing_else(tmp_path: Path) -> None:
    recipe = Image("node", base="debian/trixie")
    folder = tmp_path / "out"
    with pytest.raises(DiagnosticError) as caught:
        recipe.measure(str(folder))
    assert caught.value.diagnostics[0].code is Code.E_MEASUREMENT
    assert caught.value.diagnostics[0].fix == "run image.bake() before image.measure()"
    folder.mkdir()
    (folder / "node.efi").write_bytes(build_uki())
    describe_bake(folder, codec.digest(recipe.freeze()), image())
    manifest = recipe.measure(str(folder), platform="azure").manifest
    asked = attrs.evolve(request(folder), platform=Platform.AZURE)
    assert manifest.prediction == measure(asked).manifest.prediction
    assert manifest.expected(Register.pcr(9))
    shaped = recipe.measure(str(folder), processor_id="F2 06 0C 00 FF FB 8B 1F", physical_bits=46, two_pass=True)
    machine = GuestMachine(processor_id="f2060c00fffb8b1f", physical_bits=46)
    assert shaped.manifest.inputs["machine"] == json.loads(json.dumps(attrs.asdict(machine)))
    with pytest.raises(DiagnosticError, match="no processor's identity"):
        recipe.measure(str(folder), processor_id="GenuineIntel")
    recipe.install("jq")
    with pytest.raises(DiagnosticError):
        recipe.measure(str(folder))
