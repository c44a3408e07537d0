"""What a build becomes: toolchain, environment, shell text; and what is refused with which words."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from support.authored import at, resolved, run
from support.builds import authored_build, local_source
from support.commands import invoke
from tdxc import records
from tdxc.diagnostics import Code, Diagnostic
from tdxc.ir import Artifact, Blob, Build, BuildLanguage, Repository, ResolvedBuild, SourceFile, Toolchain
from tdxc.passes.lower_builds import LowerBuilds

MADE = (Artifact(span=at(6), source="", dest="/usr/bin/tool"),)
MAIN = {"main.go": "package main\n", "cmd/x/main.go": "package main\n"}
GO_MOD = {"go.mod": "module x\n\nrequire example.com/y v1.0.0\n", **MAIN}


def build(language: BuildLanguage, **changes: Any) -> Build:
    return authored_build(language, **{"span": at(6), "artifacts": MADE, **changes})


def go(files: dict[str, str] | None = None, **changes: Any) -> Build:
    source = local_source({**GO_MOD, "go.sum": "", **(files or {})})
    return build(BuildLanguage.GO, **{"source": source, **changes})


def rust(**changes: Any) -> Build:
    return build(BuildLanguage.RUST, **{"source": local_source({"Cargo.lock": "", "Cargo.toml": ""}), **changes})


def dotnet(**changes: Any) -> Build:
    files = {"src/App/packages.lock.json": "{}", "src/App/App.csproj": ""}
    return build(BuildLanguage.DOTNET, **{"source": local_source(files), "package": "src/App", **changes})


def asked(version: str, **fields: str) -> Toolchain:
    return Toolchain(span=at(7), version=version, **fields)


def lower(authored: Build, reference: str = "debian/trixie", **changes: Any) -> ResolvedBuild:
    image, found = run(LowerBuilds(), resolved(reference, builds=(authored,), **changes))
    assert found == ()
    (lowered,) = image.builds
    return lowered


def fault(authored: Build, reference: str = "debian/trixie", **changes: Any) -> Diagnostic:
    image, found = run(LowerBuilds(), resolved(reference, builds=(authored,), **changes))
    assert image.builds == ()
    (only,) = found
    return only


def packages(lowered: ResolvedBuild) -> list[str]:
    return [package.name for package in lowered.packages]


def test_go_is_static_stripped_and_without_paths() -> None:
    lowered = lower(go(toolchain=asked("1.24"), ldflags="-X main.version=1", features=("a", "b"), package="./cmd/x"))
    assert packages(lowered) == ["ca-certificates", "golang-1.24-go"]
    environment = dict(lowered.environment)
    assert environment["CGO_ENABLED"] == "0"
    assert environment["GOTOOLCHAIN"] == "local"
    assert environment["PATH"].startswith("/usr/lib/go-1.24/bin:")
    text = lowered.compile.replace(" \\\n    ", " ")
    assert text.startswith(
        "GOPROXY=off go build -trimpath -buildvcs=false -ldflags '-s -w -buildid= -X main.version=1'"
    )
    assert text.endswith("-tags a,b -o /var/lib/tdxc-build/tool/out/tool ./cmd/x")
    assert lowered.fetch.splitlines()[-2].strip() == "fetch_modules"
    assert lowered.artifacts[0].source == "out/tool"


def test_cgo_brings_a_c_compiler_that_maps_its_folder() -> None:
    lowered = lower(go(cgo=True, environment=(("CGO_CFLAGS", "-DX"),)))
    assert {"gcc", "libc6-dev", "pkg-config"} <= set(packages(lowered))
    environment = dict(lowered.environment)
    assert environment["CGO_ENABLED"] == "1"
    assert environment["CGO_CFLAGS"].endswith("-ffile-prefix-map=/var/lib/tdxc-build/tool=/usr/src/tool -DX")


def test_rust_is_locked_with_one_code_generation_unit() -> None:
    lowered = lower(rust(features=("tdx", "sgx"), package="prover", environment=(("RUSTFLAGS", "-Copt-level=2"),)))
    assert packages(lowered) == ["ca-certificates", "cargo", "rustc"]
    environment = dict(lowered.environment)
    assert environment["CARGO_PROFILE_RELEASE_CODEGEN_UNITS"] == "1"
    assert environment["CARGO_INCREMENTAL"] == "0"
    flags = environment["RUSTFLAGS"].split()
    assert "--remap-path-prefix=/var/lib/tdxc-build/tool/source=/usr/src/tool" in flags
    assert flags[-1] == "-Copt-level=2"
    assert lowered.fetch.splitlines()[-1] == "fetch_crates"
    text = lowered.compile.replace(" \\\n    ", " ")
    assert "cargo build --release --locked --offline --package prover --features tdx,sgx --bin tool\n" in text


def test_dotnet_is_deterministic_and_restored_in_locked_mode() -> None:
    lowered = lower(dotnet(toolchain=asked("8.0"), system="self-contained"), "ubuntu/noble")
    assert packages(lowered) == ["ca-certificates", "dotnet-sdk-8.0"]
    restore = lowered.fetch.replace(" \\\n    ", " ").splitlines()[1]
    assert restore == (
        "dotnet restore src/App --locked-mode --use-lock-file -p:RuntimeIdentifier=linux-x64 -p:SelfContained=true"
        ' ${tdxc_offline:+--source "$HOME"}'
    )
    for option in (
        "-p:Deterministic=true",
        "-p:ContinuousIntegrationBuild=true",
        "-p:PathMap=/var/lib/tdxc-build/tool/source=/usr/src/tool%2C/var/lib/tdxc-build/tool/cache/nuget=/usr/src/nuget",
        "--no-restore",
        "--self-contained true",
    ):
        assert option in lowered.compile


@pytest.mark.parametrize(
    ("mark", "step", "package"),
    [
        ("CMakeLists.txt", "cmake -S . -B build", "cmake"),
        ("meson.build", "meson setup build", "meson"),
        ("configure", "./configure --prefix=/usr", "make"),
        ("configure.ac", "autoreconf --force --install", "autoconf"),
        ("Makefile", 'make -j"$(nproc)"', "make"),
    ],
)
def test_c_is_built_as_the_source_shows(mark: str, step: str, package: str) -> None:
    lowered = lower(build(BuildLanguage.C, source=local_source({mark: ""}), options=("-DA=b c",)))
    assert step in lowered.compile
    assert "'-DA=b c'" in lowered.compile
    assert {"gcc", "libc6-dev", package} <= set(packages(lowered))
    environment = dict(lowered.environment)
    assert "-ffile-prefix-map=/var/lib/tdxc-build/tool/source=/usr/src/tool" in environment["CFLAGS"]
    assert "D" in environment["ARFLAGS"]


def test_a_compiler_of_another_version_is_asked_for_by_its_name() -> None:
    lowered = lower(build(BuildLanguage.C, source=local_source({"Makefile": ""}), toolchain=asked("13")))
    assert {"gcc-13", "g++-13"} <= set(packages(lowered))
    assert "gcc" not in packages(lowered)
    assert dict(lowered.environment)["CC"] == "gcc-13"
    assert lowered.version_command == "gcc-13 -dumpfullversion"


def test_a_source_that_does_not_show_its_build_system_has_to_say_it() -> None:
    assert "system=" in fault(build(BuildLanguage.C)).fix
    remote = fault(build(BuildLanguage.C, source=local_source(git="https://example.org/x", rev="main")))
    assert (remote.code, str(remote.span)) == (Code.E_VALUE, "recipe.py:6:1")
    lower(build(BuildLanguage.C, source=local_source(git="https://example.org/x", rev="main"), system="make"))


def test_the_environment_holds_nothing_of_the_image() -> None:
    image, _ = run(LowerBuilds(), resolved(builds=(go(build_deps=("libfoo-dev",)),)))
    assert "libfoo-dev" in packages(image.builds[0])
    assert not {package.name for package in (*image.packages, *image.build_packages)} & set(packages(image.builds[0]))


@pytest.mark.parametrize(
    ("authored", "lock", "command"),
    [
        (build(BuildLanguage.GO, source=local_source(GO_MOD)), "go.sum", "go mod tidy"),
        (rust(source=local_source({"Cargo.toml": ""})), "Cargo.lock", "cargo generate-lockfile"),
        (
            dotnet(
                source=local_source({"src/App/App.csproj": ""}),
                toolchain=asked("8.0", url="https://example.org/s.tar.gz", sha256="0" * 64),
            ),
            "src/App/packages.lock.json",
            "dotnet restore src/App -p:RuntimeIdentifier=linux-x64 --use-lock-file",
        ),
    ],
    ids=["go", "rust", "dotnet"],
)
def test_a_missing_lock_file_is_an_error_with_the_command_that_makes_it(
    authored: Build, lock: str, command: str
) -> None:
    found = fault(authored)
    assert found.code is Code.E_BUILD
    assert f"the source has no {lock}" in found.message
    assert f"`{command}`" in found.fix


@pytest.mark.parametrize(
    "text",
    [
        "module x\n",
        "module x\n\nrequire (\n)\n",
        "module x\n// require example.com/y v1.0.0\n",
        "module x\nrequire example.com/y v0.0.0\nreplace example.com/y => ./y\n",
        'module x\nrequire (\n\t"a.b/y" v0.0.0 // indirect\n)\nreplace (\n\ta.b/y v0.0.0 => ../y // x\n)\n',
    ],
)
def test_a_go_program_without_modules_from_elsewhere_needs_no_lock_file(text: str) -> None:
    lower(build(BuildLanguage.GO, source=local_source({**MAIN, "go.mod": text})))


@pytest.mark.parametrize(
    "text",
    [
        "module x\nrequire example.com/y v1.0.0\n",
        "module x\nrequire(\n\texample.com/y v1.0.0\n)\n",
        "module x\nrequire example.com/y v1.0.0\nreplace example.com/y => example.com/z v1.0.0\n",
        "module x\nrequire example.com/y v1.0.0\nreplace example.com/z => ./z\n",
    ],
)
def test_a_go_program_with_modules_from_elsewhere_needs_one(text: str) -> None:
    assert "no go.sum" in fault(build(BuildLanguage.GO, source=local_source({**MAIN, "go.mod": text}))).message


def test_modules_in_the_source_need_no_lock_file() -> None:
    lower(build(BuildLanguage.GO, source=local_source({**GO_MOD, "vendor/modules.txt": ""})))


def test_what_a_patch_adds_is_there() -> None:
    patch = SourceFile(
        span=at(6), path="01.patch", content=Blob.of(b"--- /dev/null\n+++ b/go.sum\n@@ -0,0 +1 @@\n+x\n")
    )
    lower(build(BuildLanguage.GO, source=local_source(GO_MOD), patches=(patch,)))


NO_PROJECT = {
    "go": (build(BuildLanguage.GO, source=local_source(MAIN)), "no go.mod, so it is no Go module", "go mod init"),
    "go below": (
        build(BuildLanguage.GO, source=local_source({"a/b/go.mod": "", "tool/go.mod": ""})),
        "no go.mod",
        "folder 'tool'",
    ),
    "go files": (
        build(BuildLanguage.GO, source=local_source({"go.mod": "module x\n", "cmd/b/b.go": "package main\n"})),
        "no Go files beside its go.mod",
        "package='./cmd/b'",
    ),
    "go tests alone": (
        build(BuildLanguage.GO, source=local_source({"go.mod": "module x\n", "x_test.go": "package x\n"})),
        "no Go files beside its go.mod",
        "package='./cmd/NAME'",
    ),
    "go package": (go(package="./cmd/y"), "no Go files in ./cmd/y", "package='.' (or ./cmd/x)"),
    "go library": (go(package="cmd/x"), "a package of its standard library", "package='./cmd/x'"),
    "rust": (rust(source=local_source({"src/main.rs": ""})), "no Cargo.toml, so it is no Rust package", "cargo init"),
    "rust below": (rust(source=local_source({"prover/Cargo.toml": ""})), "no Cargo.toml", "folder 'prover'"),
    "dotnet": (
        dotnet(source=local_source({"src/App/Program.cs": "", "src/Other/Other.fsproj": ""})),
        "no project file in src/App",
        "project='src/Other/Other.fsproj'",
    ),
    "dotnet file": (
        dotnet(source=local_source({"Program.cs": ""}), package="App.csproj"),
        "has no App.csproj",
        "point src= at the folder",
    ),
    "dotnet two": (
        dotnet(source=local_source({"b.csproj": "", "a.sln": ""}), package="."),
        "several project files: a.sln, b.csproj",
        "project='a.sln'",
    ),
}


@pytest.mark.parametrize("case", NO_PROJECT)
def test_a_source_that_is_no_project_is_told_before_it_is_baked(case: str) -> None:
    authored, message, fix = NO_PROJECT[case]
    authored = records.evolve(authored, source=records.evolve(authored.source, span=at(9)))
    found = fault(authored, "ubuntu/noble")
    assert (found.code, str(found.span)) == (Code.E_BUILD, "recipe.py:9:1")
    assert message in found.message
    assert fix in found.fix


def test_a_workspace_or_an_import_path_is_left_to_go() -> None:
    lower(go(package="example.com/y/cmd/y"))
    lower(build(BuildLanguage.GO, source=local_source({"go.work": "", "cmd/x/main.go": ""}), package="./cmd/x"))


def test_a_lock_file_of_a_fetched_source_is_looked_for_when_it_is_there() -> None:
    lowered = lower(build(BuildLanguage.RUST, source=local_source(git="https://example.org/x", rev="main")))
    assert lowered.fetch.splitlines()[-2:] == ["need_lock Cargo.lock 'cargo generate-lockfile'", "fetch_crates"]
    assert "git" in packages(lowered)


@pytest.mark.parametrize(
    ("authored", "reference", "has"),
    [
        (go(toolchain=asked("1.22")), "debian/bookworm", "Go 1.19"),
        (go(toolchain=asked("1.2")), "debian/trixie", "Go 1.24"),
        (rust(toolchain=asked("nightly-2024-12-01")), "debian/trixie", "Rust 1.85"),
        (dotnet(toolchain=asked("10.0")), "debian/trixie", "no .NET SDK"),
        (
            build(BuildLanguage.C, source=local_source({"Makefile": ""}), toolchain=asked("99")),
            "ubuntu/noble",
            "GCC 13",
        ),
    ],
    ids=["go", "go prefix", "nightly", "dotnet", "gcc"],
)
def test_a_version_that_the_distribution_lacks_names_both_and_the_way_out(
    authored: Build, reference: str, has: str
) -> None:
    found = fault(authored, reference)
    assert (found.code, str(found.span)) == (Code.E_VALUE, "recipe.py:7:1")
    assert authored.toolchain.version in found.message
    assert f"{reference} has {has}" in found.message
    assert "toolchain=tarball(" in found.fix


@pytest.mark.parametrize(("reference", "icu"), [("debian/bookworm", "72"), ("debian/trixie", "76")])
def test_a_pinned_sdk_gets_the_libraries_of_the_distribution_and_is_told_of_its_icu(reference: str, icu: str) -> None:
    lowered = lower(dotnet(toolchain=asked("3.1", url="https://example.org/s.tgz", sha256="0" * 64)), reference)
    assert f"libicu{icu}" in packages(lowered)
    assert dict(lowered.environment)["CLR_ICU_VERSION_OVERRIDE"] == icu
    own = dotnet(toolchain=asked("8.0"), environment=(("CLR_ICU_VERSION_OVERRIDE", "70"),))
    assert dict(lower(own, "ubuntu/noble").environment)["CLR_ICU_VERSION_OVERRIDE"] == "70"


@pytest.mark.parametrize("version", ["1.24", "1.24.4", "1"])
def test_a_version_may_be_more_or_less_exact_than_the_distributions(version: str) -> None:
    lowered = lower(go(toolchain=asked(version)))
    assert "golang-1.24-go" in packages(lowered)
    assert lowered.version_command == "go env GOVERSION | sed 's/^go//'"


def test_no_version_is_the_distributions_default_and_is_not_checked() -> None:
    assert lower(go()).version_command == ""


def test_a_declared_repository_may_have_the_sdk() -> None:
    repository = Repository(span=at(2), name="ms", uri="https://example.org/x", suites=("trixie",), key=Blob.of(b"k"))
    lowered = lower(dotnet(toolchain=asked("9.0.100")), repositories=(repository,))
    assert "dotnet-sdk-9.0" in packages(lowered)


def test_a_pinned_toolchain_comes_first_in_the_path() -> None:
    pinned = asked("1.25", url="https://example.org/go.tar.xz", sha256="a" * 64)
    lowered = lower(go(toolchain=pinned))
    assert packages(lowered) == ["ca-certificates", "curl", "xz-utils"]
    home = "/var/lib/tdxc-build/tool/toolchain"
    assert dict(lowered.environment)["PATH"].startswith(f"{home}/bin:{home}:")


@pytest.mark.parametrize(
    ("name", "unpackers"),
    [
        ("x.tar.gz", []),
        ("x.tgz?raw=1", []),
        ("x.tar.xz?raw=1", ["xz-utils"]),
        ("x.tar.zst#x.tar", ["zstd"]),
        ("download?name=x.tar.xz", ["bzip2", "xz-utils", "zstd"]),
    ],
)
def test_the_environment_can_unpack_what_is_fetched(name: str, unpackers: list[str]) -> None:
    lowered = lower(authored_build(source=local_source(tarball=f"https://example.org/{name}", sha256="a" * 64)))
    assert sorted({*packages(lowered)} - {"ca-certificates", "curl"}) == unpackers


def test_artifacts_lie_in_the_folder_that_the_build_runs_in() -> None:
    artifacts = (Artifact(span=at(6), source="bin/x", dest="/usr/bin/x"),)
    source = local_source(git="https://example.org/x", rev="0" * 40, subdir="cmd")
    assert lower(authored_build(artifacts=artifacts, source=source)).artifacts[0].source == "source/cmd/bin/x"
    for outside in ("../other", "../../../etc/passwd"):
        bad = authored_build(artifacts=(Artifact(span=at(9), source=outside, dest="/usr/bin/x"),))
        found = fault(bad)
        assert (found.code, str(found.span)) == (Code.E_PATH, "recipe.py:9:1")


ELF = "\x7fELF\x02"


@pytest.mark.parametrize(
    ("authored", "left"),
    [
        (build(BuildLanguage.C, source=local_source({"Makefile": "", "a.c": "", "a.o": ELF})), "a.o"),
        (
            authored_build(source=local_source({"lib/b.cc": "", "lib/b.o": ELF, "z.S": "", "z.o": ELF})),
            "lib/b.o and 1 more",
        ),
        (build(BuildLanguage.C, source=local_source({"Makefile": "", "tool": ELF})), "tool"),
        (
            build(BuildLanguage.C, source=local_source({"CMakeLists.txt": "", "build/CMakeCache.txt": ""})),
            "build/CMakeCache.txt",
        ),
        (
            build(
                BuildLanguage.DOTNET,
                package="App.csproj",
                source=local_source({"App.csproj": "", "packages.lock.json": "", "obj/project.assets.json": ""}),
            ),
            "obj/project.assets.json",
        ),
    ],
)
def test_a_source_in_which_somebody_has_built_is_refused(authored: Build, left: str) -> None:
    found = fault(authored, "ubuntu/noble")
    assert found.code is Code.E_BUILD
    assert found.message == f"build 'tool': the source holds what an earlier build left there: {left}"


def test_objects_without_a_source_and_scripts_with_the_programs_name_are_sources() -> None:
    files = {"Makefile": "", "blob.o": ELF, "blob.h": "", "tool": "#!/bin/sh\n", "other": ELF}
    lower(build(BuildLanguage.C, source=local_source(files)))


def test_patches_need_the_program_that_applies_them() -> None:
    patch = SourceFile(span=at(6), path="01-x.patch", content=Blob.of(b""))
    lowered = lower(authored_build(patches=(patch,)))
    assert packages(lowered) == ["patch"]
    assert lowered.patches == (patch,)


def c(**changes: Any) -> Build:
    return build(BuildLanguage.C, **{"source": local_source({"Makefile": ""}), **changes})


@pytest.mark.parametrize(
    ("authored", "name", "words"),
    [
        (authored_build(), "DESTDIR", ("the scripts of the build use", "`env DESTDIR=… COMMAND`")),
        (rust(), "work", ("the scripts of the build use", "leave it out")),
        (authored_build(), "PPID", ("means something to the shell", "`env PPID=… COMMAND`")),
        (authored_build(), "BASH_ENV", ("means something to the shell",)),
        (go(), "GOTOOLCHAIN", ("chooses the toolchain", "go_version=")),
        (go(), "CGO_ENABLED", ("say so with cgo=",)),
        (rust(), "CARGO_TARGET_DIR", ("changes where the program is made",)),
        (rust(), "CARGO_ENCODED_RUSTFLAGS", ("use RUSTFLAGS",)),
        (dotnet(), "NUGET_PACKAGES", ("is the folder",)),
        (c(toolchain=asked("14")), "CC", ("version= or toolchain=", "keep one of the two")),
    ],
)
def test_variables_that_the_steps_rely_on_cannot_be_set(authored: Build, name: str, words: tuple[str, ...]) -> None:
    with_it = records.evolve(authored, environment=(("FINE", "1"), (name, "x")))
    _, (found,) = run(LowerBuilds(), resolved("ubuntu/noble", builds=(with_it,)))
    assert found.code is Code.E_VALUE
    assert found.message.startswith(f"build 'tool': env= cannot set {name}, which ")
    assert all(word in f"{found.message} {found.fix}" for word in words)


def test_a_compiler_may_be_chosen_where_no_version_is_asked_for_and_other_languages_variables_are_free() -> None:
    lowered = lower(c(environment=(("CC", "clang"), ("GOPATH", "/x"), ("RANDOM_SEED", "1"))))
    assert {("CC", "clang"), ("GOPATH", "/x"), ("RANDOM_SEED", "1")} <= set(lowered.environment)


def test_builds_for_alpine_are_refused() -> None:
    found = fault(authored_build(span=at(6)), "alpine/3.20")
    assert (found.code, str(found.span)) == (Code.E_UNSUPPORTED, "recipe.py:6:1")


def test_one_fault_does_not_hide_the_next() -> None:
    _, found = run(LowerBuilds(), resolved(builds=(build(BuildLanguage.RUST), build(BuildLanguage.C))))
    assert [diagnostic.code for diagnostic in found] == [Code.E_BUILD, Code.E_VALUE]


@pytest.mark.parametrize("module", ["Tdxs()", "DiskEncryption(device='/dev/vdb', mount_at='/data')"])
def test_a_module_of_the_guest_on_alpine_is_one_error(tmp_path: Path, module: str) -> None:
    recipe = tmp_path / "recipe.py"
    lines = [
        "from tdx import Build, Image",
        "from tdx.modules import DiskEncryption, KeyGeneration, Tdxs",
        "img = Image('n', base='alpine/3.20')",
        f"{module}.apply(img)",
        "KeyGeneration(strategy='tpm', keep=True).apply(img)" if "Disk" in module else "",
        "img.build(Build.script(name='x', build_script='true', artifacts={'x': '/usr/bin/x'}))",
    ]
    recipe.write_text("\n".join(lines))
    found = invoke("check", recipe, "--format", "json").data()["diagnostics"]
    errors = [(fault["line"], fault["message"]) for fault in found if fault["severity"] == "error"]
    assert [line for line, _ in errors] == [5 if "Disk" in module else 4, 6]
    assert "quotes need tdx-guest, which alpine/3.20 has no Go to build with" in errors[0][1]
    assert errors[1][1].startswith("build 'x': there is no build environment")
