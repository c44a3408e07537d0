"""What systemd-stub does, version by version, as data.

A version that is not in the table is refused: its rules are unknown, and a guess would look like a prediction.

Sources: systemd ``src/fundamental/uki.h`` (``tpm-pcr.h`` before 255) for the sections and their order,
``src/boot/stub.c`` (``src/boot/efi/stub.c`` before 257) for everything else, read at the tags v252 to v257; for later
versions the pull requests 37372 (the stub loads the kernel itself, 258), 41387 and 42945 (console=, 261), 42233
(SMBIOS objects, 261), 42851 (the same for confidential VMs, 262) and 41217 (boot secret, 261), and the file as it was
shortly before v261. Real boots confirm 252, 254, 257, 259, 261 and 262.
"""

from __future__ import annotations

import enum
import re

import attrs
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan

_SECTIONS_252 = (".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrsig", ".pcrpkey")
_SECTIONS_254 = (*_SECTIONS_252[:6], ".uname", ".sbat", ".pcrsig", ".pcrpkey")
_SECTIONS_256 = (*_SECTIONS_254[:4], ".ucode", *_SECTIONS_254[4:])
_SECTIONS_257 = (*_SECTIONS_256, ".profile", ".dtbauto", ".hwids")
_SECTIONS_258 = (*_SECTIONS_257, ".efifw")

UNMEASURED_SECTION = ".pcrsig"
"""Holds signatures over the expected PCR values, so it cannot be measured itself."""

HARDWARE_DEPENDENT_SECTIONS = (".dtbauto", ".efifw")
"""Which of several such sections is measured depends on the machine's identifiers."""


class Mangling(enum.Enum):
    """How the embedded command line is cleaned before the kernel gets it."""

    NONE = "as it is"
    TRAILING = "control characters become spaces, trailing spaces go"
    BOTH_ENDS = "control characters and DEL become spaces, spaces at both ends go"


@attrs.frozen(kw_only=True)
class StubRules:
    """One version's behaviour.

    ``kernel_loaded_by_firmware``: the inner kernel goes through LoadImage, so firmware measures it. ``profiles``: the
    stub knows multi-profile UKIs. ``combines_osrel``: the initrd handed over ends with a cpio of os-release.
    ``cc_events``: section and parameter events also go to the confidential-computing protocol; ``cc_tagged_events``:
    tagged events too. ``appends_console``: adds ``console=`` to a command line that has none. ``smbios_events``:
    measures the SMBIOS objects of type 1, 2 and 11 into PCR 1. ``secret_in_initrd``: appends a random secret to the
    initrd when the UKI was loaded from a file system.
    """

    version: int
    sections: tuple[str, ...]
    mangling: Mangling
    kernel_loaded_by_firmware: bool
    profiles: bool
    combines_osrel: bool
    cc_events: bool
    cc_tagged_events: bool = False
    appends_console: bool = False
    smbios_events: bool = False
    secret_in_initrd: bool = False

    @property
    def measured_sections(self) -> tuple[str, ...]:
        """The sections that go to PCR 11, in the order of measurement."""
        return tuple(name for name in self.sections if name != UNMEASURED_SECTION)


def _old(version: int, sections: tuple[str, ...], mangling: Mangling, *, cc_events: bool = False) -> StubRules:
    return StubRules(
        version=version,
        sections=sections,
        mangling=mangling,
        kernel_loaded_by_firmware=True,
        profiles=False,
        combines_osrel=False,
        cc_events=cc_events,
    )


_V257 = StubRules(
    version=257,
    sections=_SECTIONS_257,
    mangling=Mangling.BOTH_ENDS,
    kernel_loaded_by_firmware=True,
    profiles=True,
    combines_osrel=True,
    cc_events=True,
)
_V258 = attrs.evolve(_V257, version=258, sections=_SECTIONS_258, kernel_loaded_by_firmware=False)
_V261 = attrs.evolve(_V258, version=261, appends_console=True, smbios_events=True, secret_in_initrd=True)

STUB_RULES: tuple[StubRules, ...] = (
    _old(252, _SECTIONS_252, Mangling.NONE),
    _old(253, _SECTIONS_252, Mangling.TRAILING),
    _old(254, _SECTIONS_254, Mangling.TRAILING),
    _old(255, _SECTIONS_254, Mangling.BOTH_ENDS),
    _old(256, _SECTIONS_256, Mangling.BOTH_ENDS, cc_events=True),
    _V257,
    _V258,
    attrs.evolve(_V258, version=259),
    attrs.evolve(_V258, version=260),
    _V261,
    attrs.evolve(_V261, version=262, cc_tagged_events=True),
)

_MAGIC = re.compile(rb"#### LoaderInfo: systemd-stub ([0-9A-Za-z.+~:_-]{1,64}) ####")
_RELEASE = re.compile(r"v?(\d{3})(?:\.\d+)?(?:-[0-9][0-9A-Za-z.+~]*)?", re.ASCII)


def parse_stub_version(magic: bytes) -> str | None:
    """The version text in a ``.sdmagic`` section, or ``None`` when the section is not systemd-stub's."""
    match = _MAGIC.search(magic)
    return match[1].decode("ascii") if match else None


def stub_rules(version: str, *, artifact: str) -> StubRules:
    """The rules for a version text such as ``257.13-1~deb13u1``; E_MEASUREMENT when the version is not known."""
    match = _RELEASE.fullmatch(version)
    rules = next((r for r in STUB_RULES if match and r.version == int(match[1])), None)
    if rules is None:
        known = f"{STUB_RULES[0].version} to {STUB_RULES[-1].version}"
        raise DiagnosticError.of(
            Code.E_MEASUREMENT,
            f"the UKI carries systemd-stub {version}, whose measurements are not known",
            SourceSpan(file=artifact),
            fix=f"build the UKI with a released systemd-stub of version {known}",
        )
    return rules
