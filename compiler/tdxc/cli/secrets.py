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
@click.option("--any-image", is_flag=True, help="Send to whatever trust domain answers, an attacker's own too.")
@click.option("--any-firmware", is_flag=True,
              help="Send although MRTD is open in the manifest: other firmware can pretend any image.")  # fmt: skip
@click.option("--collateral", metavar="FILE", type=_FILE, help="TCB info, QE identity and CRLs, to judge the quote.")
@click.option("--without-quote", is_flag=True, help="Send although the guest cannot prove what it is.")
@click.option("--no-tls", is_flag=True, help="Speak plain HTTP, which whoever carries it can read.")
@format_option("text", "json")
def command(
    action: str, host: str, source: Path | None, token_file: Path | None, manifest_file: Path | None,
    any_image: bool, any_firmware: bool, collateral: Path | None, without_quote: bool, no_tls: bool, output_format: str,
) -> None:  # fmt: skip
    """Send the secrets of a YAML file to the guest at HOST, or say which ones it waits for.

    ACTION is `send` or `status`; HOST may end in `:PORT`, and be `vsock:CID`. Before anything is sent, the guest must
    give a TD quote for this very connection, and the image that runs there must be the one of --manifest. What of the
    quote could not be checked is said: without --collateral neither revocation nor the state of the platform. Secrets
    are never arguments: the file that holds them must be readable for its owner alone.
    """
    from tdxc_runtime.secrets import connect

    name, port = _address(host)
    if action == "send":
        _check_usage(source, manifest_file, any_image=any_image, without_quote=without_quote)
        if any_firmware and not manifest_file:
            raise click.UsageError("--any-firmware is about a manifest: give --manifest too")
    values = _read_secrets(source) if action == "send" and source else {}
    token = _private_text(token_file).strip() if token_file else ""
    guest = connect(name, port, tls=not no_tls)
    if action == "status":
        found = guest.status()
        if not found.is_good:
            raise found.refusal("to say what it waits for")
        _print(found.data, output_format)
        return
    proof = None if without_quote else _proof(guest, manifest_file, collateral, any_firmware=any_firmware)
    proven = _proven(proof, manifest_file, no_tls=no_tls)
    answer = guest.post(values, token)
    if not answer.is_good:
        raise answer.refusal("the secrets")
    _print({**answer.data, **proven}, output_format)


def _check_usage(source: Path | None, manifest_file: Path | None, *, any_image: bool, without_quote: bool) -> None:
    """That is said what to send, and to whom: a quote that is compared with nothing may be an attacker's."""
    if source is None:
        raise click.UsageError("name the file with the secrets: --from FILE")
    if manifest_file and (any_image or without_quote):
        other = "--any-image" if any_image else "--without-quote"
        raise click.UsageError(f"--manifest says what the guest must prove, and {other} that it need not")
    if not (manifest_file or any_image or without_quote):
        raise click.UsageError(
            "say which image the guest must run: --manifest FILE, as `tdxc measure --format json` prints it "
            "(--any-image sends to whatever trust domain answers, an attacker's own too)"
        )


def _proven(proof: QuoteAnswer | None, manifest_file: Path | None, *, no_tls: bool) -> dict[str, object]:
    """What was proven, for who reads the answer; and on standard error what was not, as that is to be seen."""
    if proof is None:
        click.echo("not checked: anything: the guest was not asked what it is", err=True)
        return {"proven": False, "compared": False}
    found = proof.verification
    for skipped in found.not_checked:
        click.echo(f"not checked: {skipped.name}: {skipped.reason}", err=True)
    if manifest_file is None:
        click.echo("not checked: the image: the quote was compared with no manifest (--any-image)", err=True)
    if no_tls:
        click.echo("not checked: the connection: without TLS, whoever carries it could read along (--no-tls)", err=True)
    if found.tcb_status:
        click.echo(f"TCB status: {found.tcb_status}", err=True)
    return {
        "proven": True,
        "compared": manifest_file is not None,
        "not_checked": [skipped.to_json() for skipped in found.not_checked],
        "tcb_status": found.tcb_status,
    }


def _proof(
    guest: GuestConnection, manifest_file: Path | None, collateral: Path | None, *, any_firmware: bool
) -> QuoteAnswer:
    """The guest's proof. Raises E_VERIFY where it has none or the wrong one."""
    from tdxc_runtime.measure.quotes import parse_collateral
    from tdxc_runtime.secrets import prove

    from tdxc.diagnostics import Code, DiagnosticError
    from tdxc.manifests import read_manifest

    manifest = read_manifest(manifest_file) if manifest_file else None
    given = parse_collateral(collateral.read_bytes(), name=str(collateral)) if collateral else None
    proof = prove(guest, manifest=manifest, collateral=given, any_firmware=any_firmware)
    if proof is None:
        raise DiagnosticError.of(
            Code.E_VERIFY,
            "the guest has nothing that makes quotes, so it cannot prove what it is: nothing was sent",
            fix="start it as a trust domain; for a test without one, say --without-quote",
        )
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
    """What the other side says, which may be anybody."""
    import json

    from tdxc_runtime.secrets import as_line, as_list

    if output_format == "json":
        click.echo(json.dumps(data, indent=1))
        return
    fields = data if isinstance(data, dict) else {}
    for secret in (each for each in as_list(fields.get("secrets")) if isinstance(each, dict)):
        state = "received" if secret.get("received") else "required" if secret.get("required") else "optional"
        click.echo(f"{as_line(secret.get('name'))}  {as_line(secret.get('kind'))}  {state}")
    for word in ("accepted", "missing"):
        if names := as_list(fields.get(word)):
            click.echo(f"{word}: {', '.join(map(as_line, names))}")
    click.echo(f"state: {as_line(fields.get('state'))}")
