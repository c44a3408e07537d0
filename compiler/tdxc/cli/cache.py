"""``tdxc cache``: what the caches of source builds hold, why something in them was built, and cleaning them."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from tdxc.cli.recipe import format_option

if TYPE_CHECKING:
    from tdxc_runtime.builds import BuildStore, CacheEntry, Download, DownloadStore

ACTIONS = ("ls", "gc", "why")
_DAY_S = 86400.0
_SHOWN_KEY = 12
_SIZE = re.compile(r"(\d+(?:\.\d+)?)([KMGT]?)", re.IGNORECASE)


@click.command("cache")
@click.argument("action", metavar="ACTION", type=click.Choice(ACTIONS))
@click.argument("build", metavar="[BUILD]", default="")
@click.option("--unused", metavar="DAYS", type=click.FloatRange(min=0), default=30, show_default=True,
              help="With `gc`: remove what no bake has used for so long.")  # fmt: skip
@click.option("--max-size", metavar="SIZE", default="", help="With `gc`: then the longest unused above this, e.g. 2G.")
@format_option("text", "json")
def command(action: str, build: str, unused: float, max_size: str, output_format: str) -> None:
    """List, clean or explain the cache of source builds, and of what they have downloaded.

    ACTION is `ls`, which lists what is in it (of BUILD, where one is named); `gc`, which reads all and removes what is
    damaged or unused; or `why`, which says why BUILD, a name or the beginning of a key, was built the last time: which
    input had changed since the time before.
    """
    from tdxc_runtime.builds import DOWNLOADS_FOLDER, STORE_FOLDER, BuildStore, DownloadStore
    from tdxc_runtime.toolsroot import cache_folder

    if action == "gc" and build:
        raise click.UsageError("`tdxc cache gc` cleans all builds: leave the name out")
    if action != "gc" and (max_size or _is_given("unused")):
        raise click.UsageError(f"--unused and --max-size go with `tdxc cache gc`, not with `{action}`")
    most = _size(max_size)
    store = BuildStore(cache_folder() / STORE_FOLDER)
    downloads = DownloadStore(cache_folder() / DOWNLOADS_FOLDER)
    if action == "why":
        _explain(store, _chosen(store, build), output_format)
    elif action == "gc":
        damaged = store.remove_damaged()
        removed, files = _collect(store, downloads, unused * _DAY_S, most)
        _print_content(removed, files, damaged, output_format, f"{len(removed)} removed")
    else:
        entries = tuple(entry for entry in store.entries() if build in {"", entry.build})
        files = () if build else downloads.files()
        damaged = () if build else store.damaged()
        _print_content(entries, files, damaged, output_format, f"{len(entries)} in {store.folder}")


def _is_given(option: str) -> bool:
    """Whether an option stands on the command line."""
    from click.core import ParameterSource

    return click.get_current_context().get_parameter_source(option) is not ParameterSource.DEFAULT


def _collect(
    store: BuildStore, downloads: DownloadStore, unused_s: float, total_bytes: int | None
) -> tuple[tuple[CacheEntry, ...], tuple[Download, ...]]:
    """Clean both. What builds have made goes last: it takes longer to have again than a download."""
    removed = store.collect(unused_s=unused_s, total_bytes=total_bytes)
    if total_bytes is not None:
        total_bytes -= sum(entry.size_bytes for entry in store.entries())
    return removed, downloads.collect(unused_s=unused_s, total_bytes=total_bytes)


def _chosen(store: BuildStore, build: str) -> CacheEntry:
    """The newest entry of that name, or else one with a key that begins so."""
    from tdxc.diagnostics import Code, DiagnosticError, nearest

    if not build:
        raise click.UsageError("name a build: `tdxc cache why BUILD`")
    entries = store.entries()
    found = store.newest(build) or next((entry for entry in entries if entry.key.startswith(build)), None)
    if found:
        return found
    names = sorted({entry.build for entry in entries})
    close = nearest(build, names)
    raise DiagnosticError.of(
        Code.E_REFERENCE,
        f"no build '{build}' is in the cache" + (f": it has {', '.join(names)}" if names else ", which is empty"),
        fix=f"did you mean '{close}'?" if close else "`tdxc cache ls` lists all",
    )


def _explain(store: BuildStore, entry: CacheEntry, output_format: str) -> None:
    from tdxc_runtime.builds import CorruptEntryError, changed_inputs

    before = None
    if entry.previous:
        try:
            before = store.find(entry.previous)
        except CorruptEntryError:
            before = None
    changes = changed_inputs(before.inputs, entry.inputs) if before else ()
    reason = entry.reason or _reason(entry, before)
    if output_format == "json":
        rows = [{"input": c.name, "before": c.before or None, "after": c.after or None} for c in changes]
        _print_json({**_data(entry), "why": reason, "previous": entry.previous or None, "changes": rows})
        return
    click.echo(f"{entry.build} ({entry.key[:_SHOWN_KEY]}), {_time(entry.made)}: {reason}")
    for change in changes:
        click.echo(f"  {change}")


def _reason(entry: CacheEntry, before: CacheEntry | None) -> str:
    if not entry.previous:
        return "nothing of that name was in the cache"
    if before is None:
        return (
            f"what it was before ({entry.previous[:_SHOWN_KEY]}) is no longer in the cache, so nothing can be compared"
        )
    return f"built again, as these inputs had changed since {before.key[:_SHOWN_KEY]}"


def _print_content(
    entries: tuple[CacheEntry, ...],
    downloads: tuple[Download, ...],
    damaged: tuple[str, ...],
    output_format: str,
    summary: str,
) -> None:
    size = sum(download.size_bytes for download in downloads)
    if output_format == "json":
        counted = {"files": len(downloads), "size": size}
        _print_json({"builds": [_data(entry) for entry in entries], "damaged": list(damaged), "downloads": counted})
        return
    width = max((len(entry.build) for entry in entries), default=0)
    for entry in entries:
        what = f"{entry.key[:_SHOWN_KEY]}  {entry.build.ljust(width)}  {entry.language:<6}"
        cost = f"{entry.size_bytes / 1e6:8.1f} MB  {entry.seconds:6.1f} s"
        network = "  with network" if entry.network else ""
        click.echo(f"{what}  {cost}  made {_time(entry.made)}  used {_time(entry.used)}{network}")
    for key in damaged:
        click.echo(f"{key[:_SHOWN_KEY]}  damaged, of no use to any build")
    click.echo(f"{summary}, {sum(entry.size_bytes for entry in entries) / 1e6:.1f} MB")
    if downloads:
        click.echo(f"downloads: {len(downloads)} file{'s' if len(downloads) > 1 else ''}, {size / 1e6:.1f} MB")


def _data(entry: CacheEntry) -> dict[str, object]:
    return {
        "key": entry.key,
        "build": entry.build,
        "language": entry.language,
        "network": entry.network,
        "made": _time(entry.made),
        "used": _time(entry.used),
        "seconds": entry.seconds,
        "size": entry.size_bytes,
        "sha256": entry.sha256,
    }


def _print_json(data: object) -> None:
    import json

    click.echo(json.dumps(data, indent=2, ensure_ascii=False))


def _time(seconds: float) -> str:
    from datetime import UTC, datetime

    return f"{datetime.fromtimestamp(seconds, UTC):%Y-%m-%dT%H:%M:%SZ}"


def _size(text: str) -> int | None:
    """``500M`` or ``2G`` (powers of 1024) in bytes; None for nothing."""
    if not text:
        return None
    match = _SIZE.fullmatch(text)
    if not match:
        raise click.UsageError(f"{text!r} is not a size: write it like 500M or 2G")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))
