"""How Go, Rust, .NET and shell-script projects are fetched, compiled and tested, so that two builds are equal.

Sources: go.dev/ref/mod ("go mod download", "go mod verify"), cmd/go ("-trimpath", "-buildvcs"), cmd/link; The Cargo
Book ("Profiles", "cargo fetch", "Environment variables") and The rustc Book ("--remap-path-prefix"); .NET SDK
("Deterministic", "PathMap", "ContinuousIntegrationBuild") and NuGet ("Locking dependencies").
"""

from __future__ import annotations

import posixpath

from tdxc.ir import Build
from tdxc.passes.builds.projects import needs_go_sum
from tdxc.passes.builds.recipe import (
    Recipe,
    command,
    folder,
    has_file,
    missing_lock,
    need_lock,
    word,
)

_DOTNET_RUNTIME = "linux-x64"

_GO_FETCH = """\
# The module may begin above the folder that the build runs in.
module=$(go env GOMOD)
if [[ $module == */go.mod ]]; then
    cd "${{module%/*}}"
fi
if [[ -f vendor/modules.txt ]]; then
    echo 'The modules are in vendor/ of the source.'
else
    # Without go.sum, Go can tell its modules only where all of them are folders of the source.
    if [[ ! -f go.sum ]] && ! GOPROXY=off go list -m all > /dev/null; then
        {need_lock}
    fi
    fetch_modules
fi"""

_RUST_FETCH = """\
# The workspace, which has the lock file, may begin above the folder that the build runs in.
project=$(cargo locate-project --workspace --message-format plain)
cd "${{project%/*}}"
{need_lock}
fetch_crates"""

# The Cargo Book, "Build Cache": with a target, be it the host's own, programs are in a folder of its name.
_RUST_TAKE = """\
# The source's own .cargo/config.toml may name a target, whose programs are in a folder of its name.
programs=("$CARGO_TARGET_DIR"/release/{program})
if [[ ! -f ${{programs[0]}} ]]; then
    programs=("$CARGO_TARGET_DIR"/*/release/{program})
fi
if [[ ${{#programs[@]}} != 1 || ! -f ${{programs[0]}} ]]; then
    echo "Cargo made no single program" {program} "but for several or other targets: ${{programs[*]}}" >&2
    echo "name one target of Linux, or none, in .cargo/config.toml of the source" >&2
    exit 1
fi
install -D "${{programs[0]}}" {output}"""

# NuGet makes a lock file where there is none, also in locked mode. All files of the source have the time of the epoch.
_DOTNET_FETCH = """\
{need_lock}
{restore}
missing=$(find {source} -name packages.lock.json -newermt "@$SOURCE_DATE_EPOCH" -printf '%P ')
if [[ -n $missing ]]; then
    echo "a project that this one refers to has no lock file, so nothing pins its dependencies: $missing" >&2
    echo "make it with:" {make} >&2
    exit 1
fi"""

_DOTNET_OFFLINE = '${tdxc_offline:+--source "$HOME"}'
"""An offline bake has an empty folder as the source of packages: they are not among the downloads that are kept."""


def go(build: Build) -> Recipe:
    """Go: modules by go.sum, one static program without paths, version control stamps and build ID."""
    pinned = has_file(build, "go.sum") or has_file(build, "vendor/modules.txt")
    if build.source.is_local and not pinned and needs_go_sum(build):
        raise missing_lock(build, "go.sum", "go mod tidy")
    home = folder(build.name)
    flags = " ".join(part for part in ("-s -w -buildid=", "-extldflags=-Wl,--build-id=none" * build.cgo) if part)
    if build.ldflags:
        flags = f"{flags} {build.ldflags}"
    prefix_map = f"-O2 -g -ffile-prefix-map={home}=/usr/src/{build.name}"
    return Recipe(
        fetch=_GO_FETCH.format(need_lock=need_lock(build, "go.sum", "go mod tidy")),
        compile=command(
            "GOPROXY=off go build -trimpath -buildvcs=false",
            f"-ldflags {word(build, flags)}",
            f"-tags {word(build, ','.join(build.features))}" if build.features else "",
            f"-o {word(build, f'{home}/out/{build.program}')} {word(build, build.package or '.')}",
        ),
        version_command="go env GOVERSION | sed 's/^go//'",
        packages=("gcc", "libc6-dev", "pkg-config") if build.cgo else (),
        environment=(
            ("CGO_ENABLED", "1" if build.cgo else "0"),
            ("GOCACHE", f"{home}/cache/go-build"),
            ("GOMODCACHE", f"{home}/cache/go-mod"),
            ("GOPATH", f"{home}/cache/go"),
            ("GOTELEMETRY", "off"),
            ("GOTOOLCHAIN", "local"),
        ),
        appended=(("CGO_CFLAGS", prefix_map), ("CGO_CXXFLAGS", prefix_map)) if build.cgo else (),
        output=f"out/{build.program}",
    )


def rust(build: Build) -> Recipe:
    """Rust: crates by Cargo.lock, one code generation unit, no incremental state, no path of the build."""
    if build.source.is_local and not has_file(build, "Cargo.lock"):
        raise missing_lock(build, "Cargo.lock", "cargo generate-lockfile")
    home = folder(build.name)
    remapped = (
        f"--remap-path-prefix={home}/source=/usr/src/{build.name}",
        f"--remap-path-prefix={home}/cache/cargo=/usr/src/cargo",
        f"--remap-path-prefix={home}/cache/target=/usr/src/{build.name}/target",
    )
    taken = _RUST_TAKE.format(program=word(build, build.program), output=word(build, f"{home}/out/{build.program}"))
    compiled = command(
        "cargo build --release --locked --offline",
        f"--package {word(build, build.package)}" if build.package else "",
        f"--features {word(build, ','.join(build.features))}" if build.features else "",
        f"--bin {word(build, build.program)}",
    )
    return Recipe(
        fetch=_RUST_FETCH.format(need_lock=need_lock(build, "Cargo.lock", "cargo generate-lockfile")),
        compile=f"{compiled}\n{taken}",
        version_command="rustc --version | cut -d ' ' -f 2",
        environment=(
            ("CARGO_HOME", f"{home}/cache/cargo"),
            ("CARGO_INCREMENTAL", "0"),
            ("CARGO_PROFILE_RELEASE_CODEGEN_UNITS", "1"),
            ("CARGO_PROFILE_RELEASE_INCREMENTAL", "false"),
            ("CARGO_TARGET_DIR", f"{home}/cache/target"),
            ("CARGO_TERM_COLOR", "never"),
        ),
        appended=(("RUSTFLAGS", " ".join(remapped)),),
        output=f"out/{build.program}",
    )


def dotnet(build: Build) -> Recipe:
    """.NET: packages by packages.lock.json, a deterministic compiler, and no path of the build."""
    project = build.package
    project_folder = project.rpartition("/")[0] if project.endswith("proj") else project
    lock = posixpath.normpath(posixpath.join(project_folder, "packages.lock.json"))
    # restore's own --runtime asks for the runtime itself, even where none is published
    runtime = f"-p:RuntimeIdentifier={_DOTNET_RUNTIME}"
    make = f"dotnet restore {project} {runtime} --use-lock-file"
    if build.source.is_local and not has_file(build, lock):
        raise missing_lock(build, lock, make)
    home = folder(build.name)
    contained = "true" if build.system == "self-contained" else "false"
    return Recipe(
        fetch=_DOTNET_FETCH.format(
            need_lock=need_lock(build, lock, make),
            restore=command(
                f"dotnet restore {word(build, project)} --locked-mode --use-lock-file",
                f"{runtime} -p:SelfContained={contained}",
                _DOTNET_OFFLINE,
            ),
            source=word(build, f"{home}/source"),
            make=word(build, make),
        ),
        compile=command(
            f"dotnet publish {word(build, project)} --configuration Release --no-restore --runtime {_DOTNET_RUNTIME}",
            f"--self-contained {contained}",
            "-p:Deterministic=true -p:ContinuousIntegrationBuild=true -p:EmbedUntrackedSources=false",
            f"-p:PathMap={word(build, _dotnet_path_map(build))}",
            # else MSBuild maps the paths itself, which it can only in a working copy of git
            "-p:DeterministicSourcePaths=false -p:EnableSourceControlManagerQueries=false -p:EnableSourceLink=false",
            "-p:UseSharedCompilation=false -p:IncludeSourceRevisionInInformationalVersion=false -nodeReuse:false",
            f"--output {word(build, f'{home}/out/{build.program}')}",
        ),
        version_command="dotnet --version",
        environment=(
            ("DOTNET_CLI_HOME", f"{home}/home"),
            ("DOTNET_CLI_TELEMETRY_OPTOUT", "1"),
            ("DOTNET_GENERATE_ASPNET_CERTIFICATE", "false"),
            ("DOTNET_NOLOGO", "1"),
            ("NUGET_PACKAGES", f"{home}/cache/nuget"),
        ),
        output=f"out/{build.program}",
    )


def _dotnet_path_map(build: Build) -> str:
    """Sources of the build and of packages; a plain comma would begin another property (MSBuild, "-property")."""
    home = folder(build.name)
    return "%2C".join((f"{home}/source=/usr/src/{build.name}", f"{home}/cache/nuget=/usr/src/nuget"))


def script(build: Build) -> Recipe:
    """Any build system, by the recipe's own shell text."""
    return Recipe(compile=build.build_script.strip("\n"))
