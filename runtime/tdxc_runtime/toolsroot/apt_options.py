"""What a mirror needs to be used by another apt than the host's: its network options, and sources written for a suite.

The host's proxies, retries and clock rules (``Acquire::…`` of apt.conf(5)) are respected by every apt that we start.
They may hold a password, so they travel in files that only the user can read, never in arguments.
"""

from __future__ import annotations

import http
import http.client
import os
import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping
from pathlib import Path

from tdxc_runtime.toolsroot.apt_sources import Mirror

DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
"""Where the package ``debian-archive-keyring`` puts its keys, on Debian and Ubuntu alike."""

_TAKEN_OVER = re.compile(
    r"^Acquire::(?:(?:https?|ftp)::(?:Proxy|Timeout|Verify-Peer|Verify-Host|Pipeline-Depth|User-Agent|No-Cache|Dl-Limit)"
    r"|Retries|Check-Valid-Until|Check-Date|Max-ValidTime|ForceIPv[46]|Queue-Mode)(?![\w-])",
    re.IGNORECASE,
)
_OPTION = re.compile(r'^(?P<key>\S+) "(?P<value>.*)";$')
_PROBE_TIMEOUT_S = 10.0
_PROBE_PAUSES_S = (0.5, 2.0)


def host_apt_options() -> dict[str, str]:
    """The network options of the host's apt, as ``apt-config dump`` tells them; empty on a host without apt."""
    if shutil.which("apt-config") is None:
        return {}
    dump = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=False, timeout=30).stdout
    return parse_apt_options(dump)


def host_apt_credentials(etc: Path = Path("/etc")) -> tuple[Path, ...]:
    """The files with the host's logins for archives (apt_auth.conf(5)) that we can read."""
    files = [etc / "apt/auth.conf", *sorted((etc / "apt/auth.conf.d").glob("*.conf"))]
    return tuple(path for path in files if path.is_file() and os.access(path, os.R_OK))


def parse_apt_options(dump: str) -> dict[str, str]:
    """The options of a dump that concern fetching and make sense in another root."""
    matches = (_OPTION.match(line) for line in dump.splitlines())
    return {m["key"]: m["value"] for m in matches if m and m["value"] and _TAKEN_OVER.match(m["key"])}


def render_apt_options(options: Mapping[str, str]) -> str:
    """An apt.conf(5) with these options."""
    return "".join(f'{key} "{value}";\n' for key, value in sorted(options.items()))


def sources_text(
    mirror: Mirror,
    suite: str,
    *,
    components: tuple[str, ...] = ("main",),
    further: tuple[str, ...] = (),
    keyring: str = str(DEBIAN_KEYRING),
    has_suite: Callable[[str, str], bool] | None = None,
) -> str:
    """A deb822 sources file for ``suite``: with its updates and security suites where the mirror has them.

    ``further`` suites of the same archive are always named, so that apt says so when the mirror lacks one.
    ``has_suite(uri, suite)`` tells whether an archive carries a suite; by default it is asked over the network.
    """
    probe = has_suite or _has_suite
    suites = [suite]
    stanzas: list[tuple[str, str]] = []
    if suite not in {"sid", "unstable"}:
        suites += [name for name in (f"{suite}-updates",) if probe(mirror.uri, name)]
        security = mirror.security_uri or _neighbour(mirror.uri)
        if security and probe(security, f"{suite}-security"):
            stanzas.append((security, f"{suite}-security"))
    suites += [name for name in further if name not in suites]
    stanzas.insert(0, (mirror.uri, " ".join(suites)))
    signed = "Trusted: yes\n" if mirror.trusted else f"Signed-By: {mirror.signed_by or keyring}\n"
    return "\n".join(
        f"Types: deb\nURIs: {uri}\nSuites: {names}\nComponents: {' '.join(components)}\n{signed}"
        for uri, names in stanzas
    )


def _neighbour(uri: str) -> str:
    """The security archive as it lies beside a Debian archive on most mirrors; the probe tells whether it is there."""
    stem = uri.rstrip("/")
    return f"{stem}-security" if re.fullmatch(r"https?://[^?#]+/debian", stem) else ""


def _has_suite(uri: str, suite: str) -> bool:
    return fetchable(f"{uri.rstrip('/')}/dists/{suite}/InRelease")


def fetchable(url: str, options: Mapping[str, str] | None = None) -> bool:
    """Whether a URL answers a HEAD request (through the host's apt proxies); ``file:`` and ``copy:`` are on disk.

    Asked again where nobody answered, or a server with a fault of its own: an archive of security updates must not be
    left out because of a moment without a network.
    """
    scheme, _, rest = url.partition(":")
    if scheme in {"file", "copy"}:
        return Path("/" + rest.lstrip("/")).is_file()
    if scheme not in {"http", "https"}:
        return False
    options = host_apt_options() if options is None else options
    proxies = urllib.request.getproxies()
    for name in ("http", "https"):
        proxy = options.get(f"Acquire::{name}::Proxy", "")
        if proxy:
            proxies[name] = proxy
    if proxies.get(scheme) == "DIRECT":
        del proxies[scheme]
    opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))
    for pause_s in _PROBE_PAUSES_S:
        answer = _ask(opener, url)
        if answer is not None:
            return answer
        time.sleep(pause_s)
    return bool(_ask(opener, url))


def _ask(opener: urllib.request.OpenerDirector, url: str) -> bool | None:
    """Whether a server has a URL; None when that cannot be known now."""
    try:
        request = urllib.request.Request(url, method="HEAD")  # noqa: S310 - fetchable() has checked the scheme
        with opener.open(request, timeout=_PROBE_TIMEOUT_S) as answer:
            return bool(answer.status == http.HTTPStatus.OK)
    except urllib.error.HTTPError as fault:
        passing = fault.code >= http.HTTPStatus.INTERNAL_SERVER_ERROR or fault.code == http.HTTPStatus.TOO_MANY_REQUESTS
        return None if passing else False
    except (OSError, http.client.HTTPException):
        return None
    except ValueError:
        return False
