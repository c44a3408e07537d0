"""Extra suites without a mirror: what the tree says of them is what a bake writes down."""

from __future__ import annotations

import json
import subprocess
import uuid
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.resolved_images import SEED, SPAN, resolved_image
from tdxc.ir import CompiledImage, Suite
from tdxc.writer import write_tree
from tdxc_emitters import emit_image
from tdxc_emitters.mkosi.sources import archive_uri
from tdxc_runtime.backends.package_sources import TreeSources, read_summary, snapshot_uri, write_sandbox_tree
from tdxc_runtime.toolsroot.apt_options import sources_text
from tdxc_runtime.toolsroot.apt_sources import Mirror


def make_tree(tmp_path: Path) -> Path:
    image = resolved_image("debian/bookworm", suites=(Suite(span=SPAN, name="bookworm-backports"),))
    variant = attrs.evolve(image, profiles=("dev",), suites=(*image.suites, Suite(span=SPAN, name="sid")))
    tree = tmp_path / "tree"
    write_tree(emit_image(CompiledImage(span=SPAN, image=image, variants=(variant,))), tree)
    return tree


def summary(profiles: list[str]) -> bytes:
    image = {"Distribution": "debian", "Release": "bookworm", "Repositories": [], "SandboxTrees": [], "Seed": SEED}
    return json.dumps({"Images": [{**image, "Profiles": profiles}]}).encode()


@pytest.mark.parametrize(
    ("profiles", "suites"), [([], ("bookworm-backports",)), (["dev"], ("bookworm-backports", "sid"))]
)
def test_a_bake_reads_the_suites(tmp_path: Path, profiles: list[str], suites: tuple[str, ...]) -> None:
    tree = make_tree(tmp_path)
    found = read_summary(summary(profiles), tree_inside=tree, tree=tree)
    assert found.suites == suites
    mirror = Mirror(uri="http://mirror.example/debian", origin="test")
    text = sources_text(mirror, "bookworm", further=found.suites, has_suite=lambda *_: True)
    assert f"Suites: bookworm bookworm-updates {' '.join(suites)}\n" in text


SNAPSHOT = "20251113T083151Z"


@pytest.mark.parametrize("reference", ["debian/trixie", "ubuntu/noble"])
@pytest.mark.parametrize(
    "mirror", ["https://s.example", "https://s.example/own/", f"https://s.example/archive/debian/{SNAPSHOT}"]
)
def test_a_bake_and_a_recipe_mean_the_same_archive(tmp_path: Path, reference: str, mirror: str) -> None:
    """``mirror=`` in the recipe and ``--mirror`` of a bake lead to one address."""
    tree = tmp_path / "tree"
    write_tree(emit_image(CompiledImage(span=SPAN, image=resolved_image(reference, snapshot=SNAPSHOT))), tree)
    found = read_summary(summary([]), tree_inside=tree, tree=tree)
    assert found.snapshot == SNAPSHOT
    declared = archive_uri(resolved_image(reference, mirror=mirror, snapshot=SNAPSHOT))
    assert snapshot_uri(mirror, found.snapshot, reference.partition("/")[0]) == declared


@pytest.mark.parametrize("declared", [False, True], ids=["mkosi 25", "mkosi 27"])
def test_mirror_option_is_taken_at_the_snapshot(tmp_path: Path, declared: bool) -> None:
    found = TreeSources(
        distribution="debian",
        release="trixie",
        components=("main",),
        declared=declared,
        seed=uuid.UUID(SEED),
        snapshot=SNAPSHOT,
    )
    write_sandbox_tree(tmp_path, found, "http://s.example", has_suite=lambda *_: False)
    text = (tmp_path / "etc/apt/sources.list.d/mkosi.sources").read_text()
    assert f"URIs: http://s.example/archive/debian/{SNAPSHOT}\n" in text


def run_guard(tree: Path, tmp_path: Path, sources: str, config: str = "{}") -> subprocess.CompletedProcess[str]:
    """The guard as mkosi runs it, with apt's folder and mkosi's configuration in ``tmp_path``."""
    (tmp_path / "apt").mkdir()
    (tmp_path / "apt/mkosi.sources").write_text(sources)
    (tmp_path / "config.json").write_text(config)
    text = (tree / "scripts/10-sync-sources.sh").read_text().replace("/etc/apt/sources.list.d", f"{tmp_path}/apt")
    env = {"SRCDIR": str(tree), "MKOSI_CONFIG": str(tmp_path / "config.json"), "PATH": "/usr/bin:/bin"}
    return subprocess.run(["bash", "-c", text], env=env, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(
    ("suites", "status"),
    [
        ("bookworm bookworm-backports", 0),
        ("bookworm-backports", 0),
        ("bookworm", 1),
        ("bookworm-backports-sloppy", 1),
        ("xbookworm-backports", 1),
    ],
)
def test_guard_wants_every_suite(tmp_path: Path, suites: str, status: int) -> None:
    found = run_guard(make_tree(tmp_path), tmp_path, f"Types: deb\nSuites: {suites}\n")
    assert found.returncode == status
    assert ("bookworm-backports" in found.stderr) == bool(status)


@pytest.mark.parametrize(
    ("sources", "config", "status"),
    [
        ("", {"Snapshot": "20251113T083151Z"}, 0),
        ("URIs: http://s.example/archive/debian/20251113T083151Z\n", {}, 0),
        ("URIs: http://s.example/debian\n", {}, 1),
        ("", {"Snapshot": "20251114T083151Z"}, 1),
        ("", {}, 1),
    ],
)
def test_guard_wants_the_snapshot(tmp_path: Path, sources: str, config: dict[str, Any], status: int) -> None:
    tree = tmp_path / "tree"
    write_tree(emit_image(CompiledImage(span=SPAN, image=resolved_image(snapshot="20251113T083151Z"))), tree)
    assert run_guard(tree, tmp_path, sources, json.dumps(config, indent=4)).returncode == status
