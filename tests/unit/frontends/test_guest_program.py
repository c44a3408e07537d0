"""tdx-guest comes into images as a source build of the sources that are installed with this package."""

from __future__ import annotations

from pathlib import Path

from tdx import Image
from tdx.modules import DiskEncryption, KeyGeneration, Tdxs
from tdx.modules._guest import program_sources
from tdxc import driver

GUEST = Path(__file__).resolve().parents[3] / "runtime" / "guest"


def test_the_sources_are_those_of_the_repository_without_tests() -> None:
    sources = {source.path: source.content.data for source in program_sources()}
    assert {"main.go", "go.mod", "go.sum"} <= set(sources)
    assert not [path for path in sources if "_test.go" in path or "testdata" in path]
    assert all((GUEST / path).read_bytes() == data for path, data in sources.items())
    programs = {str(path.relative_to(GUEST)) for path in GUEST.rglob("*.go") if not path.name.endswith("_test.go")}
    assert programs <= set(sources)


def test_several_modules_build_it_once() -> None:
    image = Image("x")
    KeyGeneration().apply(image)
    DiskEncryption(device="/dev/vdb").apply(image)
    DiskEncryption(device="/dev/vdc", name="logs", mount_at="/logs").apply(image)
    with image.profile("quotes"):
        Tdxs().apply(image)
    compiled, _ = driver.analyse(image.freeze())
    for variant in (compiled.image, *compiled.variants):
        assert [build.name for build in variant.builds] == ["tdx-guest"]
    names = [step.file_name for step in compiled.image.ordered_steps]
    assert names == ["0010-00-key-generation", "0020-00-disk-encryption"]
