"""``tdxc secrets``: hand secrets to a guest, once it has proven what it is."""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tdxc.cli.recipe import format_option

if TYPE_CHECKING:
    from tdxc_runtime.secrets import GuestConnection, QuoteAnswer

ACTIONS = ("send", "status")
DEFAULT_PORT = 8080
_LIMIT_BYTES = 1 << 20
_OTHERS = stat.S_IRWXG | stat.S_IRWXO
_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("secrets")
@click.argument("action", metavar="ACTION", type=click.Choice(ACTIONS))
@click.argument("host", metavar="HOST")
@click.option("--from", "source", metavar="FILE", type=_FILE, help="YAML: names of secrets and their values.")
@click.option("--token-file", metavar="FILE", type=_FILE, help="The one-time token that the guest asks for.")
@click.option("--manifest", "manifest_file", metavar="FILE", type=_FILE,
              help="What the guest's quote must match (`tdxc measure --format json`).")  # fmt: skip
@click.option("--collateral", metavar="FILE", type=_FILE, help="TCB info, QE identity and CRLs, to judge the quote.")
@click.option("--without-quote", is_flag=True, help="Send although the guest cannot prove what it is.")
@click.option("--no-tls", is_flag=True, help="Speak plain HTTP, which whoever carries it can read.")
@format_option("text", "json")
def command(
    action: str, host: str, source: Path | None, token_file: Path | None, manifest_file: Path | None,
    collateral: Path | None, without_quote: bool, no_tls: bool, output_format: str,
) -> None:  # fmt: skip
    """Send the secrets of a YAML file to the guest at HOST, or say which ones it waits for.

    ACTION is `send` or `status`; HOST may end in `:PORT`, and be `vsock:CID`. Before anything is sent, the guest must
    give a TD quote for this very connection; with --manifest the image that runs there must be the one that was
    measured. Secrets are never arguments: the file that holds them must be readable for its owner alone.
    """
    from tdxc_runtime.secrets import connect

    name, port = _address(host)
    if action == "send" and source is None:
        raise click.UsageError("name the file with the secrets: --from FILE")
    values = _read_secrets(source) if action == "send" and source else {}
    token = _private_text(token_file).strip() if token_file else ""
    guest = connect(name, port, tls=not no_tls)
    if action == "status":
        _print(guest.status().data, output_format)
        return
    proof = _proof(guest, manifest_file, collateral, without_quote=without_quote)
    answer = guest.post(values, token)
    if not answer.is_good:
        raise answer.refusal("the secrets")
    _print({**answer.data, "proven": proof is not None, "compared": bool(proof and manifest_file)}, output_format)


def _proof(
    guest: GuestConnection, manifest_file: Path | None, collateral: Path | None, *, without_quote: bool
) -> QuoteAnswer | None:
    """The guest's proof; None where the user goes without."""
    if without_quote:
        if manifest_file:
            raise click.UsageError("--manifest needs the quote that --without-quote goes without")
        return None
    from tdxc_runtime.measure.quotes import parse_collateral
    from tdxc_runtime.secrets import prove

    from tdxc.diagnostics import Code, DiagnosticError
    from tdxc.manifests import read_manifest

    manifest = read_manifest(manifest_file) if manifest_file else None
    given = parse_collateral(collateral.read_bytes(), name=str(collateral)) if collateral else None
    proof = prove(guest, manifest=manifest, collateral=given)
    if proof is None:
        raise DiagnosticError.of(
            Code.E_VERIFY,
            "the guest has nothing that makes quotes, so it cannot prove what it is: nothing was sent",
            fix="start it as a trust domain; for a test without one, say --without-quote",
        )
    if manifest is None:
        registers = "the quote holds, but was compared with nothing: --manifest FILE says what it must be"
        click.echo(registers, err=True)
    return proof


def _address(text: str) -> tuple[str, int]:
    """``HOST``, ``HOST:PORT``, ``[IPv6]:PORT``, ``vsock:CID`` or ``vsock:CID:PORT``."""
    kind = "vsock:" if text.startswith("vsock:") else ""
    rest = text.removeprefix(kind)
    host, colon, port = rest.rpartition(":")
    if rest.startswith("["):
        host, bracket, port = rest[1:].partition("]")
        host, colon, port = host if bracket else "", port[:1], port[1:]
    elif rest.count(":") > 1 or not colon:
        host, colon, port = rest, "", ""
    is_host = _is_number(host, 1 << 32) if kind else bool(host)
    if not is_host or (colon and not _is_number(port, 1 << 16)):
        raise click.UsageError(f"'{text}' is not HOST, HOST:PORT, vsock:CID or vsock:CID:PORT")
    return kind + host, int(port) if colon else DEFAULT_PORT


def _is_number(text: str, end: int) -> bool:
    return text.isascii() and text.isdigit() and 0 < int(text) < end


def _private_text(path: Path) -> str:
    """A file that nobody but its owner may read; its content is in no message. Raises E_SECRET, E_LIMIT, E_ENCODING."""
    from tdxc.diagnostics import Code, DiagnosticError

    with path.open("rb") as file:
        status = os.fstat(file.fileno())
        if status.st_mode & _OTHERS or status.st_uid not in {os.geteuid(), 0}:
            mode = f"{stat.S_IMODE(status.st_mode):04o}"
            message = f"'{path}' holds secrets, and others than you can read or change it (mode {mode})"
            raise DiagnosticError.of(Code.E_SECRET, message, fix=f"chmod 600 {path}")
        data = file.read(_LIMIT_BYTES + 1)
    if len(data) > _LIMIT_BYTES:
        raise DiagnosticError.of(Code.E_LIMIT, f"'{path}' is larger than {_LIMIT_BYTES} bytes")
    try:
        return data.decode()
    except UnicodeDecodeError as fault:
        raise DiagnosticError.of(Code.E_ENCODING, f"'{path}' is not UTF-8 (byte {fault.start})") from None


def _read_secrets(path: Path) -> dict[str, Any]:
    """Names and values. No message shows a line of the file, as those of recipes do."""
    from tdx.yaml.nodes import Mapping, parse_document, to_python

    from tdxc.diagnostics import Code, DiagnosticError

    try:
        document = parse_document(_private_text(path), path.name)
    except DiagnosticError as error:
        found = error.diagnostics[0]
        if found.code in {Code.E_SECRET, Code.E_ENCODING} or not found.span.line:
            raise
        message = f"'{path}' is not YAML that can be read: line {found.span.line}, column {found.span.column}"
        raise DiagnosticError.of(found.code, message) from None
    if not isinstance(document, Mapping):
        raise DiagnosticError.of(Code.E_TYPE, f"'{path}' must be a mapping of names to values")
    values: dict[str, Any] = to_python(document)
    return values


def _print(data: object, output_format: str) -> None:
    import json

    if output_format == "json":
        click.echo(json.dumps(data, indent=1))
        return
    fields = data if isinstance(data, dict) else {}
    for secret in fields.get("secrets", ()):
        state = "received" if secret.get("received") else "required" if secret.get("required") else "optional"
        click.echo(f"{secret.get('name')}  {secret.get('kind')}  {state}")
    for word in ("accepted", "missing"):
        if fields.get(word):
            click.echo(f"{word}: {', '.join(map(str, fields[word]))}")
    click.echo(f"state: {fields.get('state')}")
