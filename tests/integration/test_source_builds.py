"""Source builds for real: the example baked cold and warm, booted, built again elsewhere, failing, and looked into.

The cache of builds is the test's own; tools and packages are the user's.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import http.server
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import threading
import time
import urllib.parse
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import attrs
import pytest
from support.commands import QUICKLY
from support.consoles import BOOT_TIMEOUT_S
from support.dotnet import (
    RUNTIME_TITLE,
    SDK_ARCHIVE,
    SDK_SHA256,
    sdk_archive,
    serving,
    write_openssl,
    write_project,
)
from support.fetched_sources import fetched_sources
from support.suites import NEWER_SUITE
from tdxc_runtime.backends.base import BakeRequest
from tdxc_runtime.backends.local import LocalBackend
from tdxc_runtime.backends.mkosi_tool import find_mkosi
from tdxc_runtime.backends.workplace import prepare_workplace
from tdxc_runtime.builds import BuildStore, read_builds
from tdxc_runtime.builds.run import MadeBuilds, made_builds
from tdxc_runtime.builds.store import CacheEntry
from tdxc_runtime.toolsroot import cache_folder
from tdxc_runtime.vm import ConsoleLine, Machine, UkiOnDisk, boot

ROOT = Path(__file__).resolve().parents[2]
PROGRAMS = ("hello-c", "hello-dotnet", "hello-go", "hello-rust", "hello-script")
DOTNET_IN_IMAGE = """
img.install("libstdc++6")
img.service(
    "hello-dotnet",
    exec="/opt/hello-dotnet/hello-dotnet",
    type="oneshot",
    overrides={"MemoryDenyWriteExecute": "no"},
    extra_unit={"Service": {"StandardOutput": "journal+console", "SystemCallFilter": "sched_setaffinity"}},
)
"""
FAILING = """\
from tdx import Build, Image

img = Image("failing", base="debian/trixie")
img.build(
    Build.script(
        name="report",
        src="./report",
        build_script="cat words.txt; echo made > made.txt; no-such-command",
        artifacts={"made.txt": "/usr/share/made.txt"},
    )
)
"""

pytestmark = pytest.mark.integration


@attrs.frozen
class Bench:
    """A folder with a cache of builds of its own."""

    path: Path

    @property
    def cache(self) -> Path:
        """Tools and packages are those of the user, so that nothing is fetched twice."""
        folder = self.path / "cache"
        folder.mkdir(parents=True, exist_ok=True)
        for name in ("tools", "packages"):
            with contextlib.suppress(FileExistsError):
                (cache_folder() / name).mkdir(parents=True, exist_ok=True)
                (folder / name).symlink_to(cache_folder() / name)
        return folder

    @property
    def store(self) -> BuildStore:
        return BuildStore(self.cache / "builds")

    def tdxc(self, *arguments: str | Path, stdin: str = "", **variables: str) -> subprocess.CompletedProcess[str]:
        """Run the program as a user does."""
        return subprocess.run(
            [sys.executable, "-m", "tdxc.cli", *map(str, arguments)],
            cwd=self.path,
            env={**os.environ, "TDXVM_CACHE": str(self.cache), **variables},
            input=stdin,
            capture_output=True,
            text=True,
        )

    @property
    def downloads(self) -> Path:
        return self.cache / "downloads"

    def make_builds(
        self, recipe: Path, *, offline: bool = False, suite: str = LocalBackend().suite
    ) -> tuple[MadeBuilds, list[str], float]:
        """Compile and make the builds alone: the result, what was told, and the seconds that it took.

        ``suite``: that of the tools root; mkosi is 25.3 in the default one, 27 or newer in ``NEWER_SUITE``.
        """
        tree = self.path / "tree"
        assert self.tdxc("compile", recipe, "-o", tree).returncode == 0
        request = BakeRequest(tree=tree, output=self.path / "out", cache=self.cache, offline=offline)
        tool = find_mkosi(cache=self.cache, mirror="", progress=None, suite=suite)
        scratch = self.path / f"scratch-{time.monotonic_ns()}"
        told: list[str] = []
        began = time.monotonic()
        workplace = prepare_workplace(request, tool, scratch)
        builds = read_builds(tree, ())
        log = self.path / "builds.log"
        with made_builds(workplace, builds, cache=self.cache, log=log, progress=told.append) as made:
            assert {path.name for path in (scratch / "output").glob("*.tar")} == {f"build-{b.name}.tar" for b in builds}
        return made, told, time.monotonic() - began


@pytest.fixture(scope="module")
def recipes(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The example in both forms, with a .NET program as well: its SDK is no package of Debian's."""
    folder = tmp_path_factory.mktemp("recipes")
    shutil.copytree(ROOT / "examples/builds", folder / "builds")
    write_project(folder / "program")
    write_openssl(folder / "program/openssl")
    with serving(sdk_archive().parent) as address:
        build = dotnet_build(f"{address}/{SDK_ARCHIVE}")
        text = (ROOT / "examples/builds.py").read_text()
        (folder / "builds.py").write_text(f"{text}\nimg.build(Build.dotnet(**{build!r}))\n{DOTNET_IN_IMAGE}")
        text = (ROOT / "examples/builds.yaml").read_text()
        (folder / "builds.yaml").write_text(
            text.replace("\nbuilds:\n", f"\nbuilds:\n  - dotnet: {json.dumps(build)}\n")
        )
        yield folder


def dotnet_build(url: str) -> dict[str, object]:
    """The arguments of a build that also brings the runtime, from the SDK, and runs the program before it does."""
    runtime = "mkdir -p runtime/shared && cp -R ../toolchain/host runtime && "
    runtime += "cp -R ../toolchain/shared/Microsoft.NETCore.App runtime/shared"
    return {
        "name": "hello-dotnet",
        "src": "./program/",
        "project": "hello-dotnet.csproj",
        "sdk_version": "3.1",
        "toolchain": {"tarball": url, "sha256": SDK_SHA256},
        "self_contained": False,
        "output": "/opt/hello-dotnet",
        "env": {"LD_LIBRARY_PATH": "/var/lib/tdxc-build/hello-dotnet/source/openssl"},
        "test": f"dotnet ../out/hello-dotnet/hello-dotnet.dll && {runtime}",
        "artifacts": {"runtime": "/usr/share/dotnet"},
    }


@pytest.fixture(scope="module")
def cold(recipes: Path, tmp_path_factory: pytest.TempPathFactory) -> Bench:
    """The example with more builds, of .NET and of fetched sources, baked with an empty cache."""
    bench = Bench(tmp_path_factory.mktemp("builds"))
    began = time.monotonic()
    with fetched_sources(recipes, bench.path / "served") as more:
        (recipes / "more.py").write_text((recipes / "builds.py").read_text() + more)
        direct = ",".join(part for part in (os.environ.get("NO_PROXY", ""), "127.0.0.1") if part)
        done = bench.tdxc(
            "build", recipes / "more.py", *QUICKLY, TZ="UTC", LC_ALL="C", NO_PROXY=direct, no_proxy=direct
        )
    assert done.returncode == 0, done.stderr
    print(f"cold bake: {time.monotonic() - began:.0f} s\n{done.stderr}")
    for program in (*PROGRAMS, "words"):
        assert f"build {program}: not in the cache; building it" in done.stderr
    assert re.search(r"build show-words: '[0-9a-f]{10}' can change, so it is built each time", done.stderr)
    return bench


@pytest.fixture(scope="module")
def console(cold: Bench) -> str:
    """Everything on the console until all programs have run."""
    lines: list[ConsoleLine] = []
    uki = cold.path / "build/output/builds.efi"
    with boot(Machine(boot=UkiOnDisk(uki=uki), vcpus=1), on_line=lines.append) as machine:
        for _ in (*PROGRAMS, "show-words"):  # in whatever order systemd starts them
            machine.console.wait_for(rf"(?:{'|'.join(PROGRAMS)}): |words\.key=", BOOT_TIMEOUT_S)
    text = "\n".join(line.text for line in lines)
    print("\n".join(line for line in text.splitlines() if "hello-" in line or "words" in line))
    return text


def entries(bench: Bench) -> list[CacheEntry]:
    """What the cache has of the example's own builds."""
    return [entry for entry in bench.store.entries() if entry.build in PROGRAMS]


def archives(bench: Bench) -> Mapping[str, str]:
    """Name and key of each build of the example's in a cache, and the SHA-256 of what it made."""
    return {f"{entry.build} {entry.key}": entry.sha256 for entry in entries(bench)}


def test_each_program_runs_in_the_image(console: str) -> None:
    assert "hello-go: Hello, trust domain (Linux/amd64)" in console
    assert 'hello-c: "Hello, hello, hello, trust domain" came back whole, crc32 f83afd22' in console
    assert "hello-script: ahoj bonjour hello salve" in console
    assert f"hello-dotnet: Hello, trust domain ({RUNTIME_TITLE})" in console
    assert "Failed to start" not in console


def test_artifacts_have_the_modes_and_owners_that_the_recipe_gives_them(console: str) -> None:
    """Of a tarball with a patch, told by a program from a commit that is named by its first digits."""
    assert "apple fig pear recipe" in console
    (line,) = [line for line in console.splitlines() if "words.key=" in line]
    assert re.findall(r"(\S+)=(\S+)", line) == [
        ("/opt", "755:root:root"),
        ("/opt/words", "755:keeper:keeper"),
        ("/opt/words/helper", "4755:root:root"),
        ("/opt/words/own.txt", "640:root:root"),
        ("/opt/words/sub", "755:keeper:keeper"),
        ("/opt/words/sub/words.txt", "644:keeper:keeper"),
        ("/etc/words.key", "600:root:root"),
    ]


def test_the_program_that_runs_is_the_one_that_was_built(cold: Bench, console: str) -> None:
    program = members(cold, "hello-rust")["./usr/bin/hello-rust"][1]
    assert f"hello-rust: hello, I am {hashlib.sha256(program).hexdigest()}" in console
    assert b"/var/lib/tdxc-build" not in program


def test_the_output_names_each_build_with_its_key_and_holds_no_archive(cold: Bench) -> None:
    output = cold.path / "build/output"
    builds = json.loads((output / "image.json").read_text())["builds"]
    names = sorted((*PROGRAMS, "show-words", "words"))
    assert [(build["name"], build["network"]) for build in builds] == [(name, False) for name in names]
    assert {f"{build['name']} {build['key']}" for build in builds if build["name"] in PROGRAMS} == set(archives(cold))
    assert [build["name"] for build in builds if not build["key"]] == ["show-words"]
    assert [path.name for path in output.iterdir() if path.name.startswith("build-")] == []


def members(bench: Bench, build: str) -> dict[str, tuple[tarfile.TarInfo, bytes]]:
    """What a build made: each entry of its archive and the content of files, by path."""
    entry = bench.store.newest(build)
    assert entry is not None
    with tarfile.open(bench.store.folder / entry.key / "rootfs.tar") as archive:
        found = [(member, archive.extractfile(member)) for member in archive.getmembers()]
        return {member.name: (member, file.read() if file else b"") for member, file in found}


@pytest.mark.parametrize("build", PROGRAMS)
def test_archives_hold_artifacts_alone_with_fixed_owners_and_times(cold: Bench, build: str) -> None:
    found = members(cold, build)
    assert list(found) == sorted(found, key=lambda name: name.split("/"))
    assert {(member.uid, member.gid, member.mtime) for member, _ in found.values()} == {(0, 0, 0)}
    if build != "hello-dotnet":
        assert list(found) == [".", "./usr", "./usr/bin", f"./usr/bin/{build}"]
        assert {member.mode for member, _ in found.values()} == {0o755}


def test_a_dotnet_program_has_its_modes_and_no_path_of_the_build(cold: Bench) -> None:
    ends = {"": 0o755, ".deps.json": 0o644, ".dll": 0o644, ".pdb": 0o644, ".runtimeconfig.json": 0o644}
    program = {
        member.name: (member.mode, content)
        for member, content in members(cold, "hello-dotnet").values()
        if member.name.startswith("./opt/hello-dotnet/")
    }
    assert {name: mode for name, (mode, _) in program.items()} == {
        f"./opt/hello-dotnet/hello-dotnet{end}": mode for end, mode in ends.items()
    }
    for _, content in program.values():
        for path in ("tdxc-build", cold.path.name):
            assert path.encode() not in content
            assert path.encode("utf-16-le") not in content


def test_built_again_elsewhere_each_program_is_the_same(
    cold: Bench, recipes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another folder, clock, time zone, umask and number of processors; and the recipe in its other form.

    Dependencies come from what was downloaded the first time, as there is no network.
    """
    elsewhere = Bench(tmp_path / "another folder")
    elsewhere.path.mkdir()
    elsewhere.downloads.symlink_to(cold.downloads)
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "GOPROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    processors = os.sched_getaffinity(0)
    umask = os.umask(0o077)
    try:
        os.sched_setaffinity(0, {min(processors)})
        _, told, seconds = elsewhere.make_builds(recipes / "builds.yaml", offline=True)
    finally:
        os.sched_setaffinity(0, processors)
        os.umask(umask)
    assert sum("building it" in line for line in told) == len(PROGRAMS)
    assert archives(elsewhere) == archives(cold)
    for name, digest in sorted(archives(cold).items()):
        print(f"{name[:30]}  {digest}")
    print(f"builds alone, cold, on one processor: {seconds:.0f} s")


def test_a_warm_cache_builds_nothing_and_one_changed_flag_builds_one(cold: Bench, recipes: Path) -> None:
    recipe = recipes / "builds.py"
    made, told, seconds = cold.make_builds(recipe)
    assert not [line for line in told if "building it" in line]
    assert len(made.records) == len(PROGRAMS)
    print(f"builds alone, warm: {seconds:.1f} s")
    text = recipe.read_text().replace('go_version="1.24",', 'go_version="1.24",\n        ldflags="-X main.unused=1",')
    (recipes / "changed.py").write_text(text)
    _, told, _ = cold.make_builds(recipes / "changed.py")
    assert [line for line in told if "building it" in line] == [
        "build hello-go: changed: file.build.sh, ldflags; building it"
    ]
    why = cold.tdxc("cache", "why", "hello-go")
    print(why.stdout)
    lines = why.stdout.splitlines()
    assert re.fullmatch(r"hello-go \([0-9a-f]{12}\), .*: built again, as these inputs had changed since \S+", lines[0])
    assert re.fullmatch(r"  file\.build\.sh: sha256:\S+ executable -> sha256:\S+ executable", lines[1])
    assert lines[2:] == ["  ldflags: new, -X main.unused=1"]


@pytest.fixture(scope="module")
def failing(tmp_path_factory: pytest.TempPathFactory) -> Bench:
    bench = Bench(tmp_path_factory.mktemp("failing"))
    (bench.path / "report").mkdir()
    (bench.path / "report/words.txt").write_text("these words are the source\n")
    (bench.path / "recipe.py").write_text(FAILING)
    return bench


def test_a_failing_build_says_which_where_and_how_to_look(failing: Bench) -> None:
    done = failing.tdxc("build", "recipe.py", "--log", "log/bake.log")
    print(done.stderr)
    log = failing.path / "log/bake-build-report.log"
    assert done.returncode == 1
    assert "error[E_BUILD]: build 'report': mkosi failed with exit status 127 while compiling" in done.stderr
    assert "no-such-command: command not found" in done.stderr
    assert f"the whole log is in {log}" in done.stderr
    assert "tdxc build recipe.py --debug-shell report" in done.stderr
    assert "these words are the source" in log.read_text()
    assert not (failing.path / "build/output").exists()
    assert [path.name for path in (failing.path / "build").iterdir()] == ["mkosi"]
    assert failing.store.entries() == ()


def test_a_shell_in_the_environment_of_a_build_has_its_sources_and_no_network(failing: Bench) -> None:
    commands = "pwd; cat words.txt; env | cut -d = -f 1; exit 5\n"
    done = failing.tdxc(
        "build", "recipe.py", "--debug-shell", "report", stdin=commands, HTTPS_PROXY="http://127.0.0.1:9"
    )
    print(done.stdout, done.stderr)
    assert done.returncode == 0
    assert "/var/lib/tdxc-build/report/source" in done.stdout
    assert "these words are the source" in done.stdout
    assert "SOURCE_DATE_EPOCH" in done.stdout
    assert "PROXY" not in done.stdout
    assert "eth" not in done.stdout
    assert failing.store.entries() == ()
    assert not (failing.path / "build/output").exists()
    assert failing.tdxc("build", "recipe.py", "--debug-shell", "reprt").stderr.count("did you mean 'report'?") == 1


@attrs.frozen
class Module:
    """A Go module as its proxy serves it; hashes are those of golang.org/x/mod/sumdb/dirhash, "Hash1"."""

    path: str

    @property
    def files(self) -> dict[str, bytes]:
        name = self.path.rpartition("/")[2]
        source = f"package {name.lower()}\n\nconst Name = {name!r}\n".replace("'", '"')
        return {"a.go": source.encode(), "go.mod": f"module {self.path}\n\ngo 1.21\n".encode()}

    @property
    def archive(self) -> bytes:
        data = io.BytesIO()
        with zipfile.ZipFile(data, "w") as archive:
            for name, content in self.files.items():
                archive.writestr(zipfile.ZipInfo(f"{self.path}@v1.0.0/{name}"), content)
        return data.getvalue()

    @property
    def sums(self) -> str:
        whole = hash1({f"{self.path}@v1.0.0/{name}": content for name, content in self.files.items()})
        return f"{self.path} v1.0.0 {whole}\n{self.path} v1.0.0/go.mod {hash1({'go.mod': self.files['go.mod']})}\n"

    def served(self) -> dict[str, bytes]:
        place = "/" + re.sub("[A-Z]", lambda found: f"!{found[0].lower()}", self.path) + "/@v/v1.0.0"
        info = b'{"Version":"v1.0.0","Time":"2024-01-01T00:00:00Z"}'
        return {f"{place}.info": info, f"{place}.mod": self.files["go.mod"], f"{place}.zip": self.archive}


def hash1(files: Mapping[str, bytes]) -> str:
    lines = "".join(f"{hashlib.sha256(files[name]).hexdigest()}  {name}\n" for name in sorted(files))
    return "h1:" + base64.b64encode(hashlib.sha256(lines.encode()).digest()).decode()


@contextlib.contextmanager
def module_proxy(*modules: Module) -> Iterator[tuple[str, list[str]]]:
    """A Go module proxy, and the paths that it was asked for."""
    asked: list[str] = []
    known = {path: data for module in modules for path, data in module.served().items()}

    class Proxy(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            path = urllib.parse.unquote(self.path)
            asked.append(path)
            if path not in known:
                self.send_error(404, "not here")
                return
            self.send_response(200)
            self.send_header("Content-Length", str(len(known[path])))
            self.end_headers()
            self.wfile.write(known[path])

        def log_message(self, *_: object) -> None: ...

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}", asked
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_changed_source_line_downloads_nothing_again_but_what_was_damaged(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The settings of the caller lead to a proxy that counts; they are not part of the tree.

    The second time a newer mkosi builds, which keeps the lists of packages elsewhere and shares the downloads.
    """
    bench = Bench(tmp_path)
    modules = (Module("example.test/greet"), Module("example.test/Upper"))
    source = tmp_path / "program"
    source.mkdir()
    (source / "go.mod").write_text(
        "module example.test/program\n\ngo 1.21\n\nrequire (\n"
        + "".join(f"\t{module.path} v1.0.0\n" for module in modules)
        + ")\n"
    )
    (source / "go.sum").write_text("".join(module.sums for module in modules))
    program = (
        'package main\n\nimport (\n\tupper "example.test/Upper"\n\t"example.test/greet"\n)\n\n'
        "func main() { println(greet.Name, upper.Name) }\n"
    )
    (source / "main.go").write_text(program)
    recipe = tmp_path / "recipe.py"
    recipe.write_text(
        "from tdx import Build, Image\n"
        "img = Image('proxied', base='debian/trixie')\n"
        "img.build(Build.go(name='program', src='./program', output='/usr/bin/program'))\n"
    )
    monkeypatch.setenv("GOSUMDB", "off")
    with module_proxy(*modules) as (address, asked):
        monkeypatch.setenv("GOPROXY", address)
        bench.make_builds(recipe)
        assert {path for path in asked if path.endswith(".zip")} == {
            "/example.test/greet/@v/v1.0.0.zip",
            "/example.test/!upper/@v/v1.0.0.zip",
        }
        assert len(list(bench.downloads.iterdir())) == 4
        asked.clear()
        damaged = next(path for path in bench.downloads.iterdir() if path.read_bytes() == modules[1].archive)
        damaged.write_bytes(modules[0].archive)
        (source / "main.go").write_text(program.replace("println(", 'println("again", '))
        _, told, _ = bench.make_builds(recipe, suite=NEWER_SUITE)
    assert "build program: changed: file.src/main.go, tool.mkosi; building it" in told
    assert asked == ["/example.test/!upper/@v/v1.0.0.zip"]
    assert damaged.read_bytes() == modules[1].archive
    tree = "".join(path.read_text() for path in (tmp_path / "tree/mkosi.images").rglob("*.sh"))
    assert address not in tree
