"""Package sources are in the tree exactly as far as the recipe names them."""

from __future__ import annotations

from typing import Any

import pytest
from support.resolved_images import SPAN, resolved_image
from tdxc.diagnostics import Code, DiagnosticError
from tdxc.ir import Blob, CompiledImage, Repository, Suite
from tdxc.tree import FileTree
from tdxc_emitters import emit_image

SOURCES = "mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources"
ARMOURED = b"-----BEGIN PGP PUBLIC KEY BLOCK-----\n"


def emitted(reference: str = "debian/trixie", **changes: Any) -> FileTree:
    return emit_image(CompiledImage(span=SPAN, image=resolved_image(reference, **changes)))


def repository(**changes: Any) -> Repository:
    fields: dict[str, Any] = {
        "span": SPAN,
        "name": "extra",
        "uri": "https://pkg.example/debian",
        "suites": ("trixie",),
        "components": ("main",),
        "key": Blob.of(b"key"),
    }
    return Repository(**{**fields, **changes})


def field(text: str, key: str) -> list[str]:
    return [line.partition(": ")[2] for line in text.splitlines() if line.startswith(f"{key}: ")]


def test_nothing_declared_leaves_mkosis_default() -> None:
    tree = emitted()
    assert not [path for path in tree if path.startswith("mkosi.sandbox/")]
    assert not [path for path in tree if "sources" in path]


def test_mirror_brings_release_and_updates() -> None:
    text = emitted(mirror="http://mirror.example/debian/").text(SOURCES)
    assert field(text, "URIs") == ["http://mirror.example/debian"]
    assert field(text, "Suites") == ["trixie trixie-updates"]
    assert field(text, "Signed-By") == ["/usr/share/keyrings/debian-archive-keyring.gpg"]


@pytest.mark.parametrize(
    ("reference", "mirror", "expected"),
    [
        ("debian/trixie", "https://snap.example", "https://snap.example/archive/debian/20251113T083151Z"),
        (
            "debian/trixie",
            "https://snap.example/archive/debian/",
            "https://snap.example/archive/debian/20251113T083151Z",
        ),
        (
            "debian/trixie",
            "https://snap.example/archive/debian/20251113T083151Z",
            "https://snap.example/archive/debian/20251113T083151Z",
        ),
        ("ubuntu/noble", "https://snap.example", "https://snap.example/ubuntu/20251113T083151Z"),
        ("debian/trixie", "https://own.example/debian", "https://own.example/debian/20251113T083151Z"),
    ],
)
def test_snapshot_is_part_of_the_address(reference: str, mirror: str, expected: str) -> None:
    text = emitted(reference, mirror=mirror, snapshot="20251113T083151Z").text(SOURCES)
    assert field(text, "URIs")[0] == expected


def test_snapshot_service_has_the_security_archive_beside() -> None:
    text = emitted(mirror="https://snap.example", snapshot="20251113T083151Z").text(SOURCES)
    assert field(text, "URIs")[1] == "https://snap.example/archive/debian-security/20251113T083151Z"
    assert field(text, "Suites")[1] == "trixie-security"


def test_suites_share_the_mirror_and_are_pinned() -> None:
    suites = (Suite(span=SPAN, name="trixie-backports"), Suite(span=SPAN, name="sid", priority=50))
    tree = emitted(mirror="http://mirror.example/debian", suites=suites)
    assert field(tree.text(SOURCES), "Suites") == ["trixie trixie-updates trixie-backports sid"]
    pin = tree.text("mkosi.sandbox/etc/apt/preferences.d/sid.pref")
    assert field(pin, "Pin") == ["release n=sid"]
    assert field(pin, "Pin-Priority") == ["50"]


def test_snapshot_and_suites_without_a_mirror_are_guarded() -> None:
    tree = emitted(snapshot="20251113T083151Z", suites=(Suite(span=SPAN, name="sid"),))
    assert tree.text("mkosi.snapshot") == "20251113T083151Z\n"
    assert tree.text("rules/suites").splitlines()[1:] == ["sid"]
    assert "SyncScripts=\n        scripts/10-sync-sources.sh\n" in tree.text("mkosi.conf")
    assert SOURCES not in tree


@pytest.mark.parametrize(("data", "suffix"), [(ARMOURED, "asc"), (b"\x99\x01", "gpg")])
def test_repository_brings_its_key(data: bytes, suffix: str) -> None:
    repository = Repository(
        span=SPAN,
        name="dotnet",
        uri="https://pkg.example/debian",
        suites=("trixie",),
        components=("main",),
        key=Blob.of(data),
    )
    tree = emitted(repositories=(repository,))
    text = tree.text("mkosi.sandbox/etc/apt/sources.list.d/dotnet.sources")
    assert field(text, "Signed-By") == [f"/etc/apt/keyrings/dotnet.{suffix}"]
    assert f"mkosi.sandbox/etc/apt/keyrings/dotnet.{suffix}" in tree
    assert SOURCES not in tree


@pytest.mark.parametrize(
    "changes",
    [
        {"mirror": "ftp://mirror.example/debian"},
        {"mirror": "http://user:secret@mirror.example/debian"},
        {"mirror": "http://mirror.example/a b"},
        {"mirror": "http://mirror.example/debian\nTrusted: yes"},
        {"snapshot": "yesterday"},
        {"suites": (Suite(span=SPAN, name="../sid"),), "mirror": "http://mirror.example/debian"},
        {"repositories": (repository(key=None),)},
        {"repositories": (repository(name="a/b"),)},
        {"repositories": (repository(suites=("x y",)),)},
    ],
    ids=["ftp", "password", "blank", "newline", "snapshot", "suite", "no key", "slash in name", "two suites in one"],
)
def test_what_apt_could_not_read_is_refused_at_its_line(changes: dict[str, Any]) -> None:
    with pytest.raises(DiagnosticError) as caught:
        emitted(**changes)
    assert caught.value.diagnostics[0].code is Code.E_VALUE
    assert caught.value.diagnostics[0].span == SPAN


@pytest.mark.parametrize(
    "changes",
    [{"snapshot": "20251113T083151Z"}, {"suites": (Suite(span=SPAN, name="edge"),)}],
    ids=["snapshot", "suite"],
)
def test_alpine_refuses_what_only_apt_does(changes: dict[str, Any]) -> None:
    with pytest.raises(DiagnosticError) as caught:
        emitted("alpine/3.20", mirror="http://mirror.example/alpine", **changes)
    assert caught.value.diagnostics[0].code is Code.E_UNSUPPORTED
