"""Finds the package mirror of the build host in its own apt configuration.

Two file formats, both in sources.list(5): one-line ``*.list`` and deb822 ``*.sources``. Nothing here knows the name of
any archive host: a mirror is what the user says, what the environment says, or what this machine already uses.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
from tdxc.diagnostics import Code, DiagnosticError

MIRROR_VARIABLE = "TDXVM_MIRROR"
"""Environment variable: the mirror to take packages from, where the command line names none."""

_ONE_LINE = re.compile(r"^\s*deb\s+(?:\[(?P<options>[^\]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)\s*(?P<components>.*)$")
_MIRROR_URI = re.compile(r"(?:(?:https?|ftp)://[^\s/]+(?:/\S*)?|(?:file|copy):/\S*)")
_FLOATING = {"debian": ("stable", "oldstable", "testing", "unstable", "sid"), "ubuntu": ("devel",)}


@attrs.frozen(kw_only=True)
class SourceEntry:
    """One archive of the apt configuration: where it is written down (``origin``), and what it says."""

    origin: str
    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""
    trusted: bool = False


@attrs.frozen(kw_only=True)
class Mirror:
    """A package mirror. ``origin`` says where it was found, in words for a log.

    ``security_uri``: the archive of security updates beside it, if known. ``signed_by``: path of its keyring, empty
    for the distribution's own. ``trusted``: the host's configuration says not to check signatures.
    """

    uri: str
    origin: str
    security_uri: str = ""
    signed_by: str = ""
    trusted: bool = False


def find_mirror(
    explicit: str = "",
    *,
    distribution: str = "debian",
    environ: Mapping[str, str] | None = None,
    etc: Path = Path("/etc"),
) -> Mirror | None:
    """The mirror to use: the argument, else ``TDXVM_MIRROR``, else what the host's apt uses for that distribution.

    None when none of them says: the tools' own default applies then. Raises DiagnosticError (E_VALUE) for a mirror
    that is not a URL that apt takes.
    """
    environ = os.environ if environ is None else environ
    if explicit:
        return _named_mirror(explicit, "the mirror option")
    if environ.get(MIRROR_VARIABLE):
        return _named_mirror(environ[MIRROR_VARIABLE], f"the environment variable {MIRROR_VARIABLE}")
    release = os_release(etc)
    if release.get("ID") != distribution:
        return None
    return host_mirror(tuple(read_sources(etc / "apt")), distribution, release.get("VERSION_CODENAME", ""), etc)


def _named_mirror(uri: str, origin: str) -> Mirror:
    if not _MIRROR_URI.fullmatch(uri):
        raise DiagnosticError.of(
            Code.E_VALUE,
            f"{uri!r}, from {origin}, is not the URL of a mirror",
            fix="write it like https://host/debian, or file:/folder",
        )
    return Mirror(uri=uri, origin=origin)


def host_mirror(entries: tuple[SourceEntry, ...], distribution: str, codename: str, etc: Path) -> Mirror | None:
    """Among the host's archives, the one that carries its own release, with the security archive beside it."""
    own = {codename, *_FLOATING.get(distribution, ())} - {""}
    security_uri = next(
        (uri for entry in entries for uri in _usable(entry, etc) if f"{codename}-security" in entry.suites), ""
    )
    for entry in entries:
        if "main" not in entry.components or not own.intersection(entry.suites):
            continue
        for uri in _usable(entry, etc):
            return Mirror(
                uri=uri,
                origin=f"apt's configuration ({entry.origin})",
                security_uri=security_uri,
                signed_by=entry.signed_by,
                trusted=entry.trusted,
            )
    return None


def read_sources(apt: Path) -> Iterator[SourceEntry]:
    """All enabled binary archives of an ``/etc/apt``, in the order in which apt reads its files (apt_preferences)."""
    one_line = apt / "sources.list"
    parts = apt / "sources.list.d"
    files = [one_line] if one_line.is_file() else []
    if parts.is_dir():
        files += sorted(path for path in parts.iterdir() if path.suffix in {".list", ".sources"})
    for path in files:
        try:
            text = path.read_text(encoding="utf-8", errors="replace")
        except OSError:
            continue  # unreadable for us, as it would be for an apt run by us
        yield from parse_deb822(text, str(path)) if path.suffix == ".sources" else parse_one_line(text, str(path))


def parse_one_line(text: str, origin: str) -> Iterator[SourceEntry]:
    """Entries of a ``sources.list``; comments, ``deb-src`` and lines that make no sense are left out."""
    for number, line in enumerate(text.splitlines(), start=1):
        match = _ONE_LINE.match(line.split("#", 1)[0].rstrip())
        if not match:
            continue
        options = dict(word.split("=", 1) for word in (match["options"] or "").split() if "=" in word)
        yield SourceEntry(
            origin=f"{origin}:{number}",
            uris=(match["uri"],),
            suites=(match["suite"],),
            components=tuple(match["components"].split()),
            signed_by=_keyring_path(options.get("signed-by", "")),
            trusted=options.get("trusted", "") == "yes",
        )


def parse_deb822(text: str, origin: str) -> Iterator[SourceEntry]:
    """Entries of a ``.sources`` file; disabled stanzas and those without ``deb`` among their types are left out."""
    for number, fields in _stanzas(text):
        if fields.get("enabled", "yes").strip().lower() in {"no", "false", "0"}:
            continue
        if "deb" not in fields.get("types", "").split():
            continue
        yield SourceEntry(
            origin=f"{origin}:{number}",
            uris=tuple(fields.get("uris", "").split()),
            suites=tuple(fields.get("suites", "").split()),
            components=tuple(fields.get("components", "").split()),
            signed_by=_keyring_path(fields.get("signed-by", "")),
            trusted=fields.get("trusted", "").strip().lower() == "yes",
        )


def os_release(etc: Path = Path("/etc")) -> dict[str, str]:
    """``os-release(5)`` of the host as a mapping; empty when there is none."""
    import shlex

    try:
        text = (etc / "os-release").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return {}
    found: dict[str, str] = {}
    for line in text.splitlines():
        key, equals, value = line.strip().partition("=")
        if equals and not key.startswith("#"):
            try:
                found[key] = "".join(shlex.split(value))
            except ValueError:
                found[key] = value
    return found


def _stanzas(text: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Paragraphs of field: value lines with continuation lines, and the number of the line on which each begins."""
    fields: dict[str, str] = {}
    begin = last = 0
    key = ""
    for last, line in enumerate(text.splitlines(), start=1):
        if line.startswith("#"):
            continue
        if not line.strip():
            if fields:
                yield begin, fields
            fields, key = {}, ""
        elif line[0] in " \t" and key:
            fields[key] += "\n" + line.strip()
        elif ":" in line:
            begin = begin if fields else last
            name, value = line.split(":", 1)
            key = name.strip().lower()
            fields[key] = value.strip()
    if fields:
        yield begin, fields


def _keyring_path(value: str) -> str:
    """``Signed-By`` where it names a file; an embedded key or a fingerprint is of no use outside apt."""
    first = value.strip().split(",")[0].split("\n")[0].strip()
    return first if first.startswith("/") else ""


def _usable(entry: SourceEntry, etc: Path) -> Iterator[str]:
    """The entry's URIs that another apt can use: mirror lists in files are read (apt-transport-mirror(1))."""
    for uri in entry.uris:
        if uri.startswith(("http:", "https:", "file:", "copy:", "ftp:")):
            yield uri
        elif uri.startswith("mirror+file:"):
            listing = Path(uri.removeprefix("mirror+file:"))
            if not listing.exists() and listing.is_relative_to("/etc"):
                listing = etc / listing.relative_to("/etc")
            if listing.is_file():
                words = [line.split("\t")[0].split("#")[0].strip() for line in listing.read_text("utf-8").splitlines()]
                yield from (word.split()[0] for word in words if word)
