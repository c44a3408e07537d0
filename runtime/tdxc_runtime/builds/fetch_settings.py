"""What the fetch step of a build learns of its caller: proxies, registries and the authorities that it trusts.

They travel in two files of the generated sandbox tree, which only the user can read and which mkosi shows to the part
of a script that runs beside the environment. Compilers never see them, and no command line holds them, as an address
may have a password in it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path

from tdxc.diagnostics import Code, DiagnosticError

SETTINGS = Path("etc/tdxc/fetch.env")
AUTHORITIES = Path("etc/tdxc/ca-certificates.crt")
OFFLINE = Path("etc/tdxc/offline")
"""Where fetch scripts look for them, in the sandbox; the last one is there for a bake without the network."""

_NAMES = re.compile(
    r"(?:https?|all|no)_proxy|(?:HTTPS?|ALL|NO)_PROXY"
    r"|GO(?:PROXY|SUMDB|NOSUMDB|PRIVATE|NOPROXY|INSECURE|VCS|AUTH)"
    r"|CARGO_(?:HTTP|NET|REGISTRY|REGISTRIES)_[A-Z0-9_]+"
    r"|NUGET_[A-Za-z0-9_]+"
    r"|GIT_CONFIG_(?:COUNT|KEY_[0-9]+|VALUE_[0-9]+)"
)
_BUNDLES = (Path("/etc/ssl/certs/ca-certificates.crt"), Path("/etc/pki/tls/certs/ca-bundle.crt"))


def fetch_settings(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables of an environment that fetching may see, by name.

    Raises DiagnosticError (E_VALUE) for a value of several lines, which no such setting has.
    """
    found = {name: value for name, value in sorted(environ.items()) if value and _NAMES.fullmatch(name)}
    for name, value in found.items():
        if "\n" in value or "\0" in value:
            raise DiagnosticError.of(
                Code.E_VALUE,
                f"the environment variable {name} has several lines",
                fix="set it to one line, or unset it",
            )
    return found


def write_fetch_settings(sandbox: Path, environ: Mapping[str, str] | None = None, *, offline: bool = False) -> None:
    """Write them into a sandbox tree, readable for us alone; raises as :func:`fetch_settings`."""
    environ = os.environ if environ is None else environ
    lines = [f"{name}={value}\n" for name, value in fetch_settings(environ).items()]
    _write_private(sandbox / SETTINGS, "".join(lines).encode())
    if offline:
        _write_private(sandbox / OFFLINE, b"")
    bundle = host_authorities(environ)
    if bundle is not None:
        _write_private(sandbox / AUTHORITIES, bundle.read_bytes())


def host_authorities(environ: Mapping[str, str]) -> Path | None:
    """The bundle of certificate authorities that programs of this machine use: ``SSL_CERT_FILE``, or the system's."""
    named = environ.get("SSL_CERT_FILE")
    places = [Path(named)] if named else []
    return next((path for path in (*places, *_BUNDLES) if path.is_file()), None)


def _write_private(path: Path, data: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch(mode=0o600)
    path.write_bytes(data)
