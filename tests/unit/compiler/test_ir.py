"""The IR as a value: codec, digest, printer and diff, over everything that the types allow."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import attrs
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tdxc.diagnostics import Code, DiagnosticError, SourceSpan
from tdxc.ir import (
    KNOWN_BASES,
    AuthoredImage,
    Blob,
    File,
    Layer,
    Network,
    NetworkBackend,
    Package,
    Service,
    codec,
    merge_layers,
    walk,
)
from tdxc.ir.diff import ChangeKind, diff_nodes
from tdxc.ir.printer import print_ir
from unit.compiler.images import authored_images, images_by_field

slow = settings(deadline=None, max_examples=100, suppress_health_check=list(HealthCheck))
IMAGE = AuthoredImage(
    name="x",
    base=KNOWN_BASES[1],
    layer=Layer(
        packages=(Package(name="jq"),),
        files=(File(path="/etc/motd", content=Blob.of(b"hi")),),
        services=(Service(name="app", exec=("/usr/bin/app",)),),
    ),
)


def moved(image: AuthoredImage) -> AuthoredImage:
    """The same image, written elsewhere."""
    return attrs.evolve(image, span=SourceSpan(file="other.py", line=7, column=1), cause="another")


@slow
@given(authored_images())
def test_every_image_survives_the_round_trip(image: AuthoredImage) -> None:
    text = codec.dumps(image)
    assert codec.loads(text, AuthoredImage, codec.blobs_of(image)) == image
    assert codec.dumps(codec.loads(text, AuthoredImage, None)) == text


@slow
@given(authored_images(), authored_images())
def test_digest_printer_and_diff_agree_on_equality(one: AuthoredImage, two: AuthoredImage) -> None:
    equal = one == two
    assert (codec.digest(one) == codec.digest(two)) == equal
    assert (print_ir(one) == print_ir(two)) == equal
    assert (not list(diff_nodes(one, two))) == equal


def test_every_field_of_every_node_counts() -> None:
    images = list(images_by_field())
    assert len(images) > 200
    for image in images:
        text = codec.dumps(image)
        assert codec.loads(text, AuthoredImage, codec.blobs_of(image)) == image
    others = images[1:]
    assert all(image != images[0] and list(diff_nodes(images[0], image)) for image in others)
    assert len(set(images)) == len({codec.digest(image) for image in images}) == len(set(map(print_ir, images)))
    assert len(set(images)) == len(images)


@slow
@given(authored_images())
def test_places_and_causes_change_nothing(image: AuthoredImage) -> None:
    other = moved(image)
    assert other == image
    assert hash(other) == hash(image)
    assert codec.digest(other) == codec.digest(image)
    assert print_ir(other) == print_ir(image)


def test_the_digest_is_the_same_in_another_process_with_another_hash_seed() -> None:
    script = "from unit.compiler.test_ir import IMAGE; from tdxc.ir import codec; print(codec.digest(IMAGE), end='')"
    tests = str(Path(__file__).parents[2])
    for seed in ("0", "1", "31337"):
        environment = {**os.environ, "PYTHONHASHSEED": seed, "TZ": "Asia/Kolkata", "PYTHONPATH": tests}
        found = subprocess.run([sys.executable, "-c", script], env=environment, capture_output=True, check=True)
        assert found.stdout.decode() == codec.digest(IMAGE)


def test_a_default_is_not_written() -> None:
    assert codec.to_data(IMAGE)["layer"]["services"] == [{"exec": ["/usr/bin/app"], "name": "app"}]


@pytest.mark.parametrize(
    ("change", "part"),
    [
        ({"schema": 2}, "schema 2"),
        ({"kind": "ResolvedImage"}, "ResolvedImage"),
        ({"image": {"name": "x"}}, "base"),
        ({"image": {**codec.to_data(IMAGE), "colour": "red"}}, "colour"),
        ({"image": {**codec.to_data(IMAGE), "name": 1}}, "name"),
        ({"image": {**codec.to_data(IMAGE), "reproducible": "yes"}}, "reproducible"),
        ({"image": []}, "bad IR"),
    ],
)
def test_bad_ir_files_are_diagnostics(change: dict[str, object], part: str) -> None:
    text = json.dumps({**json.loads(codec.dumps(IMAGE)), **change})
    with pytest.raises(DiagnosticError, match=part) as caught:
        codec.loads(text, AuthoredImage, None)
    assert caught.value.diagnostics[0].code is Code.E_VALUE


@pytest.mark.parametrize("text", ["", "[]", "nul", "{}", '{"schema": 1}', "1e999", '"x"'])
def test_what_is_no_ir_file_is_a_diagnostic(text: str) -> None:
    with pytest.raises(DiagnosticError):
        codec.loads(text, AuthoredImage, None)


@given(st.text(max_size=40))
def test_no_text_crashes_the_reader(text: str) -> None:
    with pytest.raises(DiagnosticError):
        codec.loads(text, AuthoredImage, {})


@pytest.mark.parametrize("blobs", [{}, {Blob.of(b"hi").sha256: b"ho"}])
def test_missing_or_damaged_content_is_noticed(blobs: dict[str, bytes]) -> None:
    with pytest.raises(DiagnosticError, match="missing or damaged"):
        codec.loads(codec.dumps(IMAGE), AuthoredImage, blobs)


def test_layers_add_up() -> None:
    base = Layer(packages=(Package(name="a"),), network=Network(vsock=True))
    delta = Layer(packages=(Package(name="b"),), network=Network(backend=NetworkBackend.UDHCPC))
    merged = merge_layers(base, delta)
    assert [package.name for package in merged.packages] == ["a", "b"]
    assert merged.network == Network(vsock=True, backend=NetworkBackend.UDHCPC)
    assert merge_layers(base, Layer()) == base
    assert merge_layers(Layer(), base) == base


def test_walk_finds_every_node() -> None:
    assert {type(node).__name__ for node in walk(IMAGE)} == {
        "AuthoredImage", "Base", "Layer", "Package", "File", "Service"}  # fmt: skip


def test_diff_speaks_of_the_recipe() -> None:
    service = attrs.evolve(IMAGE.layer.services[0], restart="always", span=SourceSpan(file="r.py", line=9, column=1))
    packages = (Package(name="curl"),)
    other = attrs.evolve(IMAGE, layer=attrs.evolve(IMAGE.layer, services=(service,), packages=packages))
    changes = list(diff_nodes(IMAGE, other))
    assert [str(change) for change in changes] == [
        "- packages[jq]",
        "+ packages[curl]",
        "~ services[app].restart: '' -> 'always'",
    ]
    assert changes[2].kind is ChangeKind.CHANGED
    assert str(changes[2].span) == "r.py:9:1"
