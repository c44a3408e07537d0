"""What the compiler accepts for the inside of the guest, the guest's program accepts too: both are run on it."""

from __future__ import annotations

import contextlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, example, given, settings
from hypothesis import strategies as st
from tdx import Image, SecretSchema, SecretTarget
from tdx.modules import DiskEncryption, KeyGeneration, SecretDelivery, Tdxs
from tdxc import driver
from tdxc.diagnostics import DiagnosticError

Data = dict[str, Any]
Check = Callable[[str], str]

GUEST = Path(__file__).resolve().parents[2] / "runtime" / "guest"
CONFIG = "/etc/tdx-guest/config.json"


@pytest.fixture(scope="module")
def check(tmp_path_factory: pytest.TempPathFactory) -> Check:
    """What ``tdx-guest check`` has against a configuration; empty when it takes it."""
    folder = tmp_path_factory.mktemp("tdx-guest")
    program, config = folder / "tdx-guest", folder / "config.json"
    build = (Path(sys.executable).with_name("go"), "build", "-buildvcs=false", "-o", program, ".")
    subprocess.run(build, cwd=GUEST, check=True)

    def checked(text: str) -> str:
        config.write_text(text, encoding="utf-8", newline="")
        done = subprocess.run((program, "check", "-config", config), capture_output=True, text=True)
        return "" if done.returncode == 0 else done.stderr

    return checked


def configurations(image: Image) -> list[str]:
    """The configuration files of all variants. Raises DiagnosticError for what is refused."""
    compiled, _ = driver.analyse(image.freeze())
    variants = (compiled.image, *compiled.variants)
    return [file.content.data.decode() for image in variants for file in image.files if file.path == CONFIG]


def mostly(usual: st.SearchStrategy[Any], *extremes: Any) -> st.SearchStrategy[Any]:
    """Seldom a value at the border of what is allowed, or beyond it: two of these, and hardly any image is left."""
    return st.integers(0, 15).flatmap(lambda turn: st.sampled_from(extremes) if turn == 7 else usual)


def _of(required: dict[str, st.SearchStrategy[Any]], /, **optional: st.SearchStrategy[Any]) -> st.SearchStrategy[Data]:
    return st.fixed_dictionaries(required, optional=optional)


LONG = "/x" * 260
SEGMENT = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/."), min_size=1, max_size=4)
NAME = mostly(st.sampled_from(["disk", "data"]), "a" * 32, "a" * 33, "a-", "a0", "disk\n", "É")
PIPE = mostly(SEGMENT.map(lambda name: f"/run/{name}"), "/", "/run", f"/run{LONG}", f"/run{LONG[:508]}", "/run/é" * 60)
KEY = st.one_of(
    _of(
        {"name": NAME, "strategy": mostly(st.just("tpm"), "random", "tdx")},
        pcrs=mostly(st.just([4, 11]), [0, 4], [23, 4, 4], [-1], [24], list(range(24)), [True]),
        keep=st.booleans(),
    ),
    _of({"name": NAME, "strategy": st.just("pipe"), "pipe": PIPE}, timeout=mostly(st.just(5), 0, 1, 3600, 3601)),
)
DEVICE = mostly(
    SEGMENT.map(lambda name: f"/dev/{name}"), "/dev", "/dev/", f"/dev{LONG}", "/dev/x[", "/dev/a\\", "/dev/\n", "/d"
)
MOUNT = mostly(SEGMENT.map(lambda name: f"/srv/{name}"), "/", "/srv", "/usr", f"/srv{LONG}", "/srv/a/b", "/srv/a")
DISK = _of(
    {"mount_at": MOUNT},
    name=NAME,
    format=st.sampled_from(["on_initialize", "always", "never", "on_fail"]),
    mount_options=st.lists(st.sampled_from(["noexec", "ro", "sync"]), max_size=3),
    integrity=st.booleans(),
    grow=st.booleans(),
    wait=mostly(st.just(30), 0, 600, 601),
)
FOUND = st.one_of(
    _of({"device": DEVICE}),
    _of({"strategy": st.just("pathglob"), "pathglob": st.text("ab[]^-\\*?!é", max_size=8).map("/dev/{}".format)}),
    _of({"strategy": st.just("largest")}),
)
KEYS_AND_DISKS = st.lists(st.tuples(KEY, DISK, FOUND), max_size=2, unique_by=lambda drawn: str(drawn[0]["name"]))

MIN_LENGTH = mostly(st.just(0), 1, 1024, 1025, 1 << 20)
MAX_LENGTH = mostly(st.integers(20, 2000), 0, 1, 1 << 20, (1 << 20) + 1)
INTEGER = mostly(st.integers(-9, 99).map(str), "08", "x", str(2**63), str(-(2**63)), "-0", "")
PATTERN = mostly(st.text("ab.*+?{}()[]|^$,-01\\dwé", max_size=8), "^a$", "a" * 1024, "é" * 513, "a{1000}", "(?i)a")
SCHEMA = st.one_of(
    _of({"kind": st.sampled_from(["json", "pem", "base64"])}, min_length=MIN_LENGTH, max_length=MAX_LENGTH),
    _of({"kind": st.just("int")}, enum=st.lists(INTEGER, max_size=3), max_length=MAX_LENGTH),
    _of({"kind": st.sampled_from(["string", "pem"]), "pattern": PATTERN}, min_length=MIN_LENGTH),
)
SERVICES = ["app", "web.service", "a\\x2db", "x" * 232]
VARIABLE = mostly(st.sampled_from("ABCDEF"), "A" * 128, "A" * 129, "PATH", "LD_X", "LISTEN_FDS", "A-B")
FILE = mostly(SEGMENT.map(lambda name: f"/run/s/{name}"), "/run/a", "/run/a/b", f"/run{LONG}", "/run/tdx-guest")
MODE = mostly(st.just(0o400), 0, 0o660, "0600", "440", 0o770, 0o4400, 400)
TARGET = st.one_of(
    st.tuples(st.just("file"), _of({"path": FILE}, mode=MODE, owner=mostly(st.just("app"), "root", "nobody-here"))),
    st.tuples(st.just("env"), _of({"name": VARIABLE}, scope=mostly(st.sampled_from(SERVICES), "global", "none"))),
)
MANY_TARGETS = [[("env", {"name": f"V{index}"}) for index in range(count)] for count in (63, 64, 65)]
SECRET = _of(
    {
        "name": mostly(st.sampled_from("abc"), "a" * 64, "a" * 65, "A", "a_0"),
        "targets": mostly(st.lists(TARGET, max_size=2), *MANY_TARGETS),
    },
    required=st.booleans(),
    schema=SCHEMA,
)
SECRETS = st.lists(SECRET, min_size=1, max_size=2, unique_by=lambda drawn: str(drawn["name"]))

COMMON = {
    "max_body_bytes": mostly(st.just(65536), 1023, 1024, 1 << 20, (1 << 20) + 1),
    "timeout": mostly(st.just(60), 0, 604800, 604801),
}
ADDRESS = mostly(st.ip_addresses().map(str), "", "fe80::1%eth0", "fe80::1%", "::ffff:1.2.3.4%eth0", "::1%\n", "1.2.3")
SERVER = COMMON | {
    "port": mostly(st.just(8080), 0, 1, 65535, 65536),
    "tls": st.sampled_from(["generated", "off"]),
    "token_sha256": mostly(st.just("0" * 64), "", "0" * 63, "A" * 64),
    "address": ADDRESS,
}
DELIVERY = st.one_of(
    _of({"method": st.sampled_from(["http_post", "vsock"])}, **SERVER),
    _of({"method": st.just("http_post"), "tls": st.just("files"), "certificate": PIPE, "certificate_key": PIPE}),
    _of({"method": st.just("file"), "source": DEVICE}, **COMMON),
    _of({"method": st.just("env")}, **COMMON),
)
GUESTS = st.one_of(
    _of({"keys_and_disks": KEYS_AND_DISKS}, in_profile=mostly(st.just(False), True)),
    _of({"delivery": st.tuples(DELIVERY, SECRETS)}, is_used=st.booleans(), issuer=st.sampled_from(["tdx", "fake"])),
)


def _target(kind: str, arguments: Data) -> SecretTarget:
    return SecretTarget.file(**arguments) if kind == "file" else SecretTarget.env(**arguments)


def _image(guest: Data) -> Image:
    """The image that these arguments of modules make. Raises DiagnosticError for what modules refuse."""
    image = Image("x")
    image.user("app", system=True)
    for name in SERVICES:
        image.service(name, exec="/usr/bin/x")
    for key, disk, found in guest.get("keys_and_disks", ()):
        KeyGeneration(**key).apply(image)
        with image.profile("disks") if guest.get("in_profile") else contextlib.nullcontext():
            if found:
                DiskEncryption(**disk, **found, key=key["name"]).apply(image)
    if "delivery" in guest:
        _deliver(image, *guest["delivery"], is_used=guest.get("is_used", False))
    if issuer := guest.get("issuer"):
        Tdxs(issuer).apply(image)
    return image


def _deliver(image: Image, arguments: Data, secrets: list[Data], *, is_used: bool) -> None:
    delivery = SecretDelivery(**arguments)
    for secret in secrets:
        schema = SecretSchema(**secret["schema"]) if "schema" in secret else None
        targets = [_target(*target) for target in secret["targets"]]
        delivery.secret(secret["name"], required=secret.get("required", True), schema=schema, targets=targets)
    delivery.apply(image)
    if is_used:
        image.service("user", exec="/usr/bin/x", secrets=[secret["name"] for secret in secrets])


def _many(count: int, **schema: Any) -> Data:
    """So many secrets, each a variable."""
    secrets = [
        {"name": f"s{index}", "targets": [("env", {"name": f"S{index}"})], "schema": schema} for index in range(count)
    ]
    return {"delivery": ({}, secrets)}


def test_whatever_is_compiled_is_taken_by_the_guest(check: Check) -> None:
    taken = 0

    @settings(
        max_examples=250,
        phases=[Phase.explicit, Phase.reuse, Phase.generate],
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )
    @given(GUESTS)
    @example(_many(256))
    @example(_many(257))
    @example({"keys_and_disks": [({"name": "disk"}, {}, {})]})
    @example({"keys_and_disks": [({"name": "disk"}, {}, {"device": "/dev/vdb"})], "in_profile": True})
    @example({"keys_and_disks": [({"name": "disk", "strategy": "random", "keep": True}, {}, {})]})
    def law(guest: Data) -> None:
        nonlocal taken
        try:
            texts = configurations(_image(guest))
        except DiagnosticError:
            return
        for text in texts:
            assert check(text) == "", text
            taken += 1

    law()
    assert taken > 25, "nearly everything was refused, which says nothing"


def test_a_configuration_has_the_size_that_the_guest_reads(check: Check) -> None:
    long = "x" * 60000
    with pytest.raises(DiagnosticError) as caught:
        configurations(_image(_many(18, enum=[long])))
    assert [found.code.value for found in caught.value.diagnostics] == ["E_LIMIT"]
    (text,) = configurations(_image(_many(17, enum=[long])))
    assert check(text) == ""
    assert "more than the 1048576 that are allowed" in check(text.rstrip("\n") + " " * (1 << 20))
