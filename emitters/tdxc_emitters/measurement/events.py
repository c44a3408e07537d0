"""Events that the recipe alone decides: systemd-stub's section events and the kernel's load options.

Everything is a row of the manifest's ``events`` array: ``register``, ``digest`` (hexadecimal, or null with
``pending``), ``type``, ``description``, ``origin``, ``algorithm``, and ``data`` (hexadecimal) where it is known.

Sources: systemd src/fundamental/uki.c and tpm-pcr.c of each version (order and set of measured sections) and
src/boot/measure.c (the confidential-computing protocol, from 256 on); Linux
drivers/firmware/efi/libstub/efi-stub-helper.c (``LOADED_IMAGE::LoadOptions`` and ``Linux initrd`` events).
"""

from __future__ import annotations

import codecs
import hashlib
from collections.abc import Iterator

from tdxc import records
from tdxc.ir import ResolvedImage

from tdxc_emitters.measurement.kernels import kernel_series
from tdxc_emitters.mkosi.partitions import command_line

Row = dict[str, object]

_UKI_PENDING = "the UKI, which a bake makes"
_ROOT_HASH_PENDING = "the root hash, with which a bake begins the command line"

_SERIES_PENDING = "the kernel, which a bake installs: before Linux 6.9 it measures nothing into a TD's registers"

_FIRST_IN_RTMR = (6, 9)
"""The first Linux whose EFI stub uses the confidential-computing protocol (efi-stub-helper.c)."""

_ALGORITHMS = {"rtmr2": ("sha384",), "pcr9": ("sha256", "sha384"), "pcr11": ("sha256", "sha384")}


@records.frozen
class StubRules:
    """What a version of systemd-stub measures: sections in order, and whether a TD without a TPM sees them."""

    version: int
    sections: tuple[str, ...]
    in_rtmr: bool


_STUB_252 = StubRules(version=252, sections=(".linux", ".osrel", ".cmdline", ".initrd"), in_rtmr=False)
_STUB_255 = StubRules(version=255, sections=(*_STUB_252.sections, ".uname", ".sbat"), in_rtmr=False)
_STUB_257 = StubRules(version=257, sections=_STUB_255.sections, in_rtmr=True)

_STUB_BY_BASE = {"debian/bookworm": _STUB_252, "ubuntu/noble": _STUB_255, "debian/trixie": _STUB_257}
"""The stub of each base's own systemd-boot-efi package."""


def stub_rules(image: ResolvedImage) -> StubRules | None:
    """The rules of the image's stub; None for one whose rules are not known."""
    if image.efi_stub is None:
        return _STUB_BY_BASE.get(image.base.reference)
    major = image.efi_stub.version.partition(".")[0].partition("-")[0].partition("~")[0]
    known = {str(rules.version): rules for rules in (_STUB_252, _STUB_255, _STUB_257)}
    return known.get(major)


def event_rows(image: ResolvedImage, registers: tuple[str, ...]) -> Iterator[Row]:
    """The rows of those registers, register by register, each register's events complete and in order."""
    rules = stub_rules(image)
    for register in registers:
        if rules is None:
            if register == "pcr11":
                yield from _pending(register, "EV_IPL", "sections of the UKI", "a systemd-stub whose rules are known")
        elif register == "pcr11" or (register == "rtmr2" and rules.in_rtmr):
            yield from _section_rows(image, register, rules)
        if register == "pcr9":
            yield from _kernel_rows(image, register)
        elif register == "rtmr2":
            series = kernel_series(image)
            if series is None:
                yield from _pending(register, "EV_EVENT_TAG", "the kernel's EFI stub may measure", _SERIES_PENDING)
            elif series >= _FIRST_IN_RTMR:
                yield from _kernel_rows(image, register)


def _section_rows(image: ResolvedImage, register: str, rules: StubRules) -> Iterator[Row]:
    for name in rules.sections:
        sentence = f"systemd-stub {rules.version} measures that the UKI has a section {name}"
        yield from _rows(register, "EV_IPL", name.encode() + b"\0", sentence, section=name)
        content = f"systemd-stub {rules.version} measures the content of {name}"
        if name == ".cmdline" and _has_root_hash(image):
            yield from _pending(register, "EV_IPL", content, _ROOT_HASH_PENDING, section=name, node="kernel.cmdline")
        elif name == ".cmdline":
            yield from _rows(register, "EV_IPL", _cmdline_section(image), content, section=name, node="kernel.cmdline")
        else:
            yield from _pending(register, "EV_IPL", content, _UKI_PENDING, section=name)


def _kernel_rows(image: ResolvedImage, register: str) -> Iterator[Row]:
    options = codecs.utf_16_le_encode(cmdline_text(image))[0] + b"\0\0"  # str.encode would import a module for it
    sentence = "the kernel's EFI stub measures its load options, the command line"
    if _has_root_hash(image):
        yield from _pending(register, "EV_EVENT_TAG", sentence, _ROOT_HASH_PENDING, node="kernel.cmdline")
    else:
        yield from _rows(register, "EV_EVENT_TAG", options, sentence, node="kernel.cmdline")
    sentence = "the kernel's EFI stub measures the initrd that systemd-stub hands over"
    yield from _pending(register, "EV_EVENT_TAG", sentence, _UKI_PENDING, section=".initrd")


def _cmdline_section(image: ResolvedImage) -> bytes:
    """mkosi ends the section with NUL, because systemd-stub before 253 expects it."""
    return cmdline_text(image).encode() + b"\0"


def cmdline_text(image: ResolvedImage) -> str:
    """The command line as it will stand in the UKI, except for a root hash in front."""
    return " ".join(word.text for word in command_line(image))


def _has_root_hash(image: ResolvedImage) -> bool:
    return any(partition.verity for partition in image.partitions)


def _rows(
    register: str, event_type: str, data: bytes, description: str, *, section: str = "", node: str = ""
) -> Iterator[Row]:
    for algorithm in _ALGORITHMS[register]:
        row = _row(register, event_type, description, algorithm, section=section, node=node)
        yield {**row, "digest": hashlib.new(algorithm, data).hexdigest(), "data": data.hex()}


def _pending(
    register: str, event_type: str, description: str, waits_for: str, *, section: str = "", node: str = ""
) -> Iterator[Row]:
    for algorithm in _ALGORITHMS[register]:
        row = _row(register, event_type, description, algorithm, section=section, node=node)
        yield {**row, "pending": waits_for}


def _row(register: str, event_type: str, description: str, algorithm: str, *, section: str, node: str) -> Row:
    origin = {"node": node, "artifact": "the UKI" if section else "", "section": section}
    return {
        "register": register,
        "digest": None,
        "type": event_type,
        "description": description,
        "origin": {key: value for key, value in origin.items() if value},
        "algorithm": algorithm,
    }
