"""The host's apt configuration as a source of mirrors."""

from __future__ import annotations

import http.server
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.toolsroot import apt_options
from tdxc_runtime.toolsroot.apt_options import fetchable, parse_apt_options, render_apt_options, sources_text
from tdxc_runtime.toolsroot.apt_sources import (
    Mirror,
    find_mirror,
    os_release,
    parse_deb822,
    parse_one_line,
    read_sources,
)

DEBIAN = 'ID=debian\nVERSION_CODENAME=bookworm\nPRETTY_NAME="Debian GNU/Linux 12 (bookworm)"\n'
UBUNTU = "ID=ubuntu\nID_LIKE=debian\nVERSION_CODENAME=noble\n"
DEB822 = """\
# a comment
Types: deb deb-src
# another inside
URIs: https://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
  contrib
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: https://mirror.example/debian-security
Suites: bookworm-security
Components: main

Types: deb
Enabled: no
URIs: https://disabled.example/debian
Suites: bookworm
Components: main
"""


def _etc(folder: Path, release: str, **files: str) -> Path:
    etc = folder / "etc"
    (etc / "apt/sources.list.d").mkdir(parents=True)
    (etc / "os-release").write_text(release, encoding="utf-8")
    for name, text in files.items():
        (etc / "apt" / name.replace("_", ".")).write_text(text, encoding="utf-8")
    return etc


def test_deb822_gives_mirror_and_security_archive(tmp_path: Path) -> None:
    etc = _etc(tmp_path, DEBIAN)
    (etc / "apt/sources.list.d/debian.sources").write_text(DEB822, encoding="utf-8")
    mirror = find_mirror(environ={}, etc=etc)
    assert mirror == Mirror(
        uri="https://mirror.example/debian",
        origin=f"apt's configuration ({etc}/apt/sources.list.d/debian.sources:2)",
        security_uri="https://mirror.example/debian-security",
        signed_by="/usr/share/keyrings/debian-archive-keyring.gpg",
    )


def test_deb822_fields_continue_and_disabled_stanzas_are_left_out() -> None:
    first, second = parse_deb822(DEB822, "x")
    assert first.components == ("main", "contrib")
    assert first.suites == ("bookworm", "bookworm-updates")
    assert second.origin == "x:10"


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("deb https://m.example/debian bookworm main", ("https://m.example/debian", "bookworm", ("main",), "", False)),
        (
            "  deb\t[arch=amd64 signed-by=/k.gpg]  http://m.example/d  stable  main non-free # note",
            ("http://m.example/d", "stable", ("main", "non-free"), "/k.gpg", False),
        ),
        ("deb [trusted=yes] file:/srv/d bookworm main", ("file:/srv/d", "bookworm", ("main",), "", True)),
        ("deb http://m.example/flat ./", ("http://m.example/flat", "./", (), "", False)),
    ],
)
def test_one_line_entries(line: str, expected: tuple[str, str, tuple[str, ...], str, bool]) -> None:
    (entry,) = parse_one_line(f"# head\n{line}\n", "sources.list")
    assert entry.origin == "sources.list:2"
    assert (*entry.uris, *entry.suites, entry.components, entry.signed_by, entry.trusted) == expected


@pytest.mark.parametrize(
    "line", ["", "#deb http://m.example/d bookworm main", "deb-src http://x y main", "deb", "deb x"]
)
def test_lines_that_are_no_archives_are_left_out(line: str) -> None:
    assert not tuple(parse_one_line(line, "x"))


def test_one_line_file_is_read_before_the_parts_and_backups_never(tmp_path: Path) -> None:
    etc = _etc(tmp_path, DEBIAN, sources_list="deb http://first.example/debian bookworm main\n")
    (etc / "apt/sources.list.d/a.list").write_text("deb http://second.example/debian bookworm main\n", "utf-8")
    (etc / "apt/sources.list.d/b.list.save").write_text("deb http://third.example/debian bookworm main\n", "utf-8")
    assert [entry.uris[0] for entry in read_sources(etc / "apt")] == [
        "http://first.example/debian",
        "http://second.example/debian",
    ]
    mirror = find_mirror(environ={}, etc=etc)
    assert mirror is not None
    assert mirror.uri == "http://first.example/debian"


def test_third_party_archives_are_never_taken_for_the_distribution(tmp_path: Path) -> None:
    text = "deb http://third.example/apt stable-tools main\ndeb http://flat.example/x nodistro main\n"
    assert find_mirror(environ={}, etc=_etc(tmp_path, DEBIAN, sources_list=text)) is None


def test_mirror_lists_in_files_are_followed(tmp_path: Path) -> None:
    etc = _etc(tmp_path, DEBIAN, sources_list="deb mirror+file:/etc/apt/mirrors/debian.list bookworm main\n")
    (etc / "apt/mirrors").mkdir()
    listing = "# mirrors\nhttps://near.example/debian\tpriority:1\nhttps://far.example/debian\n"
    (etc / "apt/mirrors/debian.list").write_text(listing, encoding="utf-8")
    mirror = find_mirror(environ={}, etc=etc)
    assert mirror is not None
    assert mirror.uri == "https://near.example/debian"


def test_cdrom_is_skipped_and_floating_suite_names_count(tmp_path: Path) -> None:
    text = "deb cdrom:[Debian 12]/ bookworm main\ndeb http://m.example/debian stable main\n"
    mirror = find_mirror(environ={}, etc=_etc(tmp_path, DEBIAN, sources_list=text))
    assert mirror is not None
    assert mirror.uri == "http://m.example/debian"


def test_an_ubuntu_host_names_no_debian_mirror_but_its_own(tmp_path: Path) -> None:
    etc = _etc(tmp_path, UBUNTU, sources_list="deb http://archive.example/ubuntu noble main universe\n")
    assert find_mirror(environ={}, etc=etc) is None
    mirror = find_mirror(distribution="ubuntu", environ={}, etc=etc)
    assert mirror is not None
    assert mirror.uri == "http://archive.example/ubuntu"


def test_argument_beats_environment_beats_host(tmp_path: Path) -> None:
    etc = _etc(tmp_path, DEBIAN, sources_list="deb http://host.example/debian bookworm main\n")
    environ = {"TDXVM_MIRROR": "http://environment.example/debian"}
    found = [
        find_mirror("http://argument.example/debian", environ=environ, etc=etc),
        find_mirror(environ=environ, etc=etc),
    ]
    assert [mirror.uri for mirror in found if mirror] == [
        "http://argument.example/debian",
        "http://environment.example/debian",
    ]
    assert "TDXVM_MIRROR" in (found[1].origin if found[1] else "")


@pytest.mark.parametrize(
    "uri", ["debian", "http://", "http://h/a b", "http://h/x\nTrusted: yes", "ssh://h/d", "file:x"]
)
def test_a_mirror_that_is_no_url_is_refused(uri: str) -> None:
    with pytest.raises(DiagnosticError) as raised:
        find_mirror(uri, environ={})
    assert raised.value.diagnostics[0].code is Code.E_VALUE
    with pytest.raises(DiagnosticError, match="TDXVM_MIRROR"):
        find_mirror(environ={"TDXVM_MIRROR": uri})


def test_a_host_without_any_configuration_has_no_mirror(tmp_path: Path) -> None:
    assert find_mirror(environ={}, etc=tmp_path / "nowhere") is None
    assert os_release(tmp_path / "nowhere") == {}


@given(st.text())
def test_parsers_take_any_text(text: str) -> None:
    assert all(entry.uris for entry in parse_one_line(text, "x"))
    tuple(parse_deb822(text, "x"))


def test_network_options_of_apt_are_taken_over_and_nothing_else() -> None:
    dump = (
        'APT::Architecture "amd64";\nAcquire::http::Proxy "http://user:secret@proxy.example:3128";\n'
        'Acquire::http::Proxy::direct.example "DIRECT";\nAcquire::Check-Valid-Until "false";\nAcquire::Retries "3";\n'
        'Acquire::https::CAInfo "/etc/ssl/own.pem";\nAcquire::Languages:: "none";\n'
        'Acquire "";\nDPkg::Post-Invoke:: "rm";\n'
        'Acquire::http::Proxy-Auto-Detect "/usr/bin/detect";\n'
    )
    options = parse_apt_options(dump)
    assert options == {
        "Acquire::http::Proxy": "http://user:secret@proxy.example:3128",
        "Acquire::http::Proxy::direct.example": "DIRECT",
        "Acquire::Check-Valid-Until": "false",
        "Acquire::Retries": "3",
    }
    assert parse_apt_options(render_apt_options(options)) == options


def test_sources_name_only_suites_that_the_mirror_has() -> None:
    asked: list[tuple[str, str]] = []

    def has_suite(uri: str, suite: str) -> bool:
        asked.append((uri, suite))
        return suite != "trixie-updates"

    text = sources_text(Mirror(uri="https://m.example/debian/", origin="x"), "trixie", has_suite=has_suite)
    first, second = parse_deb822(text, "x")
    assert (first.uris, first.suites) == (("https://m.example/debian/",), ("trixie",))
    assert (second.uris, second.suites) == (("https://m.example/debian-security",), ("trixie-security",))
    assert first.signed_by == "/usr/share/keyrings/debian-archive-keyring.gpg"
    assert ("https://m.example/debian/", "trixie-updates") in asked


def test_sources_of_sid_are_sid_alone() -> None:
    text = sources_text(Mirror(uri="https://m.example/debian", origin="x"), "sid", has_suite=lambda *_: True)
    (entry,) = parse_deb822(text, "x")
    assert entry.suites == ("sid",)


def test_sources_of_a_trusted_mirror_say_so() -> None:
    mirror = Mirror(uri="file:/srv/debian", origin="x", trusted=True)
    text = sources_text(mirror, "trixie", components=("main", "non-free"), has_suite=lambda *_: False)
    (entry,) = parse_deb822(text, "x")
    assert entry.trusted
    assert entry.components == ("main", "non-free")
    assert "Signed-By" not in text


def test_fetchable_looks_at_the_disk_and_refuses_odd_schemes(tmp_path: Path) -> None:
    (tmp_path / "InRelease").touch()
    assert fetchable(f"file:{tmp_path}/InRelease", {})
    assert fetchable(f"copy://{tmp_path}/InRelease", {})
    assert not fetchable(f"file:{tmp_path}/absent", {})
    assert not fetchable("ssh://host.example/x", {})
    assert not fetchable("http://[bad/x", {})
    assert not fetchable("http://127.0.0.1:1/x", {})


@pytest.mark.parametrize(
    ("answers", "found", "asked"),
    [
        ((200,), True, 1),
        ((404, 200), False, 1),
        ((403, 200), False, 1),
        ((503, 200), True, 2),
        ((0, 429, 200), True, 3),
        ((500, 502, 503, 200), False, 3),
    ],
)
def test_an_archive_is_asked_again_unless_it_says_that_it_lacks_something(
    answers: tuple[int, ...], found: bool, asked: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    left = list(answers)

    class Archive(http.server.BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            if status := left.pop(0):  # else nothing comes back
                self.send_response(status)
                self.end_headers()

        def log_message(self, *_: object) -> None: ...

    monkeypatch.setattr(apt_options, "_PROBE_PAUSES_S", (0.0, 0.0))
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Archive) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        assert fetchable(f"http://127.0.0.1:{server.server_port}/InRelease", {}) == found
        server.shutdown()
    assert len(answers) - len(left) == asked
