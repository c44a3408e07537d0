"""From a UKI to the events that systemd-stub causes and to what it hands over to the kernel.

Everything here is about PCRs; a TD's register follows from :meth:`PredictedEvent.in_td`. Older stubs
speak to a TPM alone (``cc_events`` and ``cc_tagged_events`` of their rules).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import attrs
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

from tdxc_runtime.measure.events import EventType, Origin, PredictedEvent, Register
from tdxc_runtime.measure.pe.digests import DigestPlan, Digests, Literal, Segment, Zeros, segment_size, window_segments

from . import cpio
from .cmdline import has_console, mangle, utf16
from .sidecars import NO_SIDECARS, SidecarFile, Sidecars
from .uki import Uki
from .versions import Mangling

PCR_SECTIONS = Register.pcr(11)
PCR_PARAMETERS = Register.pcr(12)
PCR_SYSEXTS = Register.pcr(13)
INITRD_PLAN = "initrd"

_META_FILES = (
    (".pcrsig", "tpm2-pcr-signature.json"),
    (".pcrpkey", "tpm2-pcr-public-key.pem"),
    (".osrel", "os-release"),
    (".profile", "profile"),
)


@attrs.frozen(kw_only=True)
class StubBoot:
    """What the stub finds when it starts.

    ``load_options`` is what the firmware or the boot loader passed (empty for a removable-media boot). ``file_system``
    says whether the UKI came from one: with ``-kernel`` there is none, hence no companion files and no boot secret.
    """

    load_options: str = ""
    secure_boot: bool = False
    confidential: bool = True
    file_system: bool = True
    sidecars: Sidecars = NO_SIDECARS


@attrs.frozen(kw_only=True)
class Handover:
    """The stub's own events and what the kernel receives.

    ``cmdline`` is ``None`` when the kernel gets no load options. ``initrd`` are the segments of the initrd, empty when
    there is none. ``initrd_pending`` says why the initrd cannot be known, ``cmdline_pending`` the same of the command
    line.
    """

    events: tuple[PredictedEvent, ...]
    cmdline: str | None
    initrd: tuple[Segment, ...]
    cmdline_pending: str = ""
    initrd_pending: str = ""


def section_plans(uki: Uki) -> tuple[DigestPlan, ...]:
    """One plan for each measured section; the plan's name is the section's."""
    names = (name for name in uki.rules.measured_sections if name in uki.sections)
    return tuple(DigestPlan(name=name, segments=_section_segments(uki, name)) for name in names)


def section_events(uki: Uki, digests: Mapping[str, Digests]) -> tuple[PredictedEvent, ...]:
    """Two events per section: its name with a NUL, then its bytes. ``digests`` are those of :func:`section_plans`."""
    events: list[PredictedEvent] = []
    rule = f"systemd-stub {uki.stub_version}"
    for name in (name for name in uki.rules.measured_sections if name in uki.sections):
        origin = Origin(artifact=uki.artifact, section=name, rule=rule)
        events.append(
            PredictedEvent.of_bytes(
                register=PCR_SECTIONS,
                event_type=EventType.EV_IPL,
                data=name.encode("ascii") + b"\0",
                description=f"systemd-stub announces the section {name}",
                origin=origin,
            )
        )
        events.append(
            PredictedEvent(
                register=PCR_SECTIONS,
                event_type=EventType.EV_IPL,
                digests=digests[name],
                data=uki.small(name) if name in {".cmdline", ".osrel", ".uname"} else None,
                description=f"systemd-stub measures the section {name}",
                origin=origin,
            )
        )
    return tuple(events)


def hand_over(uki: Uki, boot: StubBoot) -> Handover:
    """Follow the stub after it measured its sections: parameters, companion files, command line and initrd.

    E_MEASUREMENT for combinations whose outcome is not known.
    """
    _refuse_unknown(uki, boot)
    events: list[PredictedEvent] = []
    if uki.profile:
        events.append(_profile_event(uki))
    cmdline = _settle_cmdline(uki, boot, events)
    archives = _sidecar_archives(uki, boot, events)
    cmdline_pending = ""
    if uki.rules.appends_console and not has_console(cmdline or ""):
        cmdline_pending = (
            f"systemd-stub {uki.stub_version} appends the consoles it finds to a command line without 'console='; "
            "set one in the recipe"
        )
    return Handover(
        events=tuple(events),
        cmdline=cmdline,
        initrd=_initrd_segments(uki, archives),
        cmdline_pending=cmdline_pending,
        initrd_pending=_secret_pending(uki, boot),
    )


def _refuse_unknown(uki: Uki, boot: StubBoot) -> None:
    sidecars = boot.sidecars
    complaint = ""
    if sidecars.addon_cmdlines and uki.rules.version < 255:
        complaint = f"how systemd-stub {uki.rules.version} measures add-ons is not known"
    elif sidecars.confexts and uki.rules.version < 256:
        complaint = f"systemd-stub {uki.rules.version} does not know configuration extensions"
    elif boot.load_options and uki.rules.mangling is Mangling.NONE:
        complaint = f"how systemd-stub {uki.rules.version} measures a replaced command line depends on its build"
    elif uki.rules.mangling is Mangling.NONE and not (uki.text(".cmdline") or "").isascii():
        complaint = f"systemd-stub {uki.rules.version} does not decode a command line that is not ASCII"
    if complaint:
        raise DiagnosticError.of(
            Code.E_MEASUREMENT, complaint, SourceSpan(file=uki.artifact), fix="build the UKI with systemd-stub 257"
        )


def _parameter_event(uki: Uki, text: str, description: str) -> PredictedEvent:
    return PredictedEvent.of_bytes(
        register=PCR_PARAMETERS,
        event_type=EventType.EV_IPL,
        data=utf16(text),
        description=description,
        origin=Origin(artifact=uki.artifact, rule=f"systemd-stub {uki.stub_version}"),
    )


def _profile_event(uki: Uki) -> PredictedEvent:
    return PredictedEvent.of_bytes(
        register=PCR_PARAMETERS,
        event_type=EventType.EV_EVENT_TAG,
        data=utf16(str(uki.profile)),
        description=f"systemd-stub measures the choice of profile {uki.profile}",
        origin=Origin(artifact=uki.artifact, section=".profile", rule=f"systemd-stub {uki.stub_version}"),
    )


def _settle_cmdline(uki: Uki, boot: StubBoot, events: list[PredictedEvent]) -> str | None:
    """The command line for the kernel; appends the events of whatever was added to or replaced the embedded one."""
    rules = uki.rules
    embedded = uki.text(".cmdline")
    custom = mangle(boot.load_options, rules.mangling)
    fixed = boot.secure_boot and (embedded is not None or (boot.confidential and rules.version >= 257))
    cmdline = None if embedded is None else mangle(embedded, rules.mangling)
    if custom and not fixed:
        events.append(_parameter_event(uki, custom, "systemd-stub measures the command line that was passed to it"))
        cmdline = custom
    additions = []
    if boot.file_system:
        texts = (mangle(text, rules.mangling) for text in boot.sidecars.addon_cmdlines)
        additions.append((" ".join(filter(None, texts)), "systemd-stub measures the command lines of add-ons"))
    if not boot.confidential:
        additions.append(
            (
                mangle(boot.sidecars.kernel_cmdline_extra, rules.mangling),
                "systemd-stub measures the SMBIOS string kernel-cmdline-extra",
            )
        )
    for text, description in additions:
        if text:
            events.append(_parameter_event(uki, text, description))
            cmdline = f"{cmdline} {text}" if cmdline else text
    return cmdline


def _sidecar_archives(uki: Uki, boot: StubBoot, events: list[PredictedEvent]) -> list[bytes]:
    """The cpio archives of companion files, in the order in which they join the initrd, and their events."""
    if not boot.file_system:
        return []
    sidecars = boot.sidecars
    groups: tuple[tuple[Sequence[SidecarFile], cpio.CpioTarget, Register, str], ...] = (
        (sidecars.credentials, cpio.CREDENTIALS, PCR_PARAMETERS, "credentials"),
        (sidecars.global_credentials, cpio.GLOBAL_CREDENTIALS, PCR_PARAMETERS, "credentials of the whole ESP"),
        (sidecars.sysexts, cpio.SYSEXTS, PCR_SYSEXTS, "system extensions"),
        (sidecars.confexts, cpio.CONFEXTS, PCR_PARAMETERS, "configuration extensions"),
    )
    archives = []
    for files, target, register, what in groups:
        if not files:
            continue
        ordered = sorted(files, key=lambda file: file.name)
        archive = cpio.pack(target, ((file.name, file.data) for file in ordered))
        archives.append(archive)
        events.append(
            PredictedEvent.of_bytes(
                register=register,
                event_type=EventType.EV_IPL,
                data=archive,
                keep_data=False,
                description=f"systemd-stub measures {what}: {', '.join(file.name for file in ordered)}",
                origin=Origin(artifact=uki.artifact, rule=f"systemd-stub {uki.stub_version}"),
            )
        )
    return archives


def _section_segments(uki: Uki, name: str) -> tuple[Segment, ...]:
    window = uki.window(name)
    return () if window is None else window_segments(window)


def _initrd_segments(uki: Uki, archives: Sequence[bytes]) -> tuple[Segment, ...]:
    """The initrd that the stub offers to the kernel: microcode, the section, companion files, then meta files.

    A lone section is passed as it is; as soon as there are two parts, each is padded to four bytes.
    """
    parts: list[tuple[Segment, ...]] = [_section_segments(uki, name) for name in (".ucode", ".initrd")]
    parts.extend((Literal(archive),) for archive in archives)
    parts.extend((Literal(archive),) for archive in _meta_archives(uki))
    parts = [part for part in parts if part]
    return parts[0] if len(parts) == 1 else tuple(segment for part in parts for segment in _padded(part))


def _padded(part: tuple[Segment, ...]) -> tuple[Segment, ...]:
    size = sum(map(segment_size, part))
    return (*part, Zeros(-size % 4)) if size % 4 else part


def _meta_archives(uki: Uki) -> list[bytes]:
    wanted = _META_FILES if uki.rules.combines_osrel else _META_FILES[:2]
    contents = ((file_name, uki.small(section)) for section, file_name in wanted)
    return [cpio.pack(cpio.META, ((name, data),)) for name, data in contents if data is not None]


def _secret_pending(uki: Uki, boot: StubBoot) -> str:
    if not boot.file_system or boot.sidecars.boot_secret_disabled or not uki.rules.secret_in_initrd:
        return ""
    return (
        f"systemd-stub {uki.stub_version} mixes a random secret into the initrd on disk boots; put an empty "
        "read-only file /loader/boot-secret-mixin on the ESP, boot with -kernel, or use systemd-stub 257"
    )
