"""What the fetch step learns of its caller: exactly the settings of networks and registries, in private files."""

from __future__ import annotations

from pathlib import Path

import pytest
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.builds.fetch_settings import (
    AUTHORITIES,
    SETTINGS,
    fetch_settings,
    host_authorities,
    write_fetch_settings,
)

TAKEN = {
    "http_proxy": "http://p:3128",
    "HTTPS_PROXY": "http://user:secret@p:3128",
    "ALL_PROXY": "socks5://p",
    "no_proxy": "localhost",
    "GOPROXY": "https://modules.example,direct",
    "GOSUMDB": "off",
    "GOPRIVATE": "example.com/*",
    "CARGO_HTTP_CAINFO": "/ca.crt",
    "CARGO_NET_GIT_FETCH_WITH_CLI": "true",
    "CARGO_REGISTRIES_OURS_INDEX": "sparse+https://crates.example/",
    "CARGO_REGISTRIES_OURS_TOKEN": "t",
    "CARGO_REGISTRY_DEFAULT": "ours",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "http.https://git.example/.extraHeader",
    "GIT_CONFIG_VALUE_0": "Authorization: Bearer t",
    "NUGET_PACKAGES": "/p",
    "NUGET_CREDENTIALPROVIDER_SESSIONTOKENCACHE_ENABLED": "true",
}
LEFT = {
    "HOME": "/root",
    "PATH": "/bin",
    "GOFLAGS": "-mod=mod",
    "GOPATH": "/go",
    "GIT_CONFIG_GLOBAL": "/root/.gitconfig",
    "GIT_SSH_COMMAND": "ssh -i key",
    "CARGO_HOME": "/cargo",
    "CARGO_BUILD_RUSTFLAGS": "-C opt-level=0",
    "RUSTFLAGS": "-g",
    "AWS_SECRET_ACCESS_KEY": "s",
    "MY_HTTP_PROXY": "x",
    "HTTP_PROXY_X": "x",
    "GOPROXYX": "x",
    "CC": "clang",
}


def test_settings_of_networks_and_registries_are_taken_and_nothing_else() -> None:
    assert fetch_settings({**TAKEN, **LEFT}) == TAKEN


def test_empty_settings_are_none() -> None:
    assert fetch_settings({"GOPROXY": ""}) == {}


def test_a_setting_of_several_lines_is_refused_without_showing_it() -> None:
    with pytest.raises(DiagnosticError) as raised:
        fetch_settings({"HTTP_PROXY": "http://user:secret@p\nGOFLAGS=-x"})
    found = raised.value.diagnostics[0]
    assert found.code is Code.E_VALUE
    assert "secret" not in f"{found.message}{found.fix}"


def test_the_files_are_private_and_hold_one_setting_a_line(tmp_path: Path) -> None:
    bundle = tmp_path / "bundle.crt"
    bundle.write_bytes(b"certificates")
    write_fetch_settings(tmp_path / "sandbox", {**TAKEN, **LEFT, "SSL_CERT_FILE": str(bundle)})
    settings, authorities = tmp_path / "sandbox" / SETTINGS, tmp_path / "sandbox" / AUTHORITIES
    assert dict(line.split("=", 1) for line in settings.read_text().splitlines()) == TAKEN
    assert authorities.read_bytes() == b"certificates"
    assert {path.stat().st_mode & 0o777 for path in (settings, authorities)} == {0o600}


def test_a_bundle_that_is_not_there_is_passed_over(tmp_path: Path) -> None:
    assert host_authorities({"SSL_CERT_FILE": str(tmp_path / "missing")}) == host_authorities({})
