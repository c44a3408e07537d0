"""What the guest does as the variant's platforms want it: where quotes come from, and what a key is sealed to.

::

    Tdxs(), and AzurePlatform() in a profile   ->  configfs in the image, azure_vtpm in that profile's variant
    KeyGeneration(), output_targets("gcp")     ->  PCR 2, 4, 9, 11, 12, 13

On Azure a paravisor owns the TDX interface, so that the guest's kernel has none (``configfs-tsm``), and quotes come by
the virtual TPM. On Google Cloud the TPM's log has the image's hash in PCR 2 rather than 4, as tdxc_runtime.measure's
``platforms`` says with its sources.
"""

from __future__ import annotations

from collections.abc import Iterator

from tdxc import records
from tdxc.diagnostics import Code, Diagnostic, Note
from tdxc.ir import GuestKey, Node, ResolvedImage

AUTO, CONFIGFS, AZURE_VTPM = "auto", "configfs", "azure_vtpm"

IMAGE_PCRS = {"azure": 4, "gcp": 2, "qemu": 4}
"""The register that firmware extends with the hash of the UKI, by platform."""

_NAMES = {"azure": "Azure", "gcp": "Google Cloud", "qemu": "QEMU"}

DEFAULT_PCRS = (4, 9, 11, 12, 13)
"""What was booted, the initrd, the UKI's sections, and what the boot stub was given beside them. Firmware extends 4
with the hash of the UKI; the others, which ``tdxc measure`` predicts on every platform, are extended by what runs after
it, and so by any other system too. 0 and 7 are left out, as they change when the cloud updates its firmware."""


def platforms(image: ResolvedImage) -> tuple[str, ...]:
    """Wherever the variant may run, sorted: its output targets, and the cloud and the attestation that it names."""
    return tuple(sorted({target.name for target in image.output_targets} | _named(image)))


def quote_source(image: ResolvedImage) -> str:
    """``configfs``, ``azure_vtpm`` or ``fake``: what the recipe says, else what the variant's platform has."""
    service = image.quote_service
    if service is not None and service.source != AUTO:
        return service.source
    if image.attestation_backend == "tdx":
        return CONFIGFS
    return AZURE_VTPM if "azure" in _meant(image) else CONFIGFS


def default_pcrs(image: ResolvedImage) -> tuple[int, ...]:
    """The registers to seal to that hold the image wherever the variant may run."""
    return tuple(sorted({*DEFAULT_PCRS, *_image_pcrs(image).values()}))


def for_platform(image: ResolvedImage) -> ResolvedImage:
    """The image with these choices made where the recipe left them open."""
    keys = tuple(_with_pcrs(key, image) for key in image.guest_keys)
    service = image.quote_service
    if service is not None:
        service = records.evolve(service, source=quote_source(image))
    return records.evolve(image, guest_keys=keys, quote_service=service)


def _with_pcrs(key: GuestKey, image: ResolvedImage) -> GuestKey:
    return records.evolve(key, pcrs=default_pcrs(image)) if key.strategy == "tpm" and not key.pcrs else key


def check_platform(image: ResolvedImage) -> Iterator[Diagnostic]:
    """Choices of the recipe that cannot work where the variant runs."""
    for key in image.guest_keys:
        if key.pcrs:
            yield from _check_pcrs(key, image)
    delivery = image.secret_delivery
    server = delivery if delivery is not None and delivery.method in {"http_post", "vsock"} else None
    if image.quote_service is not None or server is not None:
        yield from _check_source(image, image.quote_service or server or image)


def _check_pcrs(key: GuestKey, image: ResolvedImage) -> Iterator[Diagnostic]:
    """Without the image's own register, whatever runs on the same TPM can bring the others to the image's values."""
    for platform, pcr in _image_pcrs(image).items():
        if pcr in key.pcrs:
            continue
        given = ", ".join(map(str, key.pcrs))
        yield Diagnostic(
            code=Code.E_VALUE,
            message=f"KeyGeneration(): on {_NAMES[platform]} none of PCR {given} has the hash of the image, so another"
            " system on the same TPM can have the key",
            span=key.span,
            notes=_where(image, platform),
            fix=f"add {pcr}, which firmware extends with that hash there; or leave pcrs out",
        )


def _check_source(image: ResolvedImage, node: Node) -> Iterator[Diagnostic]:
    source, meant = quote_source(image), _meant(image)
    said = image.quote_service is not None and image.quote_service.source != AUTO
    if source == CONFIGFS and "azure" in meant:
        message = "the image is for Azure, where the kernel has no interface for quotes"
        fix = (
            "leave issuer out: a variant for Azure alone, by AzurePlatform() in a profile, then asks the virtual TPM"
            if said
            else "write attestation_backend = 'azure', or leave it out"
        )
        yield _conflict(message, node, _where(image, "azure"), fix)
    elif source == AZURE_VTPM and "gcp" in meant and (said or "azure" not in meant):
        message = "the image is for Google Cloud, and issuer='azure' asks a TPM of Azure for quotes"
        yield _conflict(message, node, _where(image, "gcp"), "leave issuer out, and each variant asks what it has")
    elif source == AZURE_VTPM and not said and len(meant) > 1:
        names = " and ".join(_NAMES[name] for name in sorted(meant))
        message = f"one image is for {names}, and only on Azure do quotes come from the virtual TPM"
        fix = "leave azure out of output_targets, and apply AzurePlatform() in a profile"
        yield _conflict(message, node, _where(image, "azure"), fix)


def _image_pcrs(image: ResolvedImage) -> dict[str, int]:
    return {name: IMAGE_PCRS[name] for name in platforms(image) if name in IMAGE_PCRS}


def _named(image: ResolvedImage) -> frozenset[str]:
    return frozenset({image.cloud, image.attestation_backend} & IMAGE_PCRS.keys())


def _meant(image: ResolvedImage) -> frozenset[str]:
    """The platforms that a variant names; a profile's are beside targets that it has from the image itself."""
    return _named(image) or frozenset(target.name for target in image.output_targets)


def _where(image: ResolvedImage, platform: str) -> tuple[Note, ...]:
    target = next((target for target in image.output_targets if target.name == platform), None)
    return (Note(message=f"it is for {_NAMES[platform]} here", span=target.span),) if target else ()


def _conflict(message: str, node: Node, notes: tuple[Note, ...], fix: str) -> Diagnostic:
    return Diagnostic(code=Code.E_CONFLICT, message=message, span=node.span, notes=notes, fix=fix)
