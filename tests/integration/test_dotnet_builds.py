"""What a real .NET SDK makes of the scripts of a build: here they run without mkosi, each time in another folder.

`test_source_builds.py` has the same program in an image.
"""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from support.builds import authored_build, run_scripts
from support.dotnet import RUNTIME_TITLE, SDK_VERSION, sdk_archive, write_openssl, write_project
from support.resolved_images import SPAN, resolved_image
from tdxc import records
from tdxc.ir import Artifact, Blob, BuildLanguage, BuildSource, CompiledImage, SourceFile, Toolchain
from tdxc.passes.builds.lower import lower_build
from tdxc.tree import FileTree
from tdxc_emitters import emit_image

NAME = "hello-dotnet"

pytestmark = pytest.mark.integration


@pytest.fixture(scope="module")
def sdk(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The SDK, unpacked, and OpenSSL in ``openssl`` beside it."""
    folder = tmp_path_factory.mktemp("sdk")
    subprocess.run(["tar", "-xzf", str(sdk_archive()), "-C", str(folder), "--strip-components=1"], check=True)
    write_openssl(folder / "openssl")
    return folder


@pytest.fixture
def project(tmp_path: Path) -> Path:
    folder = tmp_path / "project"
    write_project(folder)
    return folder


def compiled(project: Path, sdk: Path, *, version: str = "3.1", without: str = "") -> FileTree:
    """The tree of an image with this project as its build, by an SDK that is there already.

    ``without``: an option of the compilation to leave out.
    """
    files = tuple(
        SourceFile(span=SPAN, path=str(path.relative_to(project)), content=Blob.of(path.read_bytes()))
        for path in sorted(project.rglob("*"))
        if path.is_file()
    )
    image = resolved_image()
    build = lower_build(
        image.base,
        authored_build(
            BuildLanguage.DOTNET,
            name=NAME,
            program=NAME,
            source=BuildSource(span=SPAN, files=files),
            toolchain=Toolchain(span=SPAN, version=version, url="file:///nowhere", sha256="0" * 64),
            artifacts=(Artifact(span=SPAN, source="", dest="/opt/hello"),),
            environment=(
                ("DOTNET_SYSTEM_GLOBALIZATION_INVARIANT", "1"),
                ("LD_LIBRARY_PATH", f"{sdk}/openssl"),
                ("PATH", f"{sdk}:/usr/bin:/bin"),
            ),
            package=f"{NAME}.csproj",
            system="framework-dependent",
        ),
    )
    assert without in build.compile
    words = [word for word in build.compile.split(" ") if not (without and word.startswith(without))]
    build = records.evolve(build, toolchain=Toolchain(span=SPAN, version=version), compile=" ".join(words))
    return emit_image(CompiledImage(span=SPAN, image=records.evolve(image, builds=(build,))))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def failure(tree: FileTree, folder: Path) -> str:
    with pytest.raises(subprocess.CalledProcessError) as caught:
        run_scripts(tree, NAME, folder)
    return str(caught.value.stdout + caught.value.stderr)


@pytest.fixture(scope="module")
def first(sdk: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    """The published files of a first build."""
    folder = tmp_path_factory.mktemp("first")
    write_project(folder / "project")
    dest = run_scripts(compiled(folder / "project", sdk), NAME, folder) / "opt/hello"
    greeting = subprocess.run(
        [dest / NAME], env={"DOTNET_ROOT": str(sdk)}, capture_output=True, text=True, check=True
    ).stdout
    assert greeting == f"hello-dotnet: Hello, trust domain ({RUNTIME_TITLE})\n"
    return files(dest)


def test_in_another_folder_it_is_the_same_and_names_neither(
    first: dict[str, bytes], project: Path, sdk: Path, tmp_path: Path
) -> None:
    again = files(run_scripts(compiled(project, sdk), NAME, tmp_path, umask=0o077) / "opt/hello")
    assert sorted(again) == [f"{NAME}{end}" for end in ("", ".deps.json", ".dll", ".pdb", ".runtimeconfig.json")]
    assert again == first
    program = again[f"{NAME}.dll"]
    assert "/usr/src/nuget/hello.words/1.0.0/contentFiles/cs/any/Words.cs".encode("utf-16-le") in program
    assert b"/usr/src/hello-dotnet/obj/Release/" in program
    for data in again.values():  # a PDB has paths by their parts
        for part in (tmp_path.name, tmp_path.parent.name, "tdxc-build"):
            assert part.encode() not in data
            assert part.encode("utf-16-le") not in data


@pytest.mark.parametrize("option", ["-p:Deterministic=", "-p:PathMap="])
def test_without_its_options_it_would_be_another(
    first: dict[str, bytes], project: Path, sdk: Path, tmp_path: Path, option: str
) -> None:
    again = files(run_scripts(compiled(project, sdk, without=option), NAME, tmp_path) / "opt/hello")
    assert again[f"{NAME}.dll"] != first[f"{NAME}.dll"]


def test_another_version_is_told_with_both(project: Path, sdk: Path, tmp_path: Path) -> None:
    text = failure(compiled(project, sdk, version="8.0"), tmp_path)
    assert text.endswith(f"the recipe asks for .NET SDK 8.0, and this environment has .NET SDK {SDK_VERSION}\n")


def test_a_package_that_is_not_the_one_of_the_lock_file_is_refused(project: Path, sdk: Path, tmp_path: Path) -> None:
    package = project / "packages/hello.words.1.0.0.nupkg"
    package.write_bytes(package.read_bytes().replace(b"Place", b"Plays"))
    assert "NU1403" in failure(compiled(project, sdk), tmp_path)


def test_a_project_that_is_referred_to_needs_its_lock_file_too(project: Path, sdk: Path, tmp_path: Path) -> None:
    (project / "words").mkdir()
    target = "<PropertyGroup><TargetFramework>netcoreapp3.1</TargetFramework></PropertyGroup>"
    (project / "words/words.csproj").write_text(f'<Project Sdk="Microsoft.NET.Sdk">{target}</Project>')
    main, lock = project / f"{NAME}.csproj", project / "packages.lock.json"
    refer = '<ProjectReference Include="words/words.csproj" /><Compile Remove="words/**" />'
    main.write_text(main.read_text().replace("  </ItemGroup>", f"  {refer}</ItemGroup>"))
    lock.write_text(lock.read_text().replace('v3.1": {\n', 'v3.1": {"words": {"type": "Project"},', 1))
    assert "nothing pins its dependencies: words/packages.lock.json" in failure(compiled(project, sdk), tmp_path)
