"""The kernel's EFI stub: what Linux itself measures before it leaves the firmware.

Sources: Linux ``drivers/firmware/efi/libstub/efi-stub-helper.c`` (``efi_measure_tagged_event``,
``efi_convert_cmdline``, ``efi_load_initrd``) at 6.12; Linux ``Documentation/arch/x86/boot.rst`` for the setup header.
Load options are measured since 6.2, through the confidential-computing protocol since 6.9, and only where there is no
TPM.
"""

from __future__ import annotations

import re
import struct

import attrs

from tdxc_runtime.measure.events import EventType, Origin, PredictedEvent, Register
from tdxc_runtime.measure.pe.digests import Digests
from tdxc_runtime.measure.sources import ByteSource, TruncatedInputError

PCR_KERNEL = Register.pcr(9)
_VERSION = re.compile(r"(\d{1,3})\.(\d{1,3})(?:[.\-+~ ]|$)", re.ASCII)


@attrs.frozen(kw_only=True, order=True)
class KernelVersion:
    """Major and minor version of a Linux kernel."""

    major: int
    minor: int

    @property
    def measures_in_rtmr(self) -> bool:
        """Whether the EFI stub uses the confidential-computing protocol when there is no TPM."""
        return (self.major, self.minor) >= (6, 9)

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}"


def parse_kernel_version(text: str) -> KernelVersion | None:
    """Read ``6.12.43+deb13-amd64``; ``None`` when the text does not begin with a version."""
    match = _VERSION.match(text)
    return KernelVersion(major=int(match[1]), minor=int(match[2])) if match else None


def read_kernel_version(kernel: ByteSource) -> KernelVersion | None:
    """The version in a bzImage's setup header (u16 at 0x20e points to the text, less 0x200), if it has one."""
    try:
        if kernel.read(0x202, 4) != b"HdrS":
            return None
        (pointer,) = struct.unpack("<H", kernel.read(0x20E, 2))
        text = kernel.read(pointer + 0x200, 64).split(b"\0", 1)[0] if pointer else b""
    except TruncatedInputError:
        return None
    return parse_kernel_version(text.decode("latin-1"))


def kernel_complaint(version: KernelVersion | None) -> str:
    """Why it is not known what a kernel's EFI stub measures, or an empty string when it is known."""
    if version is not None and (version.major, version.minor) >= (6, 2):
        return ""
    found = "of a version that cannot be read" if version is None else f"Linux {version}"
    return f"a kernel of Linux 6.9 or newer: this one is {found}, and what its EFI stub measures is not known"


def load_options_event(data: bytes, *, description: str, origin: Origin) -> PredictedEvent:
    """The event over the load options as passed: UTF-16LE with its NUL."""
    return PredictedEvent.of_bytes(
        register=PCR_KERNEL, event_type=EventType.EV_EVENT_TAG, data=data, description=description, origin=origin
    )


def initrd_event(digests: Digests, *, origin: Origin) -> PredictedEvent:
    """The event over the initrd as the kernel loads it."""
    return PredictedEvent(
        register=PCR_KERNEL,
        event_type=EventType.EV_EVENT_TAG,
        digests=digests,
        description="the kernel measures the initrd that it loads",
        origin=origin,
    )


def pending_kernel_event(reason: str, *, description: str, origin: Origin) -> PredictedEvent:
    """An event of the kernel's whose input is not known."""
    return PredictedEvent(
        register=PCR_KERNEL,
        event_type=EventType.EV_EVENT_TAG,
        description=description,
        origin=origin,
        pending=reason,
    )
