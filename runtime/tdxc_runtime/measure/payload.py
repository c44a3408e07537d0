"""Everything that an image itself contributes to a boot, hashed in one pass over the file.

A UKI brings its stub's section events, a command line and an initrd; a plain kernel started with ``-kernel`` brings the
command line and the initrd that QEMU hands over. The result is in terms of PCRs and knows nothing of firmware.
"""

from __future__ import annotations

from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

from .artifact import Artifact
from .boot.kernel import KernelVersion, parse_kernel_version, read_kernel_version
from .boot.setup_header import is_bzimage, overlay, patched_bzimage_header, patched_efi_header
from .events import Algorithm, PredictedEvent, Register
from .machine import QEMU_10_0, QemuVersion, low_ram
from .pe.authenticode import authenticode_ranges
from .pe.diagnose import artifact_error, read_image
from .pe.digests import DigestPlan, Digests, Segment, Span, hash_plans, window_segments
from .pe.image import MalformedImageError, PeImage
from .request import BootMode, MeasurementRequest
from .sources import ByteSource, FileSource, Window
from .stub.handover import Handover, StubBoot, hand_over, section_events, section_plans
from .stub.uki import Uki, is_uki, open_uki

ALGORITHMS: tuple[Algorithm, ...] = Register.pcr(0).algorithms
_MAX_CERTIFICATES = 1 << 20
_IMAGE, _PATCHED, _INNER, _INITRD = "(image)", "(patched image)", "(inner kernel)", "(initrd)"


@attrs.frozen(kw_only=True)
class Payload:
    """An image's own contribution.

    ``certificate_table`` holds its signatures, empty for an unsigned image. ``image`` is its Authenticode digest,
    ``patched_image`` that of the copy which an older QEMU would hand over (the same digest where it changes nothing).
    ``inner_kernel`` is set for a UKI whose stub has the firmware load its kernel. ``command_line`` is ``None`` when the
    kernel gets none; for a plain kernel it is without the ``initrd=`` that the firmware adds. ``initrd`` is ``None``
    when there is none or when ``initrd_pending`` says why it cannot be known.
    """

    name: str
    certificate_table: bytes
    image: Digests
    patched_image: Digests
    uki: Uki | None
    inner_kernel: Digests | None
    kernel_version: KernelVersion | None
    section_events: tuple[PredictedEvent, ...]
    stub_events: tuple[PredictedEvent, ...]
    command_line: str | None
    command_line_pending: str
    initrd: Digests | None
    initrd_pending: str


def measure_payload(
    artifact: Artifact, request: MeasurementRequest, *, secure_boot: bool | None, qemu: QemuVersion | None
) -> Payload:
    """Hash an image. E_ARTIFACT for a malformed one, E_MEASUREMENT for a stub or a combination that is not known."""
    image = read_image(artifact.image, artifact=artifact.name)
    if is_uki(image):
        may_be_patched = request.boot is BootMode.DIRECT and (qemu is None or qemu < QEMU_10_0)
        return _measure_uki(artifact, request, secure_boot=secure_boot, may_be_patched=may_be_patched)
    if request.boot is BootMode.DISK:
        raise DiagnosticError.of(
            Code.E_MEASUREMENT,
            "the disk does not start a UKI; boots through a boot loader are not predicted",
            SourceSpan(file=artifact.name),
            fix="put the UKI at /EFI/BOOT/BOOTX64.EFI, or measure the UKI with --boot direct",
        )
    return _measure_kernel(artifact, image, request)


def _image_segments(source: ByteSource, image: PeImage, name: str) -> tuple[Segment, ...]:
    try:
        return tuple(Span(offset, size) for offset, size in authenticode_ranges(image))
    except MalformedImageError as error:
        raise artifact_error(name, f"'{source.name}' cannot be measured: {error}") from None


def _certificates(source: ByteSource, image: PeImage) -> bytes:
    """The certificate table, which ends the file; empty when there is none or it is unreasonably large."""
    size = image.certificate_size
    return source.read(source.size - size, size) if 0 < size <= min(_MAX_CERTIFICATES, source.size) else b""


def _measure_uki(
    artifact: Artifact, request: MeasurementRequest, *, secure_boot: bool | None, may_be_patched: bool
) -> Payload:
    uki = open_uki(artifact.image, artifact=artifact.name, profile=request.profile)
    if request.kernel_files.initrd is not None:
        raise artifact_error(artifact.name, "a UKI brings its own initrd", "leave out the separate initrd")
    handover = _hand_over(uki, artifact, request, secure_boot=secure_boot)
    inner = uki.window(".linux")
    if inner is None:
        raise artifact_error(artifact.name, "the '.linux' section is empty")
    inner_image = read_image(inner, artifact=artifact.name)
    segments = _image_segments(artifact.image, uki.image, artifact.name)
    patched = patched_efi_header(artifact.image, cmdline=request.kernel_files.command_line)
    plans = (
        DigestPlan(name=_IMAGE, segments=segments),
        *_inner_plans(uki, inner, inner_image),
        *section_plans(uki),
        *((DigestPlan(name=_INITRD, segments=handover.initrd),) if handover.initrd else ()),
    )
    if may_be_patched:
        plans = (*plans, DigestPlan(name=_PATCHED, segments=overlay(segments, patched)))
    digests = hash_plans(artifact.image, plans, ALGORITHMS)
    return Payload(
        name=artifact.name,
        certificate_table=_certificates(artifact.image, uki.image),
        image=digests[_IMAGE],
        patched_image=digests.get(_PATCHED, digests[_IMAGE]),
        uki=uki,
        inner_kernel=digests.get(_INNER),
        kernel_version=parse_kernel_version(uki.text(".uname") or "") or read_kernel_version(inner),
        section_events=section_events(uki, digests),
        stub_events=handover.events,
        command_line=handover.cmdline,
        command_line_pending=handover.cmdline_pending,
        initrd=None if handover.initrd_pending else digests.get(_INITRD),
        initrd_pending=handover.initrd_pending,
    )


def _inner_plans(uki: Uki, inner: Window, image: PeImage) -> tuple[DigestPlan, ...]:
    """The kernel's own Authenticode digest, which only firmware that loads it computes."""
    if not uki.rules.kernel_loaded_by_firmware:
        return ()
    try:
        return (DigestPlan(name=_INNER, segments=window_segments(inner, authenticode_ranges(image))),)
    except MalformedImageError as error:
        raise artifact_error(uki.artifact, f"its inner kernel cannot be measured: {error}") from None


def _hand_over(uki: Uki, artifact: Artifact, request: MeasurementRequest, *, secure_boot: bool | None) -> Handover:
    sidecars = attrs.evolve(
        request.sidecars,
        boot_secret_disabled=request.sidecars.boot_secret_disabled or artifact.boot_secret_disabled,
    )
    boot = StubBoot(
        load_options=request.kernel_files.command_line if request.boot is BootMode.DIRECT else "",
        secure_boot=bool(secure_boot),
        file_system=request.boot is BootMode.DISK,
        sidecars=sidecars,
    )
    return hand_over(uki, boot)


def _measure_kernel(artifact: Artifact, image: PeImage, request: MeasurementRequest) -> Payload:
    """A kernel of its own, started with ``-kernel`` and maybe ``-initrd`` and ``-append``."""
    segments = _image_segments(artifact.image, image, artifact.name)
    initrd_path = request.kernel_files.initrd
    initrd, initrd_size = _hash_file(initrd_path) if initrd_path else (None, 0)
    plans = [DigestPlan(name=_IMAGE, segments=segments)]
    if request.machine is not None and is_bzimage(artifact.image):
        header = patched_bzimage_header(
            artifact.image,
            initrd_size=initrd_size,
            low_ram=low_ram(request.machine.memory),
            cmdline=request.kernel_files.command_line,
            artifact=artifact.name,
        )
        plans.append(DigestPlan(name=_PATCHED, segments=overlay(segments, header)))
    digests = hash_plans(artifact.image, plans, ALGORITHMS)
    return Payload(
        name=artifact.name,
        certificate_table=_certificates(artifact.image, image),
        image=digests[_IMAGE],
        patched_image=digests.get(_PATCHED, digests[_IMAGE]),
        uki=None,
        inner_kernel=None,
        kernel_version=read_kernel_version(artifact.image),
        section_events=(),
        stub_events=(),
        command_line=request.kernel_files.command_line,
        command_line_pending="",
        initrd=initrd,
        initrd_pending="",
    )


def _hash_file(path: Path) -> tuple[Digests | None, int]:
    """Digests and size of a whole file; no digests for an empty one, which counts as no initrd."""
    with FileSource(path) as source:
        if not source.size:
            return None, 0
        plan = DigestPlan(name=_INITRD, segments=(Span(0, source.size),))
        return hash_plans(source, (plan,), ALGORITHMS)[_INITRD], source.size
