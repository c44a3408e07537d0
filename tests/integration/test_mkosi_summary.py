"""mkosi 25.3 and 27 read every kind of tree without a warning, and as the image says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import attrs
import pytest
from support.builds import authored_build, local_source, resolved_build
from support.mkosi_summary import Summary, summarise, tools_root
from support.resolved_images import SEED, SPAN, resolved_image
from support.suites import NEWER_SUITE, SUITES
from tdxc.driver import compile_image, load_recipe
from tdxc.ir import (
    Artifact,
    Blob,
    BuildLanguage,
    CompiledImage,
    Directory,
    EfiStub,
    File,
    KconfigOption,
    KernelArgument,
    OutputTarget,
    Package,
    Partition,
    Repository,
    ResolvedImage,
    Script,
    ScriptPhase,
    SourceFile,
    Suite,
    Toolchain,
)
from tdxc.passes.builds import lower_build
from tdxc_emitters import emit_image
from tdxc_emitters.mkosi.partitions import command_line
from tdxc_runtime.process import Bind

pytestmark = pytest.mark.integration

EXAMPLES = sorted((Path(__file__).parents[2] / "examples").glob("*.py"))
MIRROR = "http://mirror.example/debian"
GIB = 1 << 30


def rich_image(**changes: Any) -> ResolvedImage:
    """An image that uses everything that ends up in the tree."""
    image = resolved_image(
        mirror=MIRROR,
        suites=(Suite(span=SPAN, name="sid"),),
        repositories=(
            Repository(span=SPAN, name="dotnet", uri="http://p.example/x", suites=("trixie",), key=Blob.of(b"key")),
        ),
        build_packages=(Package(span=SPAN, name="golang/sid"), Package(span=SPAN, name="make")),
        files=(
            File(span=SPAN, path="/etc/a b", content=Blob.of(b"x"), mode=0o600, owner="app", group="app"),
            File(span=SPAN, path="/usr/bin/run", content=Blob.of(b"#!/bin/sh\n"), mode=0o4755),
        ),
        directories=(Directory(span=SPAN, path="/srv/data", mode=0o700),),
        scripts=tuple(Script(span=SPAN, phase=phase, name="step", text="echo step") for phase in ScriptPhase),
        builds=(
            resolved_build(
                compile="make",
                packages=(Package(span=SPAN, name="make"),),
                artifacts=(Artifact(span=SPAN, source="source/tool", dest="/usr/bin/tool", owner="app", group="app"),),
                source=local_source({"Makefile": "all:\n"}),
            ),
        ),
        efi_stub=EfiStub(span=SPAN, version="257.8-1~deb13u2", sha256="0" * 64),
    )
    options = (KconfigOption(span=SPAN, name="INTEL_TDX_GUEST", value="y"),)
    image = attrs.evolve(image, kernel=attrs.evolve(image.kernel, options=options))
    return attrs.evolve(image, **changes)


def cloud_variant(image: ResolvedImage) -> ResolvedImage:
    cmdline = (*image.kernel.cmdline, KernelArgument(span=SPAN, text="debug"))
    packages = (*image.packages, Package(span=SPAN, name="dmidecode"))
    return attrs.evolve(
        image,
        profiles=("cloud",),
        packages=tuple(sorted(packages, key=lambda package: package.name)),
        kernel=attrs.evolve(image.kernel, cmdline=cmdline),
        scripts=(*image.scripts, Script(span=SPAN, phase=ScriptPhase.POSTINST, name="more", text="true")),
        files=(*image.files, File(span=SPAN, path="/etc/cloud", content=Blob.of(b"x"))),
        output_targets=(OutputTarget(span=SPAN, name="azure"),),
    )


def all_builds() -> ResolvedImage:
    """A build of each language, and of each kind of source, toolchain and step."""
    made = (Artifact(span=SPAN, source="", dest="/usr/bin/tool"),)
    remote = [
        local_source(git="https://example.org/x", rev="main", subdir="a b"),
        local_source(tarball="https://example.org/x.tar.xz", sha256="0" * 64),
    ]
    pinned = Toolchain(span=SPAN, version="1.2", url="https://example.org/t.tar.gz", sha256="1" * 64)
    patch = SourceFile(span=SPAN, path="01-x.patch", content=Blob.of(b""))
    authored = [
        authored_build(
            language,
            name=f"{language.value}-{number}",
            source=source,
            toolchain=pinned,
            artifacts=made,
            package="x",
            system="cmake" if language is BuildLanguage.C else "self-contained",
            patches=(patch,),
            test="true",
            network=number == 1,
            environment=(("A", "b c"),),
            cgo=True,
        )
        for number, source in enumerate(remote)
        for language in (BuildLanguage.GO, BuildLanguage.RUST, BuildLanguage.DOTNET, BuildLanguage.C)
    ]
    image = resolved_image()
    return attrs.evolve(image, builds=tuple(lower_build(image.base, build) for build in authored))


def names(packages: tuple[Package, ...]) -> list[str]:
    return sorted(package.name for package in packages)


def scripts_of(summary: Summary) -> list[str]:
    settings = ("Sync", "Prepare", "Build", "PostInstallation", "Finalize", "PostOutput")
    return [path for name in settings for path in summary.paths(f"{name}Scripts")]


@pytest.mark.parametrize("suite", SUITES)
def test_summary_equals_the_image(suite: str) -> None:
    image = rich_image()
    tree = emit_image(CompiledImage(span=SPAN, image=image, variants=(cloud_variant(image),)))
    summary = summarise(tree, suite)
    assert summary.complaints == ()
    found = summary.image
    assert sorted(found["Packages"]) == names(image.packages)
    assert sorted(found["BuildPackages"]) == names(image.build_packages)
    assert " ".join(found["KernelCommandLine"]) == image.kernel.cmdline_text
    assert (found["Seed"], found["SourceDateEpoch"], found["Format"]) == (SEED, 0, "uki")
    assert (found["ImageId"], found["Distribution"], found["Release"]) == ("node", "debian", "trixie")
    assert found["WithNetwork"] is False
    assert not found["Profiles"]
    assert summary.paths("ExtraTrees") == ["mkosi.extra", "mkosi.output/build-tool.tar"]
    assert summary.image["Dependencies"] == ["build-tool"]
    assert list(summary.builds) == ["build-tool"]
    assert summary.builds["build-tool"]["BuildPackages"] == ["make"]
    assert summary.builds["build-tool"]["WithNetwork"] is False
    assert summary.paths("SandboxTrees") == ["mkosi.sandbox"]
    expected = [path for path in tree if path.startswith("scripts/") and path.endswith(".sh")]
    assert sorted(scripts_of(summary)) == sorted(expected)


@pytest.mark.parametrize("suite", SUITES)
def test_profile_lies_over_the_base(suite: str) -> None:
    image = rich_image()
    variant = cloud_variant(image)
    tree = emit_image(CompiledImage(span=SPAN, image=image, variants=(variant,)))
    summary = summarise(tree, suite, ("cloud",))
    assert summary.complaints == ()
    assert summary.image["Profiles"] == ["cloud"]
    assert sorted(summary.image["Packages"]) == names(variant.packages)
    assert " ".join(summary.image["KernelCommandLine"]) == variant.kernel.cmdline_text
    trees = ["mkosi.extra", "mkosi.output/build-tool.tar", "mkosi.profiles/cloud/mkosi.extra"]
    assert summary.paths("ExtraTrees") == trees
    assert "mkosi.profiles/cloud/scripts/21-postinst-more.sh" in summary.paths("PostInstallationScripts")


@pytest.mark.parametrize("suite", SUITES)
def test_builds_of_a_profile_are_no_dependencies_of_the_base(suite: str) -> None:
    image = resolved_image()
    variant = attrs.evolve(image, profiles=("cloud",), builds=(resolved_build(),))
    tree = emit_image(CompiledImage(span=SPAN, image=image, variants=(variant,)))
    base, cloud = summarise(tree, suite), summarise(tree, suite, ("cloud",))
    assert base.complaints == cloud.complaints == ()
    assert (base.image["Dependencies"], list(base.builds)) == ([], [])
    assert (cloud.image["Dependencies"], list(cloud.builds)) == (["build-tool"], ["build-tool"])
    assert cloud.paths("ExtraTrees")[-1] == "mkosi.output/build-tool.tar"


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize(
    ("reference", "changes"),
    [
        ("debian/bookworm", {"suites": (Suite(span=SPAN, name="bookworm-backports"),)}),
        ("ubuntu/noble", {}),
        ("ubuntu/noble", {"mirror": "http://mirror.example/ubuntu"}),
        ("alpine/3.20", {"mirror": "http://mirror.example/alpine"}),
        ("debian/trixie", {"snapshot": "20251113T083151Z"}),
        ("debian/trixie", {"version": "1.2.3", "docs": True, "locale": "C.UTF-8"}),
    ],
    ids=["bookworm", "noble", "noble mirror", "alpine", "snapshot alone", "version docs locale"],
)
def test_every_base_is_read_without_a_warning(suite: str, reference: str, changes: dict[str, Any]) -> None:
    tree = emit_image(CompiledImage(span=SPAN, image=resolved_image(reference, **changes)))
    assert summarise(tree, suite).complaints == ()


@pytest.mark.parametrize("suite", SUITES)
def test_disk_with_verity(suite: str) -> None:
    partitions = (
        Partition(span=SPAN, mount_point="/", fs="erofs", size_bytes=2 * GIB, verity=True),
        Partition(span=SPAN, mount_point="/var", fs="ext4", size_bytes=GIB),
    )
    summary = summarise(emit_image(CompiledImage(span=SPAN, image=resolved_image(partitions=partitions))), suite)
    assert summary.complaints == ()
    assert summary.image["Format"] == "disk"
    assert summary.paths("RepartDirectories") == ["mkosi.repart"]


@pytest.mark.parametrize("suite", SUITES)
@pytest.mark.parametrize("example", EXAMPLES, ids=lambda path: path.stem)
def test_examples_are_read_as_their_images_say(suite: str, example: Path) -> None:
    compilation = compile_image(load_recipe(str(example)).image)
    compiled = compilation.compiled
    for image in (compiled.image, *compiled.variants):
        summary = summarise(compilation.tree, suite, image.profiles)
        assert summary.complaints == ()
        stub = () if image.efi_stub else ("systemd-boot-efi",)
        assert sorted(summary.image["Packages"]) == sorted({*names(image.packages), *stub})
        assert sorted(summary.image["BuildPackages"]) == names(image.build_packages)
        assert " ".join(summary.image["KernelCommandLine"]) == " ".join(word.text for word in command_line(image))
        assert summary.image["Seed"] == image.reproducibility.seed
        assert summary.image["Profiles"] == list(image.profiles)
        layers = ("scripts/", *(f"mkosi.profiles/{profile}/scripts/" for profile in image.profiles))
        scripts = [path for path in compilation.tree if path.startswith(layers) and path.endswith(".sh")]
        assert sorted(scripts_of(summary)) == sorted(scripts)


def test_snapshot_alone_is_read_by_mkosi_27() -> None:
    tree = emit_image(CompiledImage(span=SPAN, image=resolved_image(snapshot="20251113T083151Z")))
    assert summarise(tree, NEWER_SUITE).image["Snapshot"] == "20251113T083151Z"


def test_every_script_passes_shellcheck(tmp_path: Path) -> None:
    image = rich_image()
    alpine = resolved_image("alpine/3.20", mirror="http://mirror.example/alpine")
    suites = resolved_image(suites=(Suite(span=SPAN, name="sid"),), snapshot="20251113T083151Z")
    texts: dict[str, bytes] = {}
    for number, root in enumerate((image, alpine, suites, all_builds())):
        variants = (cloud_variant(root),) if root is image else ()
        tree = emit_image(CompiledImage(span=SPAN, image=root, variants=variants))
        texts |= {
            f"{number}-{path.replace('/', '_')}": tree.text(path).encode() for path in tree if path.endswith(".sh")
        }
    for name, data in texts.items():
        (tmp_path / name).write_bytes(data)
    assert len(texts) > 15
    completed = tools_root("trixie").run(
        ["shellcheck", "--severity=style", *(f"/mnt/{name}" for name in sorted(texts))],
        binds=[Bind(source=tmp_path, target=Path("/mnt"))],
        check=False,
    )
    assert completed.status == 0, "\n".join(completed.lines)
