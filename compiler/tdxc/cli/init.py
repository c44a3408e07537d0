"""``tdxc init``: a first recipe that compiles, bakes and boots as it is."""

from __future__ import annotations

import os
from pathlib import Path

import click

from tdxc.cli.recipe import format_option

_PYTHON = '''"""A first image: one package, one file, one service that runs as its own user."""

from tdx import Image

img = Image("{name}", base="debian/trixie")

img.install("ca-certificates")
img.file("/etc/motd", content="Welcome to {name}.\\n")

img.user("hello", system=True)
img.file("/usr/bin/hello", content="#!/bin/sh\\necho hello from {name}\\n", mode=0o755)
img.service(
    "hello",
    exec="/usr/bin/hello",
    type="oneshot",
    user="hello",
    extra_unit={"Service": {"StandardOutput": "journal+console"}},
)

img.network(firewall_rules=["ACCEPT tcp 8080", "DROP all"])
img.output_targets("qemu")
'''

_YAML = """# A first image: one package, one file, one service that runs as its own user.
name: {name}
base: debian/trixie

install: [ca-certificates]
files:
  - dest: /etc/motd
    content: "Welcome to {name}.\\n"
  - dest: /usr/bin/hello
    content: "#!/bin/sh\\necho hello from {name}\\n"
    mode: 0o755

users:
  - name: hello
    system: true
services:
  - name: hello
    exec: /usr/bin/hello
    type: oneshot
    user: hello
    extra_unit:
      Service:
        StandardOutput: journal+console

network:
  firewall_rules: [ACCEPT tcp 8080, DROP all]
output_targets: [qemu]
"""


@click.command("init")
@click.argument("folder", type=click.Path(path_type=Path), default=Path())
@click.option("--name", help="The image's name; the folder's name by default.")
@click.option("--yaml", "as_yaml", is_flag=True, help="Write recipe.yaml rather than recipe.py.")
@format_option("text", "json")
def command(folder: Path, name: str | None, as_yaml: bool, output_format: str) -> None:
    """Write a first recipe into FOLDER (the current one by default); never overwrites a file."""
    import re

    from tdxc.diagnostics import Code, DiagnosticError
    from tdxc.quoting import shell_word
    from tdxc.writer import write_whole

    image = (
        name if name is not None else re.sub(r"[^a-z0-9]+", "-", folder.resolve().name.lower()).strip("-") or "image"
    )
    if not re.fullmatch(r"[a-z0-9][a-z0-9.-]*", image):
        raise DiagnosticError.of(Code.E_VALUE, f"'{image}' is not an image name", fix="use a-z, 0-9, '-' and '.'")
    path = folder / ("recipe.yaml" if as_yaml else "recipe.py")
    text = (_YAML if as_yaml else _PYTHON).replace("{name}", image)
    if os.path.lexists(path):
        raise DiagnosticError.of(Code.E_OUTPUT, f"'{path}' exists", fix="choose another folder")
    try:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(path, text)
    except OSError as error:
        raise DiagnosticError.of(Code.E_OUTPUT, f"cannot write '{path}': {error.strerror}") from error
    word = shell_word(str(path))
    following = [f"tdxc check {word}", f"tdxc compile {word} -o out/", f"tdxc build {word}"]
    if output_format == "json":
        import json

        click.echo(json.dumps({"recipe": str(path), "next": following}, indent=2, ensure_ascii=False))
    else:
        click.echo("\n  ".join((f"wrote {path}", *following)))
