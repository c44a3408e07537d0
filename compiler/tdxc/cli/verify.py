"""``tdxc verify``: does what a machine showed match what was predicted, and if not, why not."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import click

from tdxc.cli.recipe import format_option

if TYPE_CHECKING:
    from tdxc_runtime.measure.logs import EventLog
    from tdxc_runtime.measure.quotes import Quote, QuoteVerification, TdReport
    from tdxc_runtime.measure.verify import Verification

_FILE = click.Path(path_type=Path, exists=True, dir_okay=False)


@click.command("verify")
@click.option("--ccel", type=_FILE, help="The guest's CC event log (the data area that the CCEL table points at).")
@click.option("--tpm-log", type=_FILE, help="The guest's TPM event log (binary_bios_measurements).")
@click.option("--quote", type=_FILE, help="A TD quote, version 4 or 5, or a TD report.")
@click.option("--collateral", type=_FILE, help="TCB info, QE identity and CRLs, to judge the quote's TCB status.")
@click.option("--pcrs", type=_FILE, help="PCR values, as tpm2_pcrread prints them or as JSON.")
@click.option("--manifest", "manifest_file", type=_FILE, help="What was predicted (`tdxc measure --format json`).")
@format_option("table", "json")
@click.pass_context
def command(
    ctx: click.Context, ccel: Path | None, tpm_log: Path | None, quote: Path | None, collateral: Path | None,
    pcrs: Path | None, manifest_file: Path | None, output_format: str,
) -> None:  # fmt: skip
    """Replay an event log, verify a quote offline, and compare both with each other and with a manifest.

    With a log alone, it is replayed and checked for consistency. Exit status 4 when a check fails.
    """
    from tdxc_runtime.measure.replay import parse_pcr_file
    from tdxc_runtime.measure.verify import Evidence, verify

    from tdxc.manifests import read_manifest

    if ccel and tpm_log:
        raise click.UsageError("--ccel and --tpm-log exclude each other: a machine has one log")
    if not (ccel or tpm_log or quote or pcrs):
        raise click.UsageError("give at least one of --ccel, --tpm-log, --quote and --pcrs")
    parsed, result, report = _read_quote(quote, collateral)
    verdict = verify(
        Evidence(
            log=_read_log(ccel, tpm_log),
            quote=parsed,
            quote_result=result,
            report=report,
            pcrs=parse_pcr_file(pcrs.read_bytes(), name=str(pcrs)) if pcrs else None,
            manifest=read_manifest(manifest_file) if manifest_file else None,
        )
    )
    if output_format == "json":
        import json

        click.echo(json.dumps(verdict.to_json(), indent=1))
    else:
        _print(verdict)
    if not verdict.ok:
        ctx.exit(4)


def _read_log(ccel: Path | None, tpm_log: Path | None) -> EventLog | None:
    from tdxc_runtime.measure.logs import LogKind, parse_event_log

    path = ccel or tpm_log
    if path is None:
        return None
    kind = LogKind.CC if ccel else LogKind.TPM
    return parse_event_log(path.read_bytes(), name=str(path), kind=kind, tolerant=True)


def _read_quote(
    path: Path | None, collateral: Path | None
) -> tuple[Quote | None, QuoteVerification | None, TdReport | None]:
    """The quote with its verification, or the TD report, whichever the file is."""
    if path is None:
        return None, None, None
    import datetime

    from tdxc_runtime.measure.quotes import is_td_report, parse_collateral, parse_quote, parse_td_report, verify_quote

    data = path.read_bytes()
    if is_td_report(data):
        return None, None, parse_td_report(data, name=str(path))
    quote = parse_quote(data, name=str(path))
    given = parse_collateral(collateral.read_bytes(), name=str(collateral)) if collateral else None
    now = datetime.datetime.now(datetime.UTC)
    return quote, verify_quote(quote, name=str(path), at=now, collateral=given), None


def _print(verdict: Verification) -> None:
    for (register, algorithm), value in sorted(verdict.replayed.items()):
        click.echo(f"{register.name:<6} {algorithm.value:<7} {value.hex()}")
    for check in verdict.checks:
        mark = click.style("ok    ", fg="green") if check.ok else click.style("FAILED", fg="red")
        # The causes of all differences follow below, each once.
        click.echo(f"{mark} {check.name}: {check.detail.partition('. Likely cause: ')[0]}")
    for skipped in verdict.not_checked:
        click.echo(f"not checked: {skipped.name}: {skipped.reason}")
    for cause in verdict.causes:
        click.echo(f"likely cause: {cause.sentence}")
    if verdict.tcb_status:
        click.echo(f"TCB status: {verdict.tcb_status}")
