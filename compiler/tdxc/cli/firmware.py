"""``tdxc show firmware FILE``: what a TDX firmware file holds, and the MRTD that it gives."""

from __future__ import annotations

from pathlib import Path

import click


def show_firmware(path: Path, output_format: str) -> None:
    """Print the sections, facts and MRTD of a firmware file; raises E_FIRMWARE for what is none."""
    from tdxc_runtime.measure.firmware.load import firmware_warnings, read_firmware
    from tdxc_runtime.measure.firmware.table import SECTION_COLUMNS, firmware_to_json, section_rows

    from tdxc.cli.report import report

    firmware = read_firmware(path)
    data = firmware_to_json(firmware)
    if output_format == "json":
        import json

        click.echo(json.dumps(data, indent=2))
    else:
        rows = (SECTION_COLUMNS, *section_rows(firmware))
        widths = [max(len(row[column]) for row in rows) for column in range(len(SECTION_COLUMNS))]
        for row in rows:
            click.echo("  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip())
        for order, value in firmware_mrtd(data).items():
            click.echo(f"MRTD {order}: {value}")
    report(firmware_warnings(firmware))


def firmware_mrtd(data: dict[str, object]) -> dict[str, str]:
    """The MRTD for each page order, from the firmware's JSON data."""
    found = data["mrtd"]
    return {str(order): str(value) for order, value in found.items()} if isinstance(found, dict) else {}
