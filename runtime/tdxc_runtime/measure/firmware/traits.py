"""Which edk2 rules a firmware obeys, read off the modules and texts inside it.

A firmware file has no reliable version number, but the code that makes a measurement leaves traces: a module, a text.
Each trace bounds the release that the firmware can stem from; where a rule's boundary lies within those bounds, the
prediction holds both outcomes. Releases are numbers such as ``202505`` for edk2-stable202505.

Sources: edk2 commits 935343cf16 (ACPI blobs measured, 202302), 82c1aa87f9
(where the PCI configuration window lies, 202305), efaf8931bb (the separators of a TD, 202411), 20df7c42bd
(named kernel blobs, 202502), 2eac71a1ee (fw_cfg items, 202505), cd76265f1a (SMBIOS, 202505), 9d9e3a2ba8 and d433b4c8e4
(boot options of the firmware's own menus, 202505), a2ac0fea49 (``initrd=`` first, 202508), 03a07cb0f5 and f272dd7ea3
(which of a TD build's volumes hold the menus, 202605 and 202608).
"""

from __future__ import annotations

import re
import uuid
from collections.abc import Iterable, Iterator, Sequence

import attrs

from .texts import SMBIOS_PLATFORM, FirmwareTexts, find_texts
from .volumes import Volume, find_volumes, module_image

UI_APP = uuid.UUID("462caa21-7614-4503-836e-8ab6f4662331")
BOOT_MANAGER_MENU = uuid.UUID("eec25bdc-67f2-4d95-b1d5-f81b2039d11d")
SHELL = uuid.UUID("7c04a583-9e3e-4f1c-ad65-e05268d0b4d1")
TD_MEASUREMENT = uuid.UUID("f062221e-c607-44c2-b0b4-c3886331d351")
SMBIOS_MEASUREMENT = uuid.UUID("d27fed59-abb4-4fed-bead-2a878c7e4a7e")
SECURE_BOOT_CONFIG = uuid.UUID("f0e6a44f-7195-41c3-ac64-54f202cd0a21")
SMM_ENTRY = uuid.UUID("2fa2a6da-11d5-4dc3-999a-749648b03c56")
DXE_VOLUME = uuid.UUID("7cb8bdc9-f8eb-4f34-aaea-3ee4af6516a1")
NON_TD_VOLUME = uuid.UUID("ae047c6d-bce9-426c-ae03-a68e3b8a0488")
"""The volume of TD builds that a TD does not look into: what is only of use to other machines."""

FIRST_MEASURING_ACPI = 202302
FIRST_WITH_HIGH_MMCONFIG = 202305
FIRST_WITH_NEW_SEPARATORS = 202411
FIRST_WITH_NAMED_BLOBS = 202502
FIRST_MEASURING_FW_CFG = 202505
FIRST_WITH_INITRD_FIRST = 202508
UNRELEASED = 999999

_VERSION_TEXTS = (re.compile(r"(20[2-9]\d)\.(\d\d)(?![0-9])"), re.compile(r"edk2-(?:stable)?(20[2-9]\d)(\d\d)"))
_UTF16_TEXT = re.compile(rb"(?:[ -~]\0){7,48}")
_VERSION_HINT = re.compile(rb"(?:2\0000\000[2-9]\0\d\0\.\0\d\0\d\0|e\0d\0k\0002\0-\0)")


@attrs.frozen(kw_only=True)
class FirmwareTraits:
    """What matters to measurement about a firmware.

    ``oldest`` and ``newest`` bound the edk2 release (inclusive). ``version`` is the text that the firmware reports to
    SMBIOS, if one was found; ``texts`` are all that it reports there, as far as they can be told. ``menu_volume`` and
    ``setup_volume`` name the volume of the boot manager's menu and of the setup application where a TD finds them;
    ``shell_volume`` likewise. ``has_menu_app``: the build has the menu as an application of its own, whether or not a
    TD finds it.
    """

    oldest: int
    newest: int
    version: str = ""
    measures_fw_cfg: bool = False
    measures_smbios: bool = False
    measures_td: bool = False
    secure_boot_built_in: bool = False
    needs_smm: bool = False
    has_menu_app: bool = False
    menu_volume: uuid.UUID | None = None
    setup_volume: uuid.UUID | None = None
    shell_volume: uuid.UUID | None = None
    texts: FirmwareTexts | None = None

    def at_least(self, release: int) -> bool | None:
        """Whether the firmware is of that release or newer; ``None`` when its bounds leave that open."""
        if self.oldest >= release:
            return True
        return False if self.newest < release else None


def read_traits(firmware: bytes, *, td: bool = True) -> FirmwareTraits | None:
    """Inspect a firmware file; ``None`` when no DXE volume of OVMF's can be found in it.

    ``td`` is whether the firmware will run in a TD, where it does not look into the volume for other machines.
    """
    volumes = find_volumes(firmware)
    main = next((volume for volume in volumes if volume.name == DXE_VOLUME), None)
    if main is None:
        return None
    everything = frozenset(guid for volume in volumes for guid in volume.files)
    searched = [volume for volume in volumes if volume.name in {DXE_VOLUME, *(() if td else (NON_TD_VOLUME,))}]
    fw_cfg = any(b"QEMU FW CFG" in volume.data for volume in volumes)
    initrd_first = b"initrd=initrd " in main.data
    version = _find_version(volumes)
    menu = BOOT_MANAGER_MENU in everything
    oldest, newest = _bounds(version, new_menu=menu or fw_cfg, initrd_first=initrd_first)
    return FirmwareTraits(
        oldest=oldest,
        newest=newest,
        version=version,
        measures_fw_cfg=fw_cfg,
        measures_smbios=SMBIOS_MEASUREMENT in main.files,
        measures_td=TD_MEASUREMENT in main.files,
        secure_boot_built_in=SECURE_BOOT_CONFIG in everything,
        needs_smm=SMM_ENTRY in everything,
        has_menu_app=menu,
        menu_volume=_volume_of(BOOT_MANAGER_MENU, searched),
        setup_volume=_volume_of(UI_APP, searched),
        shell_volume=_volume_of(SHELL, searched),
        texts=find_texts(module_image(main, SMBIOS_PLATFORM) or b"", main.data, version),
    )


def _volume_of(file: uuid.UUID, volumes: Iterable[Volume]) -> uuid.UUID | None:
    return next((volume.name for volume in volumes if file in volume.files), None)


def _bounds(version: str, *, new_menu: bool, initrd_first: bool) -> tuple[int, int]:
    """The oldest and the newest release that fit the traces; a version text decides, where it fits them too."""
    oldest, newest = FIRST_MEASURING_ACPI, UNRELEASED
    if initrd_first:
        oldest = FIRST_WITH_INITRD_FIRST
    elif new_menu:
        oldest, newest = FIRST_MEASURING_FW_CFG, FIRST_WITH_INITRD_FIRST - 1
    else:
        newest = FIRST_MEASURING_FW_CFG - 1
    release = parse_release(version)
    if release and oldest <= release <= newest:
        return release, release
    if release and release < oldest:
        return (oldest, newest) if initrd_first or new_menu else (release, release)
    return oldest, newest


def parse_release(text: str) -> int:
    """``202505`` for ``2025.05-1``, ``edk2-stable202505`` or ``edk2-20250523-1.fc42``; 0 when there is no release."""
    for pattern in _VERSION_TEXTS:
        if match := pattern.search(text):
            return int(match[1]) * 100 + int(match[2])
    return 0


def _find_version(volumes: Sequence[Volume]) -> str:
    """The first UTF-16 text that looks like a version of OVMF."""
    for text in _utf16_texts(volumes):
        if parse_release(text):
            return text
    return ""


def _utf16_texts(volumes: Sequence[Volume]) -> Iterator[str]:
    for volume in volumes:
        for hint in _VERSION_HINT.finditer(volume.data):
            if match := _UTF16_TEXT.match(volume.data, hint.start()):
                yield match[0].decode("utf-16-le")
