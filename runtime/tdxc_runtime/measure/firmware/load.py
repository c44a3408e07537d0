"""Open a firmware file: metadata, traits and variable store at once, with the warnings that a user should see."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, Diagnostic, Note, SourceSpan

from tdxc_runtime.measure.sources import FileSource

from .mrtd import PageOrder, mrtd
from .tdvf import SectionType, Tdvf, firmware_error, parse_tdvf
from .traits import FirmwareTraits, parse_release, read_traits
from .varstore import GLOBAL_VARIABLE, Variable, read_variables

_MAX_FILE = 64 << 20


@attrs.frozen(kw_only=True)
class Firmware:
    """A TD firmware file.

    ``name`` is the path that diagnostics name. ``traits`` is ``None`` for a firmware that is not built from OVMF's
    volumes, such as a cloud's. ``configuration`` are the bytes of the CFV, empty when there is none. ``mrtd`` holds the
    value for each page order.
    """

    name: str
    data: bytes
    sha256: str
    tdvf: Tdvf
    traits: FirmwareTraits | None
    configuration: bytes
    variables: tuple[Variable, ...]
    mrtd: Mapping[PageOrder, bytes] = attrs.field(factory=dict)

    @property
    def secure_boot(self) -> bool | None:
        """Whether Secure Boot will be enforced; ``None`` when the file does not tell."""
        if self.traits is None:
            return None
        has_key = any(v.name == "PK" and v.vendor == GLOBAL_VARIABLE and v.data for v in self.variables)
        return self.traits.secure_boot_built_in and has_key


def read_firmware(path: Path) -> Firmware:
    """Load a firmware file; E_FIRMWARE when it cannot be read or is no TDVF image."""
    with FileSource(path, Code.E_FIRMWARE) as source:
        if source.size > _MAX_FILE:
            raise firmware_error(str(path), f"a firmware image of {source.size} bytes is not plausible")
        data = source.read(0, source.size)
    return parse_firmware(data, name=str(path))


def parse_firmware(data: bytes, *, name: str) -> Firmware:
    """The same for bytes; E_FIRMWARE for bad metadata or a damaged variable store."""
    tdvf = parse_tdvf(data, name=name)
    section = tdvf.first(SectionType.CFV)
    configuration = data[section.offset : section.offset + section.raw_size] if section else b""
    try:
        variables = read_variables(configuration) if configuration else ()
    except ValueError as error:
        raise firmware_error(name, f"its variable store is damaged: {error}", "get the file again") from None
    return Firmware(
        name=name,
        data=data,
        sha256=hashlib.sha256(data).hexdigest(),
        tdvf=tdvf,
        traits=read_traits(data),
        configuration=configuration,
        variables=variables,
        mrtd={order: mrtd(tdvf, data, order) for order in PageOrder},
    )


def require_traits(firmware: Firmware) -> FirmwareTraits:
    """The traits by which registers are predicted; E_FIRMWARE where the firmware is none of OVMF's."""
    if firmware.traits is None:
        raise firmware_error(
            firmware.name,
            "no OVMF volume was found in this firmware, so what it measures is not known",
            "use a TDVF build of OVMF",
        )
    return firmware.traits


def declare_release(firmware: Firmware, release: str) -> Firmware:
    """The same firmware with its edk2 release stated by the user; E_FIRMWARE when its own traces contradict that."""
    number = parse_release(release) or (int(release) if release.isdecimal() and len(release) == 6 else 0)
    traits = firmware.traits
    if traits is None or not traits.oldest <= number <= traits.newest:
        bounds = "no OVMF build" if traits is None else f"of release {traits.oldest} to {traits.newest}"
        raise firmware_error(
            firmware.name, f"this firmware is said to be of release '{release}', but it is {bounds}", "leave it out"
        )
    return attrs.evolve(firmware, traits=attrs.evolve(traits, oldest=number, newest=number))


def firmware_warnings(firmware: Firmware) -> tuple[Diagnostic, ...]:
    """W_FIRMWARE for what will keep a TD from booting with this file, and how one can tell."""
    traits = firmware.traits
    if traits is None:
        return ()
    found: list[tuple[str, str, str]] = []
    if traits.needs_smm:
        found.append(
            (
                "this firmware needs system management mode, which a TD does not have",
                "the file contains the SMM foundation (PiSmmIpl)",
                "use a build without SMM_REQUIRE, such as OVMF.inteltdx.fd",
            )
        )
    if not traits.measures_td:
        found.append(
            (
                "this firmware does not measure into the registers of a TD after its first phase",
                "the file contains no TdTcg2Dxe module",
                "use a build with TDX support",
            )
        )
    if traits.has_menu_app and traits.menu_volume is None:
        found.append(
            (
                "this firmware stops in a TD before it boots anything",
                "its boot manager menu lies in the volume that a TD does not look into (edk2-stable202605)",
                "use edk2-stable202608 or newer, or 202602 or older",
            )
        )
    return tuple(_warning(firmware.name, *words) for words in found)


def unsigned_warning(firmware: Firmware, *, signed: bool) -> tuple[Diagnostic, ...]:
    """W_FIRMWARE when the firmware enforces Secure Boot and the image that it is to start has no signature."""
    if signed or not firmware.secure_boot:
        return ()
    return (
        _warning(
            firmware.name,
            "this firmware enforces Secure Boot, and the image is not signed: it will be refused",
            "its variable store holds a platform key (PK), and the image's certificate table is empty",
            "sign the UKI with a key that the firmware trusts, or use a build without enrolled keys",
        ),
    )


def _warning(name: str, message: str, evidence: str, fix: str) -> Diagnostic:
    note = Note(message=f"one can tell because {evidence}")
    return Diagnostic(code=Code.W_FIRMWARE, message=message, span=SourceSpan(file=name), notes=(note,), fix=fix)
