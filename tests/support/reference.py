"""The generated parts of docs/cli.md and docs/yaml.md: from the commands and from the schema, so that they cannot lie.

    python -m support.reference     (in tests/) rewrites both pages

A page holds its generated part between two comments; everything around them is written by hand.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

DOCS = Path(__file__).resolve().parents[2] / "docs"
BEGIN = "<!-- generated: python -m support.reference -->"
END = "<!-- end of the generated part -->"


def cli_reference() -> str:
    """Every command with its help, arguments and options."""
    from tdxc.cli.main import COMMANDS, tdxc

    parts = []
    for name in COMMANDS:
        command = tdxc.get_command(click.Context(tdxc), name)
        assert command is not None
        parts.append("\n".join(_command(name, command)))
    return "\n\n".join(parts)


def _command(name: str, command: click.Command) -> Iterator[str]:
    context = click.Context(command, info_name=name)
    arguments = [p.make_metavar(context) for p in command.params if isinstance(p, click.Argument)]
    yield f"### tdxc {name}"
    yield ""
    yield f"    tdxc {' '.join([name, *arguments, '[OPTIONS]'])}"
    yield ""
    paragraphs = (command.help or "").replace("\b", "").split("\n\n")
    yield "\n\n".join(" ".join(_plain(paragraph).split()) for paragraph in paragraphs)
    options = [p for p in command.params if isinstance(p, click.Option)]
    if options:
        yield ""
        yield "| option | meaning |"
        yield "|---|---|"
        yield from (_option(option, context) for option in options)


def _option(option: click.Option, context: click.Context) -> str:
    record = option.get_help_record(context)
    assert record is not None
    flags, meaning = record
    return f"| `{_cell(flags)}` | {_cell(_plain(meaning))} |"


def _plain(text: str) -> str:
    """Placeholders in angle brackets or braces are no markup."""
    return text.replace("<", "&lt;")


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def yaml_reference() -> str:
    """Every key of a YAML recipe: one table per top-level key that has keys of its own, behind a table of all."""
    from tdx.yaml.schema import json_schema

    schema = json_schema()
    properties: dict[str, Any] = schema["properties"]
    lines = ["| key | value | meaning |", "|---|---|---|"]
    lines += [f"| `{key}` | {_kind(value)} | {_cell(value['description'])} |" for key, value in properties.items()]
    for key, value in properties.items():
        rows = list(_rows(value))
        if rows:
            lines += ["", f"### {key}", "", "| key | value | meaning |", "|---|---|---|", *rows]
    return "\n".join(lines)


def _rows(schema: dict[str, Any], prefix: str = "") -> Iterator[str]:
    """The keys of the mappings in a value, those of a mapping in a mapping as ``outer.inner``."""
    for choice in (*schema.get("anyOf", ()), *([schema["items"]] if "items" in schema else [])):
        yield from _rows(choice, prefix)
    required = schema.get("required", ())
    for key, value in schema.get("properties", {}).items():
        description = value.get("description", "")
        if description:
            needed = " Required." if key in required else ""
            yield f"| `{prefix}{key}` | {_kind(value)} | {_cell(description)}{needed} |"
        yield from _rows(value, f"{prefix}{key}.")


def _kind(schema: dict[str, Any]) -> str:
    """A value's form in words."""
    if "enum" in schema:
        return " or ".join(f"`{value}`" for value in schema["enum"])
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_kind(choice) for choice in schema["anyOf"]))
    names = schema.get("type", "object" if "properties" in schema or "$ref" in schema else "text")
    kinds = [name for name in (names if isinstance(names, list) else [names]) if name != "null" or names == "null"]
    words = {"string": "text", "boolean": "true or false", "object": "mapping", "null": "null"}
    if kinds == ["array"]:
        return f"list of {_kind(schema['items'])}"
    return " or ".join(words.get(kind, kind) for kind in kinds)


PAGES = {"cli.md": cli_reference, "yaml.md": yaml_reference}


def expected(page: str) -> str:
    """The page as it should be: its own words around a fresh generated part."""
    text = (DOCS / page).read_text(encoding="utf-8")
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}\n\n{PAGES[page]()}\n\n{END}{after}"


if __name__ == "__main__":
    for page in PAGES:
        (DOCS / page).write_text(expected(page), encoding="utf-8")
