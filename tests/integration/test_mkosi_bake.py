"""A real bake of all that is ours in a tree but the kernel: builds, scripts, owners, modes, a profile's layer."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from support.builds import local_source, resolved_build
from support.resolved_images import SPAN, resolved_image
from tdxc.ir import (
    Artifact,
    Blob,
    CompiledImage,
    Directory,
    File,
    OutputTarget,
    Package,
    ResolvedImage,
    Script,
    ScriptPhase,
)
from tdxc.writer import write_tree
from tdxc_emitters import emit_image
from tdxc_runtime.backends import bake

pytestmark = pytest.mark.integration

MAKEFILE = "release:\n\tmkdir build\n\tinstall tool.sh build/tool\n"
BUILD = """\
make release
printf "%s\\n" "$GREETING" > build/greeting
if tail -n +3 /proc/net/dev | grep -v lo:; then exit 1; fi
"""
NO_KERNEL = "[Output]\nFormat=directory\nManifestFormat=\n[Content]\nBootable=no\n"


def image() -> ResolvedImage:
    def file(path: str, data: bytes = b"x", **fields: Any) -> File:
        return attrs.evolve(File(span=SPAN, path=path, content=Blob.of(data)), **fields)

    return resolved_image(
        packages=tuple(Package(span=SPAN, name=name) for name in ("coreutils", "systemd")),
        build_packages=(Package(span=SPAN, name="make"),),
        files=(
            file("/etc/app/a key", mode=0o640, owner="app", group="app"),
            file("/root/.profile", mode=0o600),
            file("/usr/bin/setuid", mode=0o4755, owner="app"),
            file("/usr/lib/sysusers.d/app.conf", b'u app 800 "App" /var/lib/app\n'),
        ),
        directories=(Directory(span=SPAN, path="/srv/a b/c", mode=0o750, owner="app", group="app"),),
        scripts=(
            Script(
                span=SPAN,
                phase=ScriptPhase.POSTINST,
                name="inside",
                text='test "$BUILDROOT" = /\ntest -z "$(find /usr/bin -name make)"\nid -u > /etc/by-shell\n',
            ),
            Script(
                span=SPAN,
                phase=ScriptPhase.POSTINST,
                name="perl",
                text="#!/usr/bin/perl\nopen(F, '>', '/etc/by-perl'); print F 'perl'; close F;\n",
            ),
        ),
        builds=(
            resolved_build(
                packages=(Package(span=SPAN, name="make"),),
                source=local_source({"Makefile": MAKEFILE, "tool.sh": "#!/bin/sh\n"}),
                compile=BUILD,
                artifacts=(
                    Artifact(span=SPAN, source="source/build/tool", dest="/usr/bin/tool"),
                    Artifact(span=SPAN, source="source/build/greeting", dest="/etc/app/greeting"),
                ),
                environment=(("GREETING", "it's 50% $$done"),),
            ),
        ),
    )


def test_image_is_as_declared(tmp_path: Path) -> None:
    base = image()
    key = File(span=SPAN, path="/etc/cloud key", content=Blob.of(b"x"), mode=0o600, owner="app")
    files = tuple(sorted((*base.files, key), key=lambda file: file.path))
    target = OutputTarget(span=SPAN, name="azure")
    variant = attrs.evolve(base, profiles=("cloud",), files=files, output_targets=(target,))
    tree = tmp_path / "a tree"
    write_tree(emit_image(CompiledImage(span=SPAN, image=base, variants=(variant,))), tree)
    (tree / "mkosi.local.conf").write_text(NO_KERNEL, encoding="utf-8")

    bake(tree, tmp_path / "out", profiles=("cloud",), log=tmp_path / "log")

    root = tmp_path / "out/node"
    expected = {
        "etc/app/a key": (0o640, 800, 800),
        "etc/cloud key": (0o600, 800, 0),
        "root": (0o700, 0, 0),
        "root/.profile": (0o600, 0, 0),
        "usr/bin/setuid": (0o4755, 800, 0),
        "usr/bin/tool": (0o755, 0, 0),
        "srv/a b/c": (0o750, 800, 800),
        "srv/a b": (0o755, 0, 0),
        "tmp": (0o1777, 0, 0),
    }
    found = {path: (root / path).stat() for path in expected}
    assert {path: (s.st_mode & 0o7777, s.st_uid, s.st_gid) for path, s in found.items()} == expected
    assert (root / "etc/app/greeting").read_text() == "it's 50% $$done\n"
    assert (root / "etc/by-shell").read_text() == "0\n"
    assert (root / "etc/by-perl").read_text() == "perl"
    assert (root / "etc/machine-id").read_bytes() == b""
    assert not (root / "usr/bin/make").exists()
    assert not (root / "var/lib/tdxc-build").exists()
