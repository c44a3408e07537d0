"""What a firmware says of itself: the three texts of its SMBIOS structure of type 0, read off the module that makes it.

The module (edk2 ``OvmfPkg/SmbiosPlatformDxe``) holds them as UTF-16 constants that the build fills in, next to what it
says where the build leaves one empty ("unknown", and 02/02/2022 for the date).
"""

from __future__ import annotations

import re
import uuid

import attrs

SMBIOS_PLATFORM = uuid.UUID("4110465d-5ff3-4f4b-b580-24ed0d06747a")
_TEXT = re.compile(rb"((?:[ -~]\0){3,64})\0\0")
_DATE = re.compile(r"\d\d/\d\d/\d{4}$", re.ASCII)
_UNKNOWN, _DEFAULT_DATE = "unknown", "02/02/2022"
_STRAY = 3
"""At most so many characters before a text may be the end of other data that happens to look like one."""


@attrs.frozen(kw_only=True)
class FirmwareTexts:
    """What a firmware reports as its vendor, its version and the date of its release."""

    vendor: str
    version: str
    release_date: str


def find_texts(module: bytes, volume: bytes, version: str) -> FirmwareTexts | None:
    """The texts in the module's PE image; ``None`` when it cannot be told which is which.

    ``volume`` is the whole volume that the module is in, whose core names the vendor, too. ``version`` is what is known
    of the firmware's version from elsewhere, empty when nothing is.
    """
    texts = [match[1].decode("utf-16-le") for match in _TEXT.finditer(module)]
    for literal in (_UNKNOWN, _DEFAULT_DATE):
        if literal not in texts:
            return None
        texts.remove(literal)
    dates = [text for text in texts if _DATE.search(text)]
    versions = [text for text in texts if version and text.endswith(version)]
    vendors = [text for text in texts if text not in {*dates, *versions}]
    vendor = _known_elsewhere(vendors[0], volume) if len(vendors) == 1 else ""
    if not vendor or len(dates) > 1 or len(versions) > 1:
        return None
    date = _DATE.search(dates[0]) if dates else None
    return FirmwareTexts(
        vendor=vendor,
        version=version if versions else _UNKNOWN,
        release_date=date[0] if date else _DEFAULT_DATE,
    )


def _known_elsewhere(text: str, volume: bytes) -> str:
    """The text, without stray characters before it, as it also stands in another place; empty when it does not."""
    candidates = (text[stray:] for stray in range(min(_STRAY + 1, len(text))))
    return next((c for c in candidates if volume.count(c.encode("utf-16-le") + b"\0\0") > 1), "")
