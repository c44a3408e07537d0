"""What fetch scripts take of earlier downloads; nothing damaged gets through. bash, git and curl run for real."""

from __future__ import annotations

import functools
import hashlib
import http.server
import subprocess
import threading
from pathlib import Path
from typing import Any

import pytest
from support.authored import resolved, run
from support.builds import resolved_build, run_scripts
from support.resolved_images import SPAN, resolved_image
from tdxc.ir import Artifact, BuildSource, CompiledImage, Kernel, ResolvedBuild
from tdxc.passes.resolve_kernel import ResolveKernel
from tdxc.tree import FileTree
from tdxc_emitters import emit_image

FETCH = "mkosi.images/build-tool/fetch.sh"
IDENTITY = ["-c", "user.name=x", "-c", "user.email=x@example.org"]


def emitted(build: ResolvedBuild) -> FileTree:
    return emit_image(CompiledImage(span=SPAN, image=resolved_image(builds=(build,))))


def reading(source: BuildSource, **changes: Any) -> FileTree:
    """A build that installs the source's file ``input``."""
    fields: dict[str, Any] = {
        "source": source,
        "compile": "! test -e .git",
        "artifacts": (Artifact(span=SPAN, source="source/input", dest="/usr/share/input"),),
        "environment": (("PATH", "/usr/bin:/bin"),),
        **changes,
    }
    return emitted(resolved_build(**fields))


class Bake:
    """Runs of the scripts in one place, each with what those before it downloaded."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.downloads = folder / "downloads"
        self.downloads.mkdir()
        self.number = 0
        self.used = ""

    def run(self, tree: FileTree, *, offline: bool = False, network: str = "") -> str:
        """The text of the artifact. CalledProcessError as the scripts fail. ``network``: more settings."""
        self.number += 1
        place = self.folder / str(self.number)
        work = place / "build/tool"
        (work / "fetched").mkdir(parents=True)
        (work / "downloads").symlink_to(self.downloads)
        dest = run_scripts(tree, "tool", place, network=network + ("tdxc_offline=yes\n" if offline else ""))
        used = work / "fetched/used"
        self.used = used.read_text() if used.exists() else ""
        used.unlink(missing_ok=True)
        for path in (work / "fetched").iterdir():
            path.replace(self.downloads / path.name)
        return (dest / "usr/share/input").read_text()


@pytest.fixture
def bake(tmp_path: Path) -> Bake:
    return Bake(tmp_path)


def tarball(folder: Path) -> BuildSource:
    (folder / "project").mkdir()
    (folder / "project/input").write_text("from a tarball\n")
    subprocess.run(["tar", "-czf", folder / "x.tar.gz", "-C", folder, "project"], check=True)
    digest = hashlib.sha256((folder / "x.tar.gz").read_bytes()).hexdigest()
    return BuildSource(span=SPAN, tarball=f"file://{folder}/x.tar.gz", sha256=digest)


def repository(folder: Path, object_format: str = "sha1") -> BuildSource:
    """The newer of two commits in a repository that hands out single commits."""
    (folder / "git").mkdir()
    git = ["git", *IDENTITY, "-C", str(folder / "git")]
    subprocess.run([*git, "init", "-q", "-b", "trunk", f"--object-format={object_format}"], check=True)
    for text in ("old\n", "from git\n"):
        (folder / "git/input").write_text(text)
        subprocess.run([*git, "add", "."], check=True)
        subprocess.run([*git, "commit", "-q", "-m", "x"], check=True)
    commit = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    return BuildSource(span=SPAN, git=f"file://{folder}/git", rev=commit)


SOURCES = {"tarball": (tarball, "from a tarball\n"), "git": (repository, "from git\n")}


@pytest.mark.parametrize("kind", SOURCES)
def test_a_source_is_downloaded_once(bake: Bake, tmp_path: Path, kind: str) -> None:
    make, content = SOURCES[kind]
    source = make(tmp_path)
    assert bake.run(reading(source)) == content
    (kept,) = bake.downloads.iterdir()
    assert kept.name == (f"sha256-{source.sha256}" if source.tarball else f"git-{source.rev}")
    assert kept.name not in bake.used
    for gone in ("x.tar.gz", "git"):
        if (tmp_path / gone).exists():
            (tmp_path / gone).rename(tmp_path / f"{gone}-gone")
    assert bake.run(reading(source, test="true"), offline=True) == content
    assert bake.used == f"{kept.name}\n"


@pytest.mark.parametrize("kind", SOURCES)
@pytest.mark.parametrize("damage", ["cut", "flipped", "another"])
def test_a_damaged_download_is_fetched_again_and_replaced(bake: Bake, tmp_path: Path, kind: str, damage: str) -> None:
    make, content = SOURCES[kind]
    source = make(tmp_path)
    bake.run(reading(source))
    (kept,) = bake.downloads.iterdir()
    good = kept.read_bytes()
    middle = len(good) // 2
    flipped = good[:middle] + bytes([good[middle] ^ 1]) + good[middle + 1 :]
    kept.write_bytes({"cut": good[:middle], "flipped": flipped, "another": b""}[damage])
    with pytest.raises(subprocess.CalledProcessError) as caught:
        bake.run(reading(source), offline=True)
    assert "not in the cache of downloads, and this bake is offline" in caught.value.stderr
    assert bake.run(reading(source)) == content
    assert kept.read_bytes() == good


def test_the_objects_of_another_commit_are_not_taken_for_the_one_that_was_asked_for(bake: Bake, tmp_path: Path) -> None:
    """A pack that is whole, under the wrong name."""
    source = repository(tmp_path)
    git = ["git", "-C", str(tmp_path / "git")]
    old = subprocess.run([*git, "rev-parse", "HEAD^"], check=True, capture_output=True, text=True).stdout.strip()
    bake.run(reading(BuildSource(span=SPAN, git=source.git, rev=old)))
    (bake.downloads / f"git-{old}").rename(bake.downloads / f"git-{source.rev}")
    with pytest.raises(subprocess.CalledProcessError):
        bake.run(reading(source), offline=True)
    assert bake.run(reading(source)) == "from git\n"


def test_what_a_branch_names_is_never_kept(bake: Bake, tmp_path: Path) -> None:
    source = repository(tmp_path)
    assert bake.run(reading(BuildSource(span=SPAN, git=source.git, rev="trunk"))) == "from git\n"
    assert list(bake.downloads.iterdir()) == []


def test_a_kernels_tarball_is_fetched_the_same_way(tmp_path: Path) -> None:
    """Its fetch step is text of a pass, which calls the function that checks digests."""
    source = tarball(tmp_path)
    image = resolved(kernel=Kernel(span=SPAN, version="6.13.5", source=source))
    (build,) = run(ResolveKernel(), image)[0].builds
    script = emitted(build).text("mkosi.images/build-kernel/fetch.sh")
    assert "download() {" in script
    assert f"\ndownload {source.tarball} {source.sha256} linux.tarball\n" in script


@pytest.mark.parametrize("name", ["short", "origin/trunk", "trunk", "v1", "refs/tags/v1"])
def test_what_a_server_does_not_hand_out_by_itself_is_found_among_all(bake: Bake, tmp_path: Path, name: str) -> None:
    source = repository(tmp_path)
    subprocess.run(["git", *IDENTITY, "-C", str(tmp_path / "git"), "tag", "-a", "-m", "v1", "v1"], check=True)
    rev = source.rev[:9] if name == "short" else name
    assert bake.run(reading(BuildSource(span=SPAN, git=source.git, rev=rev))) == "from git\n"
    assert not list(bake.downloads.glob("git-*"))


def test_a_commit_named_by_sha256_is_taken(bake: Bake, tmp_path: Path) -> None:
    source = repository(tmp_path, "sha256")
    assert len(source.rev) == 64
    assert bake.run(reading(source)) == "from git\n"
    (tmp_path / "git").rename(tmp_path / "gone")
    assert bake.run(reading(source)) == "from git\n"


class PrivateFiles(http.server.SimpleHTTPRequestHandler):
    """Files for those alone who show a token."""

    def do_GET(self) -> None:
        if self.headers["Authorization"] == "Bearer open sesame":
            super().do_GET()
        else:
            self.send_error(401)

    def log_message(self, *_: object) -> None:
        pass


def test_a_private_repository_is_reached_by_gits_own_settings(bake: Bake, tmp_path: Path) -> None:
    source = repository(tmp_path)
    subprocess.run(["git", "-C", str(tmp_path / "git"), "update-server-info"], check=True)
    with http.server.ThreadingHTTPServer(
        ("127.0.0.1", 0), functools.partial(PrivateFiles, directory=tmp_path / "git/.git")
    ) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/"
        tree = reading(BuildSource(span=SPAN, git=url, rev=source.rev))
        settings = {"COUNT": "1", "KEY_0": f"http.{url}.extraHeader", "VALUE_0": "Authorization: Bearer open sesame"}
        network = "".join(f"export GIT_CONFIG_{name}='{value}'\n" for name, value in settings.items())
        with pytest.raises(subprocess.CalledProcessError):
            bake.run(tree, network="export GIT_TERMINAL_PROMPT=0\n")
        assert bake.run(tree, network=network) == "from git\n"
        server.shutdown()


def test_only_the_fetch_step_is_shown_downloads_and_only_where_it_compiles_nothing(tmp_path: Path) -> None:
    source = tarball(tmp_path)
    closed, open_ = reading(source), reading(source, network=True)
    assert "/var/cache/apt/archives/tdxc" in closed.text(FETCH)
    assert "/var/cache/apt/archives/tdxc" not in closed.text(FETCH.replace("fetch", "build"))
    assert "/var/cache/apt/archives/tdxc" not in open_.text(FETCH)
    assert "--ro-bind" not in emitted(resolved_build()).text(FETCH)


@pytest.mark.parametrize(("failures", "asked"), [(0, 1), (1, 2), (2, 2)])
def test_modules_that_do_not_come_are_asked_for_once_more(
    bake: Bake, tmp_path: Path, failures: int, asked: int
) -> None:
    (tmp_path / "bin").mkdir()
    for name, text in {
        "go": f'[ "$2" = verify ] || {{ echo >>{tmp_path}/asked; [ "$(wc -l <{tmp_path}/asked)" -gt {failures} ]; }}',
        "sleep": "",
    }.items():
        (tmp_path / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (tmp_path / "bin" / name).chmod(0o755)
    environment = (("PATH", f"{tmp_path}/bin:/usr/bin:/bin"),)
    tree = reading(tarball(tmp_path), fetch="fetch_modules", environment=environment)
    if failures < asked:
        assert bake.run(tree) == "from a tarball\n"
    else:
        with pytest.raises(subprocess.CalledProcessError):
            bake.run(tree)
    assert len((tmp_path / "asked").read_text().splitlines()) == asked
