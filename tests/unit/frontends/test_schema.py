"""The JSON Schema: valid, complete, true to the parser, and in step with the signatures of the DSL."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from ruamel.yaml import YAML
from tdx._declare import signature_of
from tdx._load import load_recipe
from tdx.image import ATTRIBUTE_NAMES, Image
from tdx.yaml import descriptions
from tdx.yaml.descriptions import describe_parameter
from tdx.yaml.keys import KEYS, Shape
from tdx.yaml.nodes import parse_document, to_python
from tdx.yaml.schema import _function, json_schema
from tdxc.diagnostics import DiagnosticError

EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
VALIDATOR = jsonschema.Draft202012Validator(json_schema())


def _data(text: str) -> Any:
    node = parse_document(text, "r.yaml")
    assert node is not None
    return to_python(node)


def test_schema_is_a_valid_2020_12_schema_of_plain_json() -> None:
    jsonschema.Draft202012Validator.check_schema(json_schema())
    assert json.loads(json.dumps(json_schema())) == json_schema()
    assert json_schema()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_examples_validate(path: Path) -> None:
    VALIDATOR.validate(_data(path.read_text()))


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.yaml")), ids=lambda path: path.name)
def test_our_reading_of_an_example_is_that_of_ruamel(path: Path) -> None:
    assert _data(path.read_text()) == YAML(typ="safe", pure=True).load(path.read_text())


def test_every_key_and_parameter_has_a_description() -> None:
    for name, schema in json_schema()["properties"].items():
        assert schema["description"], name
    for key in KEYS:
        for builder in (key.builder, *(builder for _word, builder in key.variants)):
            if builder is None or key.shape is Shape.WORDS:
                continue
            for parameter in signature_of(_function(builder)).parameters:
                assert describe_parameter(key.name, parameter.name)


def test_no_description_is_of_a_parameter_that_does_not_exist() -> None:
    known = {
        f"{key.name}.{parameter.name}"
        for key in KEYS
        for builder in (key.builder, *(builder for _word, builder in key.variants))
        if builder is not None
        for parameter in signature_of(_function(builder)).parameters
    }
    assert set(descriptions._OF_KEY) <= known
    assert set(descriptions._COMMON) <= {name.partition(".")[2] for name in known}


def test_every_declaration_of_the_dsl_has_a_key() -> None:
    other = {"partition", "freeze", "compile", "lock", "bake", "measure", "profile", "all_profiles", "module",
             "report", "faults", "folder", "assign", "assigned", "enter_state", "enter_site",
             "declare", "declare_one", "place"}  # fmt: skip
    methods = {name for name in dir(Image) if not name.startswith("_")} - set(ATTRIBUTE_NAMES) - other
    assert methods == {key.target for key in KEYS if key.target not in ATTRIBUTE_NAMES and key.target}
    assert set(ATTRIBUTE_NAMES) <= {key.name for key in KEYS}


@pytest.mark.parametrize(
    "text",
    [
        "nmae: x",
        "base: debian/trixy",
        "base: [debian]",
        "reproducible: 'yes'",
        "install: curl",
        "install: [1]",
        "install: ['UP case']",
        "files: [{content: x}]",
        "files: [{dest: etc/x, content: x}]",
        "files: [{dest: /x, content: x, mode: 99999}]",
        "files: [{dest: /x, content: x, mode: '99'}]",
        "files: [{dest: /x, content: x, extra: 1}]",
        "services: [{name: a}]",
        "services: [{name: a, exec: /b, restart: sometimes}]",
        "services: [{name: a, exec: /b, ports: [0]}]",
        "services: [{name: a, exec: /b, environment: {'a b': c}}]",
        "services: [{name: a, exec: /b, environment: {a: 1}}]",
        "users: [{name: Upper}]",
        "backend: locl",
        "backend: {lima: {cpu: 1}}",
        "kernel: {cmdline: 7}",
        "output_targets: [aws]",
        "partitions: [{mount_point: /, fs: ntfs, size: 1G}]",
        "policy: {network_mode: sometimes}",
        "modules: [tdx.modules.TimeSynchronisation]",
        "modules: [{use: Plain}]",
        "builds: [{rust: {name: a}}]",
        "builds: [{script: {name: a}}]",
        "profiles: {dev: {base: debian/trixie}}",
        "profiles: {'a b': {docs: true}}",
        "profiles: {dev: {isntall: [a]}}",
        "default_target: minimal.service",
        "snapshot: yesterday",
    ],
)
def test_schema_and_parser_refuse_alike(text: str, tmp_path: Path) -> None:
    assert not VALIDATOR.is_valid(_data(text))
    (tmp_path / "r.yaml").write_text(text)
    with pytest.raises(DiagnosticError):
        load_recipe(tmp_path / "r.yaml")


@pytest.mark.parametrize(
    "text",
    [
        "locale: null",
        "locale: en_US.UTF-8",
        "init: /usr/bin/init",
        "debloat: true",
        "kernel: {config: {A: true, CONFIG_B: m, C: 7, D: text}}",
        "services: [{name: a, exec: [/b, /c], type: oneshot, extra_unit: {Service: {A: [1, x, true]}}}]",
        "files: [{dest: /x, content: x, mode: '0644'}]",
        "partitions: [{mount_point: /, fs: ext4, size: 2G}, {mount_point: /var, fs: ext4, size: 1048576}]",
        "templates: [{dest: /x, content: x, vars: {a: [1, {b: null}], c: true}}]",
        "backend: nix",
        "backend: {lima: {cpus: 2, memory: 4GiB}}",
        "profiles: {dev: , other: {ssh: true}}",
        "modules: [{use: tdx.platforms.GcpPlatform}]",
        "network: {vsock: true, backend: udhcpc, resolver: false, firewall_rules: [DROP all]}",
    ],
)
def test_schema_and_parser_accept_alike(text: str, tmp_path: Path) -> None:
    VALIDATOR.validate(_data(text))
    (tmp_path / "r.yaml").write_text(text)
    load_recipe(tmp_path / "r.yaml")
