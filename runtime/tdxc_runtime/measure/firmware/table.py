"""A firmware file as a table of sections and facts, for people and for tools."""

from __future__ import annotations

from .load import Firmware

SECTION_COLUMNS = ("section", "file offset", "file size", "guest address", "memory size", "measured", "pages")


def section_rows(firmware: Firmware) -> tuple[tuple[str, ...], ...]:
    """One row per section, in the order of the metadata, under :data:`SECTION_COLUMNS`."""
    return tuple(
        (
            section.type.title,
            f"{section.offset:#x}" if section.raw_size else "",
            f"{section.raw_size:#x}" if section.raw_size else "",
            f"{section.address:#x}",
            f"{section.memory_size:#x}",
            "content" if section.measured else "",
            "added" if section.added_at_build else "later",
        )
        for section in firmware.tdvf.sections
    )


def firmware_to_json(firmware: Firmware) -> dict[str, object]:
    """Plain data: ``file``, ``size``, ``sha256``, ``mrtd`` per page order, ``sections`` and ``traits`` or null."""
    traits = firmware.traits
    return {
        "file": firmware.name,
        "size": len(firmware.data),
        "sha256": firmware.sha256,
        "mrtd": {order.value: value.hex() for order, value in firmware.mrtd.items()},
        "sections": [
            {
                "type": section.type.title,
                "offset": section.offset,
                "raw_size": section.raw_size,
                "address": section.address,
                "memory_size": section.memory_size,
                "attributes": section.attributes,
            }
            for section in firmware.tdvf.sections
        ],
        "variables": sorted(variable.name for variable in firmware.variables),
        "secure_boot": firmware.secure_boot,
        "traits": None
        if traits is None
        else {
            "version": traits.version,
            "oldest_release": traits.oldest,
            "newest_release": traits.newest,
            "measures_fw_cfg": traits.measures_fw_cfg,
            "measures_smbios": traits.measures_smbios,
            "secure_boot_built_in": traits.secure_boot_built_in,
        },
    }
