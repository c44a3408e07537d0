"""``tdxc schema``: the JSON Schema of YAML recipes, for editors."""

from __future__ import annotations

import click


@click.command("schema")
def command() -> None:
    """Print the JSON Schema (draft 2020-12) that YAML recipes follow."""
    import json

    from tdx.yaml.schema import json_schema

    click.echo(json.dumps(json_schema(), indent=2, ensure_ascii=False))
