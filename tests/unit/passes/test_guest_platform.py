"""What the platforms of a variant decide: where its quotes come from, what its keys are sealed to; what cannot be."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.authored import at, resolved, run
from tdx import Image, SecretTarget
from tdx.modules import DiskEncryption, KeyGeneration, SecretDelivery, Tdxs
from tdx.platforms import AzurePlatform, GcpPlatform
from tdxc import driver
from tdxc.diagnostics import Code, Diagnostic
from tdxc.ir import EncryptedDisk, GuestKey, OutputTarget, QuoteService, ResolvedImage, Setting, Unit
from tdxc.passes.guest_platform import IMAGE_PCRS, default_pcrs
from tdxc.passes.lower_guest import LowerGuest
from tdxc.passes.nft_ruleset import MAIN
from tdxc_runtime.measure.events import Register
from tdxc_runtime.measure.manifest import Platform
from tdxc_runtime.measure.platforms import platform_rules

KEY = GuestKey(span=at(2), name="disk", strategy="tpm")
DISK = EncryptedDisk(span=at(3), name="data", key="disk", strategy="path", device="/dev/vdb", mount_at="/persistent")


def targets(*names: str) -> tuple[OutputTarget, ...]:
    return tuple(OutputTarget(span=at(50 + place), name=name) for place, name in enumerate(names))


def quotes(source: str) -> QuoteService:
    return QuoteService(span=at(4), source=source, group="tdx", socket="/run/tdxs.sock")


def lower(*where: str, **declarations: Any) -> tuple[ResolvedImage, tuple[Diagnostic, ...]]:
    given: dict[str, Any] = {"output_targets": targets(*where), **declarations}
    for name in {"cloud", "attestation_backend"} & given.keys():
        given[name] = Setting(span=at(60), value=given[name])
    if "guest_keys" in given:
        given["encrypted_disks"] = (DISK,)
    return run(LowerGuest(), resolved(**given))


def config(image: ResolvedImage) -> dict[str, Any]:
    (found,) = (file for file in image.files if file.path == "/etc/tdx-guest/config.json")
    read: dict[str, Any] = json.loads(found.content.data)
    return read


def unit(image: ResolvedImage, name: str) -> Unit:
    return next(unit for unit in image.units if unit.name == name)


def variants(image: Image) -> dict[str, ResolvedImage]:
    compiled, _ = driver.analyse(image.freeze())
    return {"": compiled.image} | {variant.profiles[0]: variant for variant in compiled.variants}


# Keys


@pytest.mark.parametrize(
    ("where", "pcrs"),
    [
        ((), [4, 9, 11, 12, 13]),
        (("qemu",), [4, 9, 11, 12, 13]),
        (("azure", "qemu"), [4, 9, 11, 12, 13]),
        (("gcp",), [2, 4, 9, 11, 12, 13]),
        (("azure", "gcp", "qemu"), [2, 4, 9, 11, 12, 13]),
    ],
)
def test_the_default_has_the_register_of_the_image_on_every_target(where: tuple[str, ...], pcrs: list[int]) -> None:
    image, found = lower(*where, guest_keys=(KEY,))
    assert found == ()
    assert config(image)["keys"][0]["tpm"]["pcrs"] == pcrs
    assert image.guest_keys[0].pcrs == tuple(pcrs)
    assert {IMAGE_PCRS[name] for name in where} <= set(pcrs)


def test_each_profile_has_its_own_default() -> None:
    image = Image("x")
    KeyGeneration(strategy="tpm").apply(image)
    DiskEncryption(device="/dev/vdb").apply(image)
    with image.profile("gcp"):
        GcpPlatform().apply(image)
    with image.profile("azure"):
        AzurePlatform().apply(image)
    found = {name: variant.guest_keys[0].pcrs for name, variant in variants(image).items()}
    assert found == {"": (4, 9, 11, 12, 13), "gcp": (2, 4, 9, 11, 12, 13), "azure": (4, 9, 11, 12, 13)}


def test_the_default_is_predicted_where_the_runtime_predicts() -> None:
    """But for Google Cloud: PCR 2 has the image among what is Google's, and PCR 4 says nothing of it."""
    for platform in Platform:
        image = resolved(output_targets=targets(platform.value))
        predictable = set(platform_rules(platform).predictable)
        missing = {pcr for pcr in default_pcrs(image) if Register.pcr(pcr) not in predictable}
        assert missing == ({2, 4} if platform is Platform.GCP else set())


@pytest.mark.parametrize(
    ("where", "pcrs", "missing"),
    [
        (("qemu",), (0, 11), "on QEMU none of PCR 0, 11"),
        (("qemu",), (0,), "on QEMU none of PCR 0"),
        (("azure",), (7,), "on Azure none of PCR 7"),
        (("azure",), (2, 9, 11, 12, 13), "on Azure none of PCR 2"),
        (("qemu",), (9, 11, 12, 13), "on QEMU none of PCR 9"),
        (("gcp",), (4, 9, 11), "on Google Cloud none of PCR 4"),
        (("gcp", "qemu"), (4, 11), "on Google Cloud none of PCR 4"),
        (("gcp", "qemu"), (2, 11), "on QEMU none of PCR 2"),
    ],
)
def test_a_list_without_the_register_of_the_image_is_refused(
    where: tuple[str, ...], pcrs: tuple[int, ...], missing: str
) -> None:
    _, found = lower(*where, guest_keys=(GuestKey(span=at(2), name="disk", strategy="tpm", pcrs=pcrs),))
    (fault,) = found
    assert (fault.code, fault.span.line) == (Code.E_VALUE, 2)
    assert missing in fault.message
    assert fault.fix
    assert fault.fix.startswith(f"add {2 if 'Google' in missing else 4}, ")


@pytest.mark.parametrize(("where", "pcrs"), [(("qemu",), (4,)), (("azure",), (0, 4)), (("gcp",), (2,))])
def test_the_register_of_the_image_is_enough(where: tuple[str, ...], pcrs: tuple[int, ...]) -> None:
    key = GuestKey(span=at(2), name="disk", strategy="tpm", pcrs=pcrs)
    image, found = lower(*where, guest_keys=(key,))
    assert found == ()
    assert image.guest_keys == (key,)


def test_other_keys_have_no_registers() -> None:
    key = GuestKey(span=at(2), name="disk", strategy="pipe", pipe="/run/key", timeout_seconds=9)
    image, found = lower("gcp", guest_keys=(key,))
    assert found == ()
    assert image.guest_keys[0].pcrs == ()


# Quotes


@pytest.mark.parametrize(
    ("where", "named", "source"),
    [
        ((), {}, "configfs"),
        (("qemu",), {}, "configfs"),
        (("gcp", "qemu"), {}, "configfs"),
        (("azure",), {}, "azure_vtpm"),
        (("qemu",), {"cloud": "azure"}, "azure_vtpm"),
        (("qemu",), {"attestation_backend": "azure"}, "azure_vtpm"),
        (("azure", "qemu"), {"cloud": "azure", "attestation_backend": "azure"}, "azure_vtpm"),
        (("azure", "gcp"), {"cloud": "gcp", "attestation_backend": "gcp"}, "configfs"),
        (("qemu",), {"attestation_backend": "tdx"}, "configfs"),
    ],
)
def test_without_an_issuer_the_platform_decides(where: tuple[str, ...], named: dict[str, str], source: str) -> None:
    image, found = lower(*where, quote_service=quotes("auto"), **named)
    assert found == ()
    assert config(image)["quote"]["source"] == source
    assert image.quote_service is not None
    assert image.quote_service.source == source


def test_quotes_of_the_image_and_of_its_azure_profile() -> None:
    image = Image("x")
    image.output_targets("qemu")
    Tdxs().apply(image)
    with image.profile("azure"):
        AzurePlatform().apply(image)
    with image.profile("named"):
        image.cloud = "azure"
        image.attestation_backend = "azure"
    with image.profile("gcp"):
        GcpPlatform().apply(image)
    found = {name: config(variant)["quote"]["source"] for name, variant in variants(image).items()}
    assert found == {"": "configfs", "azure": "azure_vtpm", "named": "azure_vtpm", "gcp": "configfs"}


def test_the_quotes_of_a_delivery_come_from_there_too() -> None:
    image = Image("x")
    Tdxs().apply(image)
    delivery = SecretDelivery()
    delivery.secret("token", targets=[SecretTarget.file("/run/secrets/token")])
    delivery.apply(image)
    with image.profile("azure"):
        AzurePlatform().apply(image)
    found = variants(image)
    assert [config(found[name])["quote"]["source"] for name in ("", "azure")] == ["configfs", "azure_vtpm"]


@pytest.mark.parametrize(
    ("where", "named", "source", "message"),
    [
        (("azure",), {}, "configfs", "for Azure, where the kernel has no interface"),
        (("azure", "qemu"), {}, "configfs", "for Azure, where the kernel has no interface"),
        (("qemu",), {"cloud": "azure"}, "configfs", "for Azure, where the kernel has no interface"),
        (("azure",), {"attestation_backend": "tdx"}, "configfs", "for Azure, where the kernel has no interface"),
        (("azure",), {"cloud": "azure", "attestation_backend": "tdx"}, "auto", "for Azure, where the kernel has"),
        (("azure", "qemu"), {}, "auto", "one image is for Azure and QEMU"),
        (("azure", "gcp", "qemu"), {}, "auto", "one image is for Azure and Google Cloud and QEMU"),
        (("gcp",), {}, "azure_vtpm", "for Google Cloud, and issuer='azure'"),
        (("qemu",), {"cloud": "gcp"}, "azure_vtpm", "for Google Cloud, and issuer='azure'"),
    ],
)
def test_an_issuer_that_the_platform_lacks_is_refused(
    where: tuple[str, ...], named: dict[str, str], source: str, message: str
) -> None:
    _, found = lower(*where, quote_service=quotes(source), **named)
    (fault,) = found
    assert (fault.code, fault.span.line) == (Code.E_CONFLICT, 4)
    assert message in fault.message
    assert fault.fix


@pytest.mark.parametrize("where", [("azure",), ("azure", "qemu"), ("qemu",)])
def test_azure_said_in_so_many_words_is_taken_also_for_a_trial_on_qemu(where: tuple[str, ...]) -> None:
    image, found = lower(*where, quote_service=quotes("azure_vtpm"))
    assert found == ()
    assert config(image)["quote"]["source"] == "azure_vtpm"


# The way of a quote on Azure: the virtual TPM, then a service of the host at 169.254.169.254


def test_on_azure_the_service_reaches_the_tpm_and_the_service_of_the_host_and_nothing_else() -> None:
    image = Image("x")
    image.network(firewall_rules=["DROP all"])
    Tdxs().apply(image)
    with image.profile("azure"):
        AzurePlatform().apply(image)
    found = variants(image)
    made = unit(found["azure"], "tdxs.service")
    assert made.values("Service", "PrivateNetwork") == made.values("Service", "PrivateDevices") == ()
    assert made.values("Service", "RestrictAddressFamilies") == ("AF_UNIX AF_INET",)
    assert made.values("Service", "IPAddressDeny") == ("any",)
    assert made.values("Service", "IPAddressAllow") == ("169.254.169.254",)
    assert made.values("Service", "SocketBindDeny") == ("any",)
    assert made.values("Service", "DeviceAllow") == ("/dev/tpmrm0 rw",)
    assert made.values("Service", "ReadWritePaths") == ()
    assert made.values("Service", "CapabilityBoundingSet") == ("CAP_DAC_OVERRIDE",), "tpm-udev gives it to a user tss"
    for key in ("Wants", "After"):
        assert {"network-online.target", "dev-tpmrm0.device"} <= set(made.values("Unit", key))
    elsewhere = unit(found[""], "tdxs.service")
    assert elsewhere.values("Service", "PrivateNetwork") == elsewhere.values("Service", "PrivateDevices") == ("yes",)
    assert elsewhere.values("Service", "RestrictAddressFamilies") == ("AF_UNIX",)
    assert elsewhere.values("Service", "IPAddressAllow") == ()


def test_the_firewall_holds_back_no_question_and_no_answer() -> None:
    assert "hook input" in MAIN
    assert "hook output" not in MAIN
    assert "ct state { established, related } accept" in MAIN


@pytest.mark.parametrize("method", ["http_post", "vsock"])
def test_on_azure_the_delivery_reaches_the_tpm_and_waits_for_the_network(method: str) -> None:
    image = Image("x")
    image.network(vsock=True)
    delivery = SecretDelivery(method="vsock", port=5000) if method == "vsock" else SecretDelivery()
    delivery.secret("token", targets=[SecretTarget.file("/run/secrets/token")])
    delivery.apply(image)
    with image.profile("azure"):
        AzurePlatform().apply(image)
    made = unit(variants(image)["azure"], "tdx-secrets.service")
    assert made.values("Service", "DeviceAllow") == ("/dev/tpmrm0 rw",)
    assert "AF_INET" in " ".join(made.values("Service", "RestrictAddressFamilies")).split()
    after = made.values("Unit", "After")
    assert after.count("network-online.target") == after.count("dev-tpmrm0.device") == 1
    assert made.values("Service", "PrivateNetwork") == made.values("Service", "IPAddressDeny") == ()


@pytest.mark.parametrize("name", ["qemu", "azure", "gcp"])
def test_every_platform_can_be_named_as_the_cloud(name: str) -> None:
    image = Image("x")
    image.cloud = name
    image.attestation_backend = "tdx" if name == "qemu" else name
    KeyGeneration(strategy="tpm").apply(image)
    DiskEncryption(device="/dev/vdb").apply(image)
    (key,) = variants(image)[""].guest_keys
    assert IMAGE_PCRS[name] in key.pcrs
