"""mkosi.conf as text: settings grouped by section, in mkosi's own order of sections.

mkosi reads a value that spans lines by their indentation, and cuts every line at ``#``; values come here already
checked and quoted (``tdxc.quoting``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from tdxc_emitters.mkosi.project import MkosiSetting

SECTIONS = ("Config", "Distribution", "Output", "Content", "Validation", "Build", "Runtime")
_INDENT = "        "


def render_settings(comment: str, settings: Iterable[MkosiSetting]) -> str:
    """The file: one comment line, then each section that has settings."""
    found = tuple(settings)
    lines = [f"# {comment}"]
    for section in SECTIONS:
        own = [setting for setting in found if setting.section == section]
        if own:
            lines += ["", f"[{section}]"]
            for setting in own:
                lines.extend(_lines(setting))
    return "\n".join(lines) + "\n"


def _lines(setting: MkosiSetting) -> Iterator[str]:
    if setting.reset:
        yield f"{setting.key}="
    if not setting.is_list:
        yield f"{setting.key}={setting.values[0]}"
    elif setting.values:
        yield f"{setting.key}="
        for value in setting.values:
            yield f"{_INDENT}{value}"
