"""A made-up boot of a UKI, predicted and logged, in a TD and on a machine with a TPM.

The same description yields both sides, so that changing one input of the log gives a mismatch of known cause.
"""

from collections.abc import Iterable

import attrs
from support.event_logs import cc_log, logged, tpm_log
from tdxc.diagnostics import SourceSpan
from tdxc_runtime.measure.events import (
    MRTD,
    RTMR0,
    RTMR1,
    RTMR2,
    RTMR3,
    Algorithm,
    Alternative,
    Alternatives,
    EventType,
    Origin,
    PredictedEvent,
    Register,
)
from tdxc_runtime.measure.logs import EventLog, LogEvent, LogKind, parse_event_log
from tdxc_runtime.measure.logs.describe import TAG_INITRD, TAG_LOAD_OPTIONS
from tdxc_runtime.measure.manifest import Manifest, Platform

CALLING = b"Calling EFI Application from Boot Option"
EXIT = (b"Exit Boot Services Invocation", b"Exit Boot Services Returned with Success")
FAILED = b"Exit Boot Services Returned with Failure"


@attrs.frozen(kw_only=True)
class Boot:
    """The inputs of a boot."""

    kernel: bytes = b"kernel 6.12.41"
    uname: bytes = b"6.12.41-cloud-amd64"
    cmdline: str = "console=ttyS0 root=tmpfs"
    initrd: bytes = b"initrd"
    stub: str = "257.13"
    memory: bytes = b"HOB of 4 GiB"
    acpi: tuple[bytes, bytes, bytes] = (b"loader", b"rsdp", b"tables")
    smbios: bytes = b""
    exit_retried: bool = False
    passed: str = ""

    @property
    def uki(self) -> bytes:
        return b"|".join((self.kernel, self.uname, self.cmdline.encode(), self.initrd, self.stub.encode()))

    @property
    def loads_inner_kernel(self) -> bool:
        return int(self.stub.partition(".")[0]) <= 257

    @property
    def options(self) -> bytes:
        return (self.passed or self.cmdline).encode("utf-16-le") + b"\0\0"

    @property
    def sections(self) -> tuple[tuple[str, bytes], ...]:
        return (
            (".linux", self.kernel),
            (".osrel", b"ID=debian\n"),
            (".cmdline", self.cmdline.encode() + b"\0"),
            (".initrd", self.initrd),
            (".uname", self.uname),
            (".sbat", f"systemd-stub,{self.stub}".encode()),
        )


@attrs.frozen
class Step:
    """One measurement: PCR, type, what the digest is over, what the log says, and what the prediction says."""

    pcr: int
    event_type: EventType
    measured: bytes
    data: bytes
    description: str
    origin: Origin = attrs.field(factory=Origin)
    keep: bool = True


def steps(boot: Boot) -> Iterable[Step]:
    cmdline_origin = Origin(
        span=SourceSpan(file="recipe.py", line=12, column=5), node="cmdline", artifact="demo.efi", section=".cmdline"
    )
    yield Step(
        1, EventType.EV_EFI_HANDOFF_TABLES2, boot.memory, b"\x09TdxTable\0" + bytes(8), "the memory layout (TD HOB)"
    )
    yield Step(7, EventType.EV_SEPARATOR, bytes(4), bytes(4), "a separator")
    for blob, name in zip(boot.acpi, ("table-loader", "rsdp", "tables"), strict=True):
        yield Step(1, EventType.EV_PLATFORM_CONFIG_FLAGS, blob, b"ACPI DATA", f"the ACPI blob {name}")
    if boot.smbios:
        yield Step(1, EventType.EV_EFI_HANDOFF_TABLES, boot.smbios, bytes(32), "the SMBIOS tables", keep=False)
    yield Step(4, EventType.EV_EFI_ACTION, CALLING, CALLING, "the firmware starts the boot option")
    uki = Origin(artifact="demo.efi", rule="Authenticode")
    size = bytes(8) + len(boot.uki).to_bytes(8, "little") + bytes(16)
    yield Step(
        4, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, boot.uki, size, "the firmware loads the UKI", uki, keep=False
    )
    for name, content in boot.sections:
        origin = cmdline_origin if name == ".cmdline" else Origin(artifact="demo.efi", section=name)
        label = name.encode("utf-16-le") + b"\0\0"
        yield Step(11, EventType.EV_IPL, name.encode() + b"\0", label, f"systemd-stub announces {name}", origin)
        keep = name in {".cmdline", ".uname"}
        yield Step(11, EventType.EV_IPL, content, label, f"systemd-stub measures {name}", origin, keep=keep)
    if boot.passed:
        text = boot.passed.encode("utf-16-le") + b"\0\0"
        yield Step(12, EventType.EV_IPL, text, text, "systemd-stub measures the command line that was passed to it")
    if boot.loads_inner_kernel:
        inner = Origin(artifact="demo.efi", section=".linux")
        image = (4, EventType.EV_EFI_BOOT_SERVICES_APPLICATION, b"pe of " + boot.kernel, bytes(32))
        yield Step(*image, "the firmware loads the UKI's kernel", inner, keep=False)
    tag = TAG_LOAD_OPTIONS.to_bytes(4, "little") + bytes(4)
    yield Step(9, EventType.EV_EVENT_TAG, boot.options, tag, "the kernel measures its command line", cmdline_origin)
    tag = TAG_INITRD.to_bytes(4, "little") + bytes(4)
    packed = boot.initrd + boot.stub[:2].encode()
    origin = Origin(artifact="demo.efi", section=".initrd")
    yield Step(
        9, EventType.EV_EVENT_TAG, packed, tag, "the kernel measures the initrd that it loads", origin, keep=False
    )
    texts = (EXIT[0], FAILED, *EXIT) if boot.exit_retried else EXIT
    for text in texts:
        yield Step(5, EventType.EV_EFI_ACTION, text, text, text.decode())


def predicted(step: Step) -> PredictedEvent:
    return PredictedEvent.of_bytes(
        register=Register.pcr(step.pcr),
        event_type=step.event_type,
        data=step.measured,
        description=step.description,
        origin=step.origin,
        keep_data=step.keep,
    )


def manifest_of(boot: Boot) -> Manifest:
    """The prediction for both kinds of machine, with both ways of leaving boot services."""
    pcr_events = [predicted(step) for step in steps(boot) if step.pcr != 5]
    leave = [predicted(step) for step in steps(boot) if step.pcr == 5]
    failed = PredictedEvent.of_bytes(
        register=Register.pcr(5), event_type=EventType.EV_EFI_ACTION, data=FAILED, description=FAILED.decode()
    )
    once, twice = tuple(leave), (leave[0], failed, *leave)
    mrtd = PredictedEvent(
        register=MRTD,
        event_type=EventType.EV_NO_ACTION,
        digests=((Algorithm.SHA384, b"\x0b" * 48),),
        description="pages",
    )
    in_td = tuple(event.in_td() for event in pcr_events)
    return Manifest(
        platform=Platform.QEMU,
        prediction=(mrtd, *pcr_events, choice(once, twice), *in_td, choice(map(td, once), map(td, twice))),
        covers=(MRTD, RTMR0, RTMR1, RTMR2, RTMR3, *(Register.pcr(i) for i in (1, 4, 5, 7, 9, 11, 12))),
    )


def td(event: PredictedEvent) -> PredictedEvent:
    return event.in_td()


def choice(once: Iterable[PredictedEvent], twice: Iterable[PredictedEvent]) -> Alternatives:
    return Alternatives(
        name="exit-boot-services",
        options=(
            Alternative(reason="the first attempt succeeds", events=tuple(once)),
            Alternative(reason="the first attempt fails", events=tuple(twice)),
        ),
    )


def td_events(boot: Boot) -> list[LogEvent]:
    return [logged(Register.pcr(s.pcr).in_td, s.event_type, s.data, measured=s.measured) for s in steps(boot)]


def td_log(boot: Boot) -> EventLog:
    return parse_event_log(cc_log(td_events(boot)), name="ccel", kind=LogKind.CC, tolerant=True)


def machine_log(boot: Boot) -> EventLog:
    events = [logged(Register.pcr(s.pcr), s.event_type, s.data, measured=s.measured) for s in steps(boot)]
    return parse_event_log(tpm_log(events), name="log", kind=LogKind.TPM, tolerant=True)
