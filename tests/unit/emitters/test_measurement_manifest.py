"""The manifest of a compile is one that the measurement engine reads, writes back alike and completes."""

from __future__ import annotations

import hashlib
import json
from typing import Any

import attrs
import pytest
from support.builds import local_source, resolved_build
from support.resolved_images import SPAN, resolved_image
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import BuildLanguage, CompiledImage, EfiStub, KernelSource, OutputTarget, Partition, Ssh
from tdxc_emitters import emit_image
from tdxc_runtime.measure.events import RTMR0, RTMR1, RTMR2, RTMR3, Algorithm, EventType, PredictedEvent, Register
from tdxc_runtime.measure.manifest import Manifest, State
from tdxc_runtime.measure.manifest_json import manifest_from_json, manifest_to_json

PLATFORMS = ("qemu", "gcp", "azure")


def data(platform: str = "qemu", reference: str = "debian/trixie", **changes: Any) -> dict[str, Any]:
    image = resolved_image(reference, output_targets=(OutputTarget(span=SPAN, name=platform),), **changes)
    tree = emit_image(CompiledImage(span=SPAN, image=image))
    found: dict[str, Any] = json.loads(tree.text("measurement/manifest.json"))
    return found


def parsed(*args: Any, **changes: Any) -> Manifest:
    return manifest_from_json(data(*args, **changes), name="manifest.json")


@pytest.mark.parametrize("platform", PLATFORMS)
@pytest.mark.parametrize("reference", ["debian/trixie", "debian/bookworm", "ubuntu/noble"])
def test_engine_reads_it_and_writes_the_same(platform: str, reference: str) -> None:
    found = data(platform, reference)
    written = manifest_to_json(manifest_from_json(found, name="manifest.json"))
    assert written == found
    assert written["pending"] == found["pending"]


def test_builds_tell_their_sources_and_whether_they_had_the_network() -> None:
    git = resolved_build(source=local_source(git="https://example.org/x", rev="main"), network=True)
    found = data(builds=(resolved_build(name="own"), git))["inputs"]["builds"]
    assert [(build["source"], build["network"]) for build in found] == [
        ("files of the recipe", False),
        ("https://example.org/x at main", True),
    ]
    assert "builds" not in data()["inputs"]


def test_command_line_event_is_that_of_the_kernel() -> None:
    image = resolved_image()
    expected = hashlib.sha384(image.kernel.cmdline_text.encode("utf-16-le") + b"\0\0").digest()
    events = [event for event in parsed().prediction if isinstance(event, PredictedEvent)]
    found = [event for event in events if event.event_type is EventType.EV_EVENT_TAG and event.register == RTMR2]
    assert [event.digest(Algorithm.SHA384) for event in found] == [expected, None]


def source_kernel(version: str) -> dict[str, Any]:
    kernel = resolved_image().kernel
    made = attrs.evolve(kernel, source=KernelSource.SOURCE, package="linux-source", version=version)
    return {"kernel": made, "builds": (resolved_build(name="kernel", language=BuildLanguage.KERNEL),)}


def test_a_kernel_from_source_is_an_input_with_its_version_and_no_program() -> None:
    found = data(**source_kernel("6.12"))["inputs"]
    assert found["kernel"] == {"version": "6.12", "source": "linux-source"}
    assert "builds" not in found
    assert "kernel" not in data()["inputs"]


@pytest.mark.parametrize(("version", "measures"), [("6.8", False), ("6.9-rc1", True), ("6.12.5", True)])
def test_the_kernels_version_decides_whether_it_measures_into_a_td(version: str, measures: bool) -> None:
    rows = data(**source_kernel(version))["events"]
    assert any(row["register"] == "rtmr2" and row["type"] == "EV_EVENT_TAG" for row in rows) is measures


def packaged_kernel(package: str) -> dict[str, Any]:
    return {"kernel": attrs.evolve(resolved_image().kernel, package=package)}


@pytest.mark.parametrize(
    ("reference", "package", "measures"),
    [
        ("debian/trixie", "linux-image-cloud-amd64", True),
        ("debian/trixie", "linux-image-amd64/trixie-backports", True),
        ("debian/bookworm", "linux-image-cloud-amd64/bookworm-backports", True),
        ("debian/bookworm", "linux-image-rt-amd64", False),
        ("ubuntu/noble", "linux-image-generic", False),
        ("ubuntu/noble", "linux-image-virtual/noble-updates", False),
        ("ubuntu/noble", "linux-image-gcp-lts-24.04", False),
        ("ubuntu/noble", "linux-image-6.8.0-31-generic", False),
        ("ubuntu/noble", "linux-image-unsigned-6.11.0-26-generic", True),
        ("ubuntu/noble", "linux-image-generic-hwe-24.04=6.8.0-45.45", False),
        ("ubuntu/noble", "linux-image-generic-hwe-24.04=6.14.0-27.27~24.04.1", True),
        ("ubuntu/noble", "linux-image-generic-hwe-24.04", None),
        ("ubuntu/noble", "linux-image-azure", None),
        ("ubuntu/noble", "linux-image-intel", None),
        ("alpine/3.20", "linux-virt", False),
    ],
)
def test_a_package_tells_whether_its_kernel_measures_into_a_td(
    reference: str, package: str, measures: bool | None
) -> None:
    """None: only the bake knows which series it is, and then no event's digest is told."""
    mirror = "https://example.org/alpine" if reference.startswith("alpine") else ""
    rows = data(reference=reference, mirror=mirror, **packaged_kernel(package))["events"]
    found = [row for row in rows if row["register"] == "rtmr2" and row["type"] == "EV_EVENT_TAG"]
    assert bool(found) is (measures is not False)
    if measures is None:
        assert [row["digest"] for row in found] == [None]
        assert "before Linux 6.9" in str(found[0]["pending"])
    assert [row for row in rows if row["register"] == "pcr9"]


def test_neither_stub_nor_kernel_of_noble_measures_into_a_td() -> None:
    manifest = parsed(reference="ubuntu/noble", **packaged_kernel("linux-image-generic"))
    assert manifest.state(RTMR2) == (State.PREDICTED, "")
    assert data(reference="ubuntu/noble", **packaged_kernel("linux-image-generic"))["rtmr2"] == "00" * 48


def test_registers_without_pending_events_have_a_value() -> None:
    manifest = parsed()
    assert manifest.state(RTMR3) == (State.PREDICTED, "")
    assert manifest.state(RTMR2)[0] is State.PENDING
    assert "UKI" in manifest.state(RTMR2)[1]


def test_azure_refuses_rtmrs_with_the_reason() -> None:
    manifest = parsed("azure")
    for register in (RTMR0, RTMR1, RTMR2, RTMR3):
        state, reason = manifest.state(register)
        assert state is State.UNPREDICTABLE
        assert "paravisor" in reason
    assert Register.pcr(11) in manifest.covers


def test_old_stub_leaves_no_section_events_in_a_td() -> None:
    rows = data(reference="debian/bookworm", **packaged_kernel("linux-image-amd64/bookworm-backports"))["events"]
    assert {row["type"] for row in rows if row["register"] == "rtmr2"} == {"EV_EVENT_TAG"}
    assert ".uname" not in {row["origin"].get("section") for row in rows}


def test_stub_of_unknown_rules_predicts_no_sections() -> None:
    rows = data(efi_stub=EfiStub(span=SPAN, version="262.1-1"))["events"]
    assert [row["digest"] for row in rows if row["register"] == "pcr11"] == [None, None]


def test_root_hash_makes_the_command_line_wait() -> None:
    root = Partition(span=SPAN, mount_point="/", fs="erofs", size_bytes=1 << 30, verity=True)
    rows = [row for row in data(partitions=(root,))["events"] if row["origin"].get("node") == "kernel.cmdline"]
    assert rows
    assert all("root hash" in row["pending"] for row in rows)


def test_inputs_name_targets_packages_and_development() -> None:
    found = data(ssh=Ssh(span=SPAN, enabled=True), mirror="http://mirror.example/debian")["inputs"]
    assert found["targets"] == ["qemu"]
    assert "systemd" in found["packages"]
    assert found["packages_from"]["mirror"] == "http://mirror.example/debian"
    assert found["development"] == ["an SSH server gives its users the machine"]


def test_each_target_has_a_manifest() -> None:
    targets = tuple(OutputTarget(span=SPAN, name=name) for name in ("azure", "gcp", "qemu"))
    tree = emit_image(CompiledImage(span=SPAN, image=resolved_image(output_targets=targets)))
    found = {path: json.loads(tree.text(path))["platform"] for path in tree if path.startswith("measurement/")}
    assert found == {
        "measurement/manifest.json": "qemu",
        "measurement/manifest-azure.json": "azure",
        "measurement/manifest-gcp.json": "gcp",
    }


def test_target_that_is_no_platform_is_refused() -> None:
    image = attrs.evolve(resolved_image(), output_targets=(OutputTarget(span=SPAN, name="mars"),))
    with pytest.raises(DiagnosticError) as caught:
        emit_image(CompiledImage(span=SPAN, image=image))
    assert caught.value.diagnostics[0].code is Code.E_DEPLOYMENT
