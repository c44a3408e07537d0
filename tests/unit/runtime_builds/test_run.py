"""Making the builds of a bake: hits, misses, damage, failures, and what is left behind. mkosi and apt are played."""

from __future__ import annotations

import errno
import functools
import os
import shlex
import uuid
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import attrs
import pytest
from support.played_tool import ToolInPlace
from tdxc.diagnostics import Code, DiagnosticError
from tdxc_runtime.backends.mkosi_tool import BakeFolders
from tdxc_runtime.backends.package_sources import SOURCES_PATH, TreeSources
from tdxc_runtime.backends.workplace import Workplace
from tdxc_runtime.builds import BuildStore
from tdxc_runtime.builds.declared import BuildRecord, DeclaredBuild
from tdxc_runtime.builds.failure import BuildStep, next_step
from tdxc_runtime.builds.run import MadeBuilds, made_builds
from tdxc_runtime.process import Bind, Completed, LineCallback

DIGEST = "ab" * 32
HELLO = DeclaredBuild(name="hello", language="go", packages=("golang-1.24-go",), inputs={"ldflags": "-s"})
OTHER = DeclaredBuild(name="other", language="c", packages=("gcc",), inputs={"source": "1"}, network=True)


@attrs.define
class PlayedTool(ToolInPlace):
    """A mkosi that writes what it is told to, and an apt that knows every package in one version."""

    version: str = "25.3"
    description: str = "played"
    apt_version: str = "1"
    has_apt: bool = True
    broken: str = ""
    silent: bool = False
    commands: list[list[str]] = attrs.field(factory=list)
    lists: list[str] = attrs.field(factory=list)

    def run(
        self,
        arguments: Sequence[str],
        folders: BakeFolders,
        *,
        on_line: LineCallback | None = None,
        log: Path | None = None,
        capture: bool = False,
        check: bool = True,
    ) -> Completed:
        self.commands.append(list(arguments))
        self.lists += [path.name for path in (folders.packages / "lib/apt/lists").iterdir() if path.is_file()]
        lines = ["‣  Running prepare script /tree/fetch.sh…", "‣  Running build script /tree/build.sh…"]
        if self.broken:
            lines.append(self.broken)
        for line in lines:
            if on_line:
                on_line(line)
        assert log is not None
        log.write_text("\n".join(lines))
        (folders.packages / "cache/apt/archives/gcc_1_amd64.deb").write_bytes(b"deb")
        if not self.broken and not self.silent:
            name = next(word for word in arguments if word.startswith("--dependency=build-"))[len("--dependency=") :]
            (folders.output / f"{name}.tar").write_bytes(b"made " + name.encode())
            (folders.output / name).symlink_to(f"{name}.tar")
        return Completed(argv=("mkosi",), status=1 if self.broken else 0, seconds=0.0, lines=tuple(lines), log=log)

    def run_beside(self, argv: Sequence[str], binds: Sequence[Bind]) -> Completed | None:
        if not self.has_apt:
            return None
        inside = {bind.target: bind.source for bind in binds}
        words = list(argv)
        out = ""
        if "update" in words:
            folder = inside[Path("/tdxvm/apt")] / "lib/apt/lists"
            (folder / "archive_InRelease").write_text(self.apt_version)
        if "install" in words:
            if "no-such-package" in words:
                return Completed(argv=tuple(argv), status=100, seconds=0.0, lines=("E: Unable to locate package",))
            for name in (word.lstrip("?") for word in words[words.index("-qq") + 1 :]):
                out += f"'http://m/{name}.deb' {name}_{self.apt_version}_amd64.deb 10 SHA256:{DIGEST}\n"
        return Completed(argv=tuple(argv), status=0, seconds=0.0, stdout=out.encode())


@attrs.frozen
class Place:
    """A cache, and bakes that use it."""

    path: Path
    tool: PlayedTool

    @property
    def cache(self) -> Path:
        return self.path / "cache"

    @property
    def store(self) -> BuildStore:
        return BuildStore(self.cache / "builds")

    def bake(
        self,
        *builds: DeclaredBuild,
        name: str = "bake",
        told: list[str] | None = None,
        offline: bool = False,
        recipe: str = "RECIPE",
    ) -> MadeBuilds:
        scratch = self.path / name
        folders = BakeFolders(
            tree=self.path, scratch=scratch, packages=self.cache / "packages", build=self.cache / "build"
        )
        folders.create()
        (folders.sandbox / SOURCES_PATH).parent.mkdir(parents=True, exist_ok=True)
        (folders.sandbox / SOURCES_PATH).write_text("Types: deb\n")
        workplace = Workplace(
            tool=self.tool,
            folders=folders,
            profiles=("dev",),
            offline=offline,
            sources=TreeSources(
                distribution="debian", release="trixie", components=("main",), declared=False, seed=uuid.UUID(int=0)
            ),
            mirror=None,
        )
        lines = [] if told is None else told
        log = self.path / "logs" / "bake.log"
        options: dict[str, Any] = {"cache": self.cache, "log": log, "recipe": recipe, "progress": lines.append}
        with made_builds(workplace, builds, **options) as made:
            for build in builds if made.arguments else ():
                assert (folders.output / f"build-{build.name}.tar").read_bytes() == b"made build-" + build.name.encode()
        assert not [path.name for path in folders.output.iterdir()]
        return made


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path, PlayedTool())


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize("version", ["25.3", "26", "27", "27.1"])
def test_a_newer_mkosi_is_told_where_the_lists_of_packages_are(tmp_path: Path, version: str, offline: bool) -> None:
    """It refuses --cache-only= without a cache directory, and looks nowhere else."""
    seen: list[list[str]] = []

    class Newer(PlayedTool):
        def run(self, arguments: Sequence[str], folders: BakeFolders, **more: Any) -> Completed:
            cached = folders.packages / "mkosi/lists.metadata.cache/lib/apt/lists"
            seen.append(sorted(path.name for path in cached.iterdir() if path.is_file()))
            return super().run(arguments, folders, **more)

    place = Place(tmp_path, Newer(version=version))
    place.bake(HELLO)
    place.bake(OTHER, name="again", offline=offline)
    assert seen == [["archive_InRelease"], ["archive_InRelease"]]
    for command in place.tool.commands:
        found = [word for word in command if word.startswith(("--cache-directory=", "--cache-key="))]
        packages = next(word for word in command if word.startswith("--package-cache-directory=")).partition("=")[2]
        newer = [f"--cache-directory={packages}/mkosi", "--cache-key=lists"]
        assert found == (newer if version.startswith("27") else [])


def test_a_miss_is_built_alone_and_a_hit_is_not_built(place: Place) -> None:
    first = place.bake(HELLO)
    assert len(place.tool.commands) == 1
    command = place.tool.commands[0]
    assert command[0] == "--directory"
    assert {"--profile=dev", "--format=none", "--bootable=no", "--build-script="} <= set(command)
    assert command.index("--dependency=") < command.index("--dependency=build-hello")
    assert not any(word.startswith("--build-directory") for word in command)
    told: list[str] = []
    second = place.bake(HELLO, name="again", told=told)
    assert len(place.tool.commands) == 1
    assert first.records == second.records
    assert f"build hello: nothing changed, taken from the cache ({first.records[0].key[:12]})" in told
    assert first.arguments == ("--dependency=", "--cache-only=metadata")


def test_only_what_changed_is_built_and_the_reason_is_told(place: Place) -> None:
    place.bake(HELLO, OTHER)
    told: list[str] = []
    changed = attrs.evolve(HELLO, inputs={"ldflags": "-s -w"})
    place.bake(changed, OTHER, name="again", told=told)
    assert len(place.tool.commands) == 3
    assert "--dependency=build-hello" in place.tool.commands[2]
    assert "build hello: changed: ldflags; building it" in told
    entry = place.store.newest("hello")
    assert entry is not None
    assert entry.inputs["ldflags"] == "-s -w"
    assert place.store.find(entry.previous) is not None


def test_a_new_version_of_a_package_of_the_environment_is_a_change(place: Place) -> None:
    place.bake(HELLO)
    place.tool.apt_version = "2"
    told: list[str] = []
    place.bake(HELLO, name="again", told=told)
    assert len(place.tool.commands) == 2
    assert any(line.startswith("build hello: changed: 3 packages") for line in told)


def test_an_archive_that_was_damaged_is_built_again_with_a_warning(place: Place) -> None:
    made = place.bake(HELLO)
    archive = place.store.folder / made.records[0].key / "rootfs.tar"
    archive.write_bytes(archive.read_bytes()[:-1] + b"!")
    again = place.bake(HELLO, name="again")
    assert [diagnostic.code for diagnostic in again.diagnostics] == [Code.W_CACHE]
    assert "archive has changed" in again.diagnostics[0].message
    assert len(place.tool.commands) == 2
    entry = place.store.newest("hello")
    assert entry is not None
    assert entry.reason.startswith("its entry in the cache was damaged")
    assert place.bake(HELLO, name="third").diagnostics == ()


def test_a_result_that_cannot_be_stored_is_used_with_a_warning(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        made = place.bake(HELLO)
    (warning,) = made.diagnostics
    assert warning.code is Code.W_CACHE
    assert "build 'hello' was made, and could not be kept for later bakes: No space left" in warning.message
    assert place.store.entries() == ()
    assert len(made.records[0].key) == 64
    assert place.bake(HELLO, name="again").diagnostics == ()
    assert len(place.store.entries()) == 1


def test_the_lists_are_fetched_once_and_what_was_downloaded_is_kept(place: Place) -> None:
    place.bake(HELLO, OTHER)
    assert place.tool.lists == ["archive_InRelease"] * 2
    packages = place.cache / "packages"
    assert (packages / "lib/apt/lists/archive_InRelease").read_text() == "1"
    assert (packages / "cache/apt/archives/gcc_1_amd64.deb").read_bytes() == b"deb"
    place.tool.apt_version = "2"
    place.bake(HELLO, name="again")
    assert (packages / "lib/apt/lists/archive_InRelease").read_text() == "2"
    assert sorted(path.name for path in place.cache.iterdir()) == ["build", "builds", "packages"]


def test_offline_asks_nobody_and_leaves_the_metadata_option_to_the_cache_option(place: Place) -> None:
    place.bake(HELLO)
    place.tool.apt_version = "2"
    made = place.bake(HELLO, name="again", offline=True)
    assert made.arguments == ("--dependency=",)
    assert (place.cache / "packages/lib/apt/lists/archive_InRelease").read_text() == "1"
    assert "--cache-only=always" in place.tool.commands[-1]
    assert "--cache-only=metadata" not in place.tool.commands[-1]


def test_a_failure_names_build_step_lines_log_and_the_shell(place: Place) -> None:
    place.tool.broken = "main.go:3: undefined: x"
    with pytest.raises(DiagnosticError) as raised:
        place.bake(HELLO)
    found = raised.value.diagnostics[0]
    log = place.path / "logs" / "bake-build-hello.log"
    assert (found.code, found.message) == (
        Code.E_BUILD,
        "build 'hello': mkosi failed with exit status 1 while compiling",
    )
    notes = [note.message for note in found.notes]
    assert "main.go:3: undefined: x" in notes
    assert notes[-1] == f"the whole log is in {log}"
    assert "undefined: x" in log.read_text()
    assert "tdxc build RECIPE --profile dev --debug-shell hello" in found.fix
    assert place.store.entries() == ()
    assert sorted(path.name for path in place.cache.iterdir()) == ["build", "builds", "packages"]


def test_a_build_that_leaves_nothing_is_a_failure_even_if_mkosi_says_it_is_fine(place: Place) -> None:
    place.tool.silent = True
    with pytest.raises(DiagnosticError, match=r"left no build-hello\.tar"):
        place.bake(HELLO)
    assert place.store.entries() == ()


def test_packages_that_cannot_be_installed_are_said_of_their_build(place: Place) -> None:
    with pytest.raises(
        DiagnosticError, match="build 'hello': the packages no-such-package cannot be installed"
    ) as raised:
        place.bake(attrs.evolve(HELLO, packages=("no-such-package",)))
    assert raised.value.diagnostics[0].notes[0].message == "E: Unable to locate package"
    assert place.tool.commands == []


def test_where_packages_cannot_be_asked_for_nothing_is_cached_and_mkosi_builds_all(place: Place) -> None:
    place.tool.has_apt = False
    told: list[str] = []
    made = place.bake(HELLO, OTHER, told=told)
    assert made.arguments == ()
    assert made.records == (
        BuildRecord(name="hello", language="go"),
        BuildRecord(name="other", language="c", network=True),
    )
    assert made.workplace.folders.packages == place.cache / "packages"
    assert any("not cached" in line for line in told)
    assert not place.store.folder.exists()


def test_a_branch_or_tag_is_built_each_time_and_a_commit_is_kept(place: Place) -> None:
    moving = attrs.evolve(HELLO, inputs={"git": "https://example.com/x.git", "rev": "v1.2"})
    fixed = attrs.evolve(OTHER, inputs={"git": "https://example.com/x.git", "rev": "0a" * 20})
    told: list[str] = []
    first = place.bake(moving, fixed)
    second = place.bake(moving, fixed, name="again", told=told)
    assert [command[-3] for command in place.tool.commands] == [
        "--dependency=build-hello",
        "--dependency=build-other",
        "--dependency=build-hello",
    ]
    assert "build hello: 'v1.2' can change, so it is built each time" in told
    assert first.records == second.records
    assert [bool(record.key) for record in first.records] == [False, True]
    assert [entry.build for entry in place.store.entries()] == ["other"]


def test_an_image_without_builds_is_baked_as_it_always_was(place: Place) -> None:
    made = place.bake()
    assert (made.records, made.arguments, made.diagnostics) == ((), (), ())
    assert sorted(path.name for path in place.cache.iterdir()) == ["build", "packages"]


def test_an_interrupt_while_building_leaves_nothing(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object, **__: object) -> Completed:
        raise KeyboardInterrupt

    monkeypatch.setattr(PlayedTool, "run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        place.bake(HELLO)
    assert place.store.entries() == ()
    assert sorted(path.name for path in place.cache.iterdir()) == ["build", "builds", "packages"]
    monkeypatch.undo()
    assert place.bake(HELLO, name="again").records[0].key


OWN = ["‣ Building build-hello image", "‣  Running prepare script x", "‣ build hello: laying out its source"]


@pytest.mark.parametrize(
    ("lines", "step"),
    [
        ([], "making its environment"),
        (["‣  Installing Debian", "E: no space"], "making its environment"),
        (["‣  Running prepare script /t/fetch.sh in build overlay…", "curl: (6)"], "fetching its dependencies"),
        (["‣  Running prepare script x", "‣  Running build script x", '‣ "x" returned 1'], "compiling"),
        ([*OWN, "‣ build hello: applying the patch 01-a b.patch", "1 out of 1"], "applying the patch 01-a b.patch"),
        ([*OWN, "‣ build hello: testing", *map(str, range(1000)), '‣ "y" returned 1'], "testing"),
        (["‣ [build-hello]  Running build script x", "‣ build hello: testing"], "testing"),
        ([*OWN, "‣ build other: testing"], "laying out its source"),
        ([*OWN, "build hello: testing", "‣ building hello: x", "‣ build : x"], "laying out its source"),
    ],
)  # fmt: skip
def test_the_step_is_read_off_the_output(lines: list[str], step: str) -> None:
    assert functools.reduce(next_step, lines, BuildStep("hello")) == BuildStep("hello", step)


def test_of_several_builds_the_last_one_that_began_is_meant() -> None:
    second = ["‣ Building build-other image", "‣ [build-other] Running build script x", "‣ build other: compiling"]
    found = functools.reduce(next_step, [*OWN, *second], BuildStep())
    assert found == BuildStep("other", "compiling")
    assert next_step(found, "‣ Building node image") == BuildStep()
    assert functools.reduce(next_step, ["‣ [main] Running build script x", "x"], BuildStep()) == BuildStep()


def test_the_line_for_a_shell_can_be_pasted(place: Place) -> None:
    place.tool.broken = "no"
    with pytest.raises(DiagnosticError) as raised:
        place.bake(HELLO, recipe="my recipes/it's.py")
    line = raised.value.diagnostics[0].fix.partition(": ")[2]
    expected = ["tdxc", "build", "my recipes/it's.py", "--profile", "dev", "--debug-shell", "hello"]
    assert shlex.split(line) == expected
