"""Secrets in recipes: a reference never becomes text, and each way that it takes is told by its lines."""

from __future__ import annotations

from pathlib import Path

import pytest
from tdx import Image, SecretSchema, SecretTarget
from tdx._declare import signature_of
from tdx._kinds import Constrained, Either, Kind, ListOf, MapOf
from tdx._load import load_recipe
from tdx.modules import DiskEncryption, KeyGeneration, SecretDelivery
from tdx.yaml.keys import KEYS
from tdx.yaml.schema import _function
from tdxc import driver
from tdxc.diagnostics import Code, Diagnostic, DiagnosticError

HEAD = """\
from tdx import Image
from tdx.modules import SecretDelivery

img = Image("leak")
delivery = SecretDelivery()
token = delivery.secret("api_token")
"""


def fault(folder: Path, text: str) -> Diagnostic:
    """The only diagnostic of a recipe whose line 7 is the first of ``text``."""
    (folder / "recipe.py").write_text(HEAD + text)
    with pytest.raises(DiagnosticError) as caught:
        load_recipe(folder / "recipe.py")
    (found,) = caught.value.diagnostics
    return found


@pytest.mark.parametrize(
    "use",
    [
        'img.file("/etc/token", content=f"{token}")',
        'img.file("/etc/token", content=str(token))',
        'img.file("/etc/token", content="token=" + token)',
        'img.file("/etc/token", content=token + "\\n")',
        'img.file("/etc/token", content="%s" % token)',
        'img.file("/etc/token", content="{}".format(token))',
        'img.file("/etc/token", content="".join(token))',
        'img.file("/etc/token", content=bytes(token))',
        'img.file("/etc/token", content="".join([token]))',
        'img.file("/etc/token", content=__import__("json").dumps({"a": token}))',
        'img.file("/etc/token", content=token.encode())',
        'img.file("/etc/token", content=token[0])',
        '__import__("os").environ["TOKEN"] = token',
        '__import__("logging").warning("%s", token)',
        '__import__("logging").getLogger("x").error(token)',
        "print(token)",
        "open(token)",
        'img.file("/etc/token", content=token)',
        'img.template("/etc/x", content="{{ a }}", vars={"a": [token]})',
        'img.service("app", exec="/bin/app", environment={"TOKEN": token})',
        'img.service("app", exec=["/bin/app", token])',
        'img.service("app", exec="/bin/app", extra_unit={"Service": {"SetCredential": token}})',
        "img.on_boot(token)",
        "img.run(token)",
        "img.install(token)",
        "img.version = token",
    ],
)
def test_a_secret_never_becomes_text(tmp_path: Path, use: str) -> None:
    found = fault(tmp_path, use + "\n")
    assert (found.code, found.span.line) == (Code.E_SECRET, 7)
    assert "secret 'api_token'" in found.message
    assert found.notes[-1].span.line == 6
    assert "secrets=[" in found.fix


def test_the_way_to_a_nested_value_is_told(tmp_path: Path) -> None:
    found = fault(tmp_path, 'img.template("/etc/x", content="x", vars={"a": {"b": [1, token]}})\n')
    assert "['a']['b'][1] is the secret 'api_token'" in found.message


def test_the_lines_that_a_secret_came_by_are_told(tmp_path: Path) -> None:
    text = (
        "def line(value):\n    return f'TOKEN={value}'\n\ndef config(value):\n    return line(value)\n\nconfig(token)\n"
    )
    found = fault(tmp_path, text)
    assert found.span.line == 8
    assert [note.span.line for note in found.notes] == [11, 13, 6]


def test_the_lines_of_what_python_itself_refuses_are_told(tmp_path: Path) -> None:
    found = fault(tmp_path, "def line(values):\n    return ' '.join(values)\n\nline(['a', token])\n")
    assert found.span.line == 8
    assert "'api_token' is used as if it were its value (TypeError: " in found.message
    assert [note.span.line for note in found.notes] == [10, 6]


def test_where_it_is_not_known_which_secret_it_is_all_in_sight_are_told(tmp_path: Path) -> None:
    found = fault(tmp_path, "other = delivery.secret('other')\nprint(1 if token < other else 2)\n")
    assert found.message.startswith("a secret is used as if it were its value")
    assert [note.span.line for note in found.notes] == [6, 7]


def test_logging_prints_no_traceback(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    fault(tmp_path, "import logging\nlogging.getLogger().addHandler(logging.FileHandler('/dev/null'))\n"
          "logging.warning('token %s', token)\n")  # fmt: skip
    assert capfd.readouterr() == ("", "")


def test_other_faults_of_a_recipe_stay_what_they_are(tmp_path: Path) -> None:
    assert fault(tmp_path, "''.join([1])\n").code is Code.E_RECIPE
    assert fault(tmp_path, "raise ValueError('SecretReference')\n").code is Code.E_RECIPE


def test_services_take_secrets_by_reference_or_name() -> None:
    image = Image("x")
    delivery = SecretDelivery()
    token = delivery.secret("api_token")
    image.service("app", exec="/bin/app", secrets=[token, "other"])
    assert image.freeze().layer.services[0].secrets == ("api_token", "other")
    assert repr(token) == "<secret 'api_token'>"


@pytest.mark.parametrize("path", ["/etc/token", "/var/lib/token", "/persistent/token", "/run/../etc/token"])
def test_files_of_secrets_are_in_memory(path: str) -> None:
    with pytest.raises(DiagnosticError) as caught:
        SecretTarget.file(path)
    assert caught.value.diagnostics[0].code in {Code.E_SECRET, Code.E_PATH}


@pytest.mark.parametrize("mode", [0o644, 0o777, 0o404, 0o4400, "0440x"])
def test_files_of_secrets_are_not_for_others(mode: int | str) -> None:
    with pytest.raises(DiagnosticError):
        SecretTarget.file("/run/secrets/a", mode=mode)


@pytest.mark.parametrize("name", ["PATH", "A" * 129, "LD_PRELOAD", "LISTEN_FDS", "NOTIFY_SOCKET", "A B", "1A", ""])
def test_variables_that_mean_something_else_are_refused(name: str) -> None:
    with pytest.raises(DiagnosticError):
        SecretTarget.env(name)


@pytest.mark.parametrize(
    "arguments",
    [
        {"pattern": "(?=x)"},
        {"min_length": 9, "max_length": 8},
        {"min_length": -1},
        {"max_length": 0},
        {"kind": "yaml"},
        {"kind": "json", "pattern": "x"},
        {"kind": "pem", "enum": ["a"]},
        {"max_length": (1 << 20) + 1},
        {"pattern": "é" * 513},
        {"kind": "int", "enum": ["80", "x"]},
        {"kind": "int", "enum": ["08"]},
        {"kind": "int", "enum": [str(2**63)]},
        {"enum": ["low", "higher"], "max_length": 4},
        {"enum": ["", "b"], "min_length": 1},
    ],
)
def test_schemas_that_no_value_fits_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(DiagnosticError):
        SecretSchema(**arguments)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "arguments",
    [
        {"method": "file"},
        {"method": "env", "source": "/dev/vdc"},
        {"method": "env", "tls": "generated"},
        {"tls": "files"},
        {"tls": "files", "certificate": "/etc/c.pem", "certificate_key": "/etc/k.pem"},
        {"certificate": "/etc/c.pem"},
        {"token_sha256": "abc"},
        {"method": "env", "token_sha256": "0" * 64},
        {"port": 0},
        {"address": "example.org"},
        {"address": "fe80::1%"},
        {"address": "fe80::1%a\n"},
        {"address": "::ffff:1.2.3.4%eth0"},
        {"method": "file", "source": "/"},
        {"method": "file", "source": "/dev/" + "x" * 200 + "/" + "y" * 200 + "/" + "z" * 200},
        {"tls": "files", "certificate": "/", "certificate_key": "/run/k.pem"},
        {"max_body_bytes": 1024, "secrets": [{"name": "a", "schema": {"min_length": 1025}}]},
        {"secrets": [{"name": "a", "targets": [{"pipe": "/x"}]}]},
        {"secrets": [{"name": "a", "schema": {"knid": "x"}}]},
        {"secrets": [{"nmae": "a"}]},
        {"secrets": [{"name": "a", "targets": [{"file": "/etc/a"}]}]},
        {"secrets": ["a"]},
    ],
)
def test_deliveries_that_contradict_themselves_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(DiagnosticError):
        SecretDelivery(**arguments)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "arguments",
    [
        {},
        {"device": "/dev/vda", "strategy": "largest"},
        {"strategy": "pathglob"},
        {"pathglob": "/dev/x*"},
        {"device": "vda"},
        {"device": "/dev/vda", "mount_at": "/usr/lib"},
        {"device": "/dev/vda", "mount_at": "/"},
        {"device": "/dev/vda", "name": "A"},
        {"device": "/dev/vda", "wait": 601},
        {"device": "/dev/vda", "format": "maybe"},
        {"device": "/dev/disk/by-id/x["},
        {"strategy": "pathglob", "pathglob": "/dev/vd["},
        {"strategy": "pathglob", "pathglob": "/dev/vd[]"},
        {"strategy": "pathglob", "pathglob": "/dev/vd[a-]"},
        {"strategy": "pathglob", "pathglob": "/dev/vd\\"},
        {"strategy": "pathglob", "pathglob": "/dev/vd[!a]"},
    ],
)
def test_disks_that_are_not_named_plainly_are_refused(arguments: dict[str, object]) -> None:
    with pytest.raises(DiagnosticError):
        DiskEncryption(**arguments)  # type: ignore[arg-type]  # wrong on purpose


@pytest.mark.parametrize(
    "pattern", ["/dev/vd*", "/dev/disk/*/x?", "/dev/vd[a-c]", "/dev/vd[^a\\-]", r"/dev/a\x20b", "/dev/é"]
)
def test_patterns_of_devices_are_taken(pattern: str) -> None:
    assert DiskEncryption(strategy="pathglob", pathglob=pattern).node.device == pattern


@pytest.mark.parametrize(("given", "seconds"), [({}, None), ({"wait": 0}, 0), ({"wait": 120}, 120)])
def test_each_disk_is_waited_for_as_it_says(given: dict[str, int], seconds: int | None) -> None:
    by_name, largest = DiskEncryption("/dev/vdb", **given), DiskEncryption(strategy="largest", **given)  # type: ignore[arg-type]  # seconds alone
    defaults = (30, 0)
    assert (by_name.node.wait_seconds, largest.node.wait_seconds) == (defaults if seconds is None else (seconds,) * 2)


def test_variables_of_services_whose_name_is_escaped_are_refused() -> None:
    with pytest.raises(DiagnosticError) as caught:
        SecretTarget.env("A", scope="a\\x2db")
    assert "backslash" in caught.value.diagnostics[0].message


def test_a_secret_after_the_delivery_was_applied_is_refused() -> None:
    image = Image("x")
    delivery = SecretDelivery()
    delivery.secret("a", targets=[SecretTarget.env("A")])
    delivery.apply(image)
    with pytest.raises(DiagnosticError) as caught:
        delivery.secret("late", targets=[SecretTarget.env("B")])
    (found,) = caught.value.diagnostics
    assert (found.code, found.fix) == (Code.E_VALUE, "move delivery.apply(image) behind all secrets")
    assert found.notes[0].span.line == found.span.line - 2
    delivery.apply(Image("y"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        ({"strategy": "pipe", "pipe": "/"}, Code.E_PATH),
        ({"strategy": "tdx"}, Code.E_UNSUPPORTED),
        ({"strategy": "pipe"}, Code.E_VALUE),
        ({"pipe": "/run/key"}, Code.E_VALUE),
        ({"strategy": "random", "pcrs": [7]}, Code.E_VALUE),
        ({"pcrs": [24]}, Code.E_VALUE),
    ],
)
def test_keys_that_cannot_be_made_are_refused(arguments: dict[str, object], code: Code) -> None:
    with pytest.raises(DiagnosticError) as caught:
        KeyGeneration(**arguments)  # type: ignore[arg-type]  # wrong on purpose
    assert caught.value.diagnostics[0].code is code


YAML = """\
name: node
modules:
  - use: tdx.modules.KeyGeneration
  - use: tdx.modules.DiskEncryption
    with: {device: /dev/vdb}
  - use: tdx.modules.SecretDelivery
    with:
      method: http_post
      secrets:
        - name: api_token
          schema: {kind: string, min_length: 8, pattern: ^tok_}
          targets:
            - file: /run/secrets/api-token
            - env: {name: API_TOKEN, scope: app}
        - name: port
          required: false
          schema: {kind: int, enum: ["80"]}
services:
  - name: app
    exec: /bin/app
    secrets: [api_token, port]
"""


def test_both_forms_are_one_image(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(YAML)
    image = Image("node")
    KeyGeneration(strategy="tpm").apply(image)
    DiskEncryption(device="/dev/vdb").apply(image)
    delivery = SecretDelivery(method="http_post")
    token = delivery.secret(
        "api_token",
        schema=SecretSchema(kind="string", min_length=8, pattern="^tok_"),
        targets=(SecretTarget.file("/run/secrets/api-token"), SecretTarget.env("API_TOKEN", scope="app.service")),
    )
    port = delivery.secret("port", required=False, schema=SecretSchema(kind="int", enum=["80"]))
    delivery.apply(image)
    image.service("app", exec="/bin/app", secrets=[token, port])
    assert load_recipe(tmp_path / "recipe.yaml").image == image.freeze()


def test_a_fault_in_yaml_points_at_the_secret(tmp_path: Path) -> None:
    (tmp_path / "recipe.yaml").write_text(YAML.replace("^tok_", "'(?=x)'"))
    with pytest.raises(DiagnosticError) as caught:
        load_recipe(tmp_path / "recipe.yaml")
    (found,) = caught.value.diagnostics
    assert (found.code, found.span.line) == (Code.E_VALUE, 10)
    assert "secrets[0].schema: pattern" in found.message


def test_files_of_secrets_have_owners_that_exist() -> None:
    image = Image("x")
    delivery = SecretDelivery()
    delivery.secret("a", targets=[SecretTarget.file("/run/secrets/a", owner="nobody-here")])
    delivery.apply(image)
    with pytest.raises(DiagnosticError) as caught:
        driver.analyse(image.freeze())
    assert [d.code for d in caught.value.diagnostics] == [Code.E_REFERENCE]


def with_secret(kind: Kind, secret: object) -> list[object]:
    """Values of a kind that hold a secret: alone, in lists and in mappings."""
    match kind:
        case ListOf():
            return [[value] for value in with_secret(kind.item, secret)]
        case MapOf():
            return [{"A": value} for value in with_secret(kind.value, secret)]
        case Either():
            return [value for arm in kind.arms for value in with_secret(arm, secret)]
        case Constrained():
            return with_secret(kind.kind, secret)
        case _:
            return [secret]


def test_no_argument_of_any_declaration_takes_a_secret() -> None:
    token = SecretDelivery().secret("api_token")
    seen = 0
    for key in KEYS:
        for builder in (key.builder, *(builder for _word, builder in key.variants)):
            for parameter in signature_of(_function(builder)).parameters if builder else ():
                for value in with_secret(parameter.kind, token) if parameter.name != "secrets" else ():
                    codes = {problem.code for problem in parameter.kind.problems(value)}
                    assert codes == {Code.E_SECRET}, (key.name, parameter.name, value)
                    seen += 1
    assert seen > 150
