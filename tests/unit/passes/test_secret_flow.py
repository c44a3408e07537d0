"""The ways of secrets in units: what a command line may do with one, and values that are in the image."""

from __future__ import annotations

from typing import Any

import pytest
from support.authored import at, resolved, run
from tdxc import records
from tdxc.diagnostics import Code, Diagnostic
from tdxc.ir import (
    Blob,
    Directive,
    DropIn,
    File,
    Kernel,
    ResolvedImage,
    Secret,
    SecretDelivery,
    SecretTarget,
    Section,
    Service,
    Symlink,
    Unit,
)
from tdxc.passes.lower_guest import LowerGuest
from tdxc.passes.placed_units import placed_units

SECRET = Secret(
    span=at(10),
    name="token",
    targets=(
        SecretTarget(span=at(11), kind="file", path="/run/secrets/api-token"),
        SecretTarget(span=at(12), kind="env", variable="TOKEN", scope="app.service"),
    ),
)
DELIVERY = SecretDelivery(span=at(9), method="http_post", port=8080, tls="generated", secrets=(SECRET,))


def leaks(**declarations: Any) -> list[Diagnostic]:
    given: dict[str, Any] = {"secret_delivery": DELIVERY, "services": (service(),), **declarations}
    _, found = run(LowerGuest(), resolved(**given))
    assert {d.code for d in found} <= {Code.E_SECRET}
    return list(found)


def service(command: str = "/bin/app", **fields: Any) -> Service:
    return Service(span=at(20), name="app", exec=(command,), secrets=("token",), **fields)


def placed(path: str, content: str) -> dict[str, Any]:
    return {"files": (File(span=at(30), path=path, content=Blob.of(content.encode())),)}


SHELL = "/bin/sh -c "
LEAKING = [
    "/bin/app --token ${TOKEN}",
    "/bin/app $TOKEN",
    "/bin/app prefix-${TOKEN}-suffix",
    SHELL + '"app --token $$TOKEN"',
    SHELL + '"app --token $(cat /run/secrets/api-token)"',
    SHELL + '"app --token $(head -1 /run/secrets/api-token)"',
    SHELL + '"app --token $(< /run/secrets/api-token)"',
    SHELL + '"app --token `sudo tail /run/secrets/api-token`"',
    SHELL + '"app --token $(cat $CREDENTIALS_DIRECTORY/token)"',
    SHELL + '"app --token $(cat \\"$CREDENTIALS_DIRECTORY\\"/token)"',
    SHELL + "'app --token $(cat ${CREDENTIALS_DIRECTORY}/token)'",
    SHELL + '"app --token $(cat %d/token)"',
    SHELL + '"xargs app --token < /run/secrets/api-token"',
    SHELL + '"xargs -a /run/secrets/api-token app --token"',
    SHELL + '"cat /run/secrets/api-token"',
    SHELL + '"exec cat </run/secrets/api-token"',
    SHELL + '"</run/secrets/api-token cat"',
    SHELL + '"cat /run/secrets/*"',
    SHELL + '"cat /run/secrets/api-*"',
    SHELL + '"cd /run/secrets; cat api-token"',
    SHELL + '"cd /run/secrets && cat api-token"',
    SHELL + '"for f in /run/secrets/*; do app `cat $f`; done"',
    SHELL + '"while read t; do app $$t; done < /run/secrets/api-token"',
    SHELL + '"read t < /run/secrets/api-token; app $$t"',
    SHELL + '"F=/run/secrets/api-token; cat $$F"',
    SHELL + '"export F=/run/secrets/api-token; cat $$F"',
    SHELL + '". /run/secrets/api-token"',
    SHELL + '"app | tee /run/secrets/api-token"',
    SHELL + '"printenv TOKEN | xargs app"',
    SHELL + '"printenv TOKEN"',
    SHELL + '"Q=TOKEN; eval app \\\\$$$$Q"',
    SHELL + "\"sh -c 'cat /run/secrets/api-token'\"",
    SHELL + "'if true; then cat /run/secrets/api-token; fi'",
    SHELL + "'app \"it /run/secrets/api-token'",
    SHELL + '"env | sort"',
    SHELL + '"set"',
    SHELL + '"export -p"',
    SHELL + '"printenv; exec app"',
    SHELL + '"tr x y </proc/self/environ"',
    SHELL + "env",
    SHELL + '"(true);cat /run/secrets/api-token"',
    SHELL + '"(read t)</run/secrets/api-token"',
    SHELL + "'cat \"$1\"' _ /run/secrets/api-token",
    "/usr/bin/env F=/run/secrets/api-token sh -c 'cat $F'",
    "/usr/bin/watch cat /run/secrets/api-token",
    "/bin/bash -o pipefail -e -c 'cat /run/secrets/api-token'",
    "/usr/bin/su - app -c 'cat /run/secrets/api-token'",
    "/bin/bash -lc 'cat /run/secrets/api-token'",
    "/bin/busybox cat /run/secrets/api-token",
    "/bin/cat %d/token",
    "/bin/cat %t/secrets/api-token",
    "/bin/cat /run/secrets/api-token",
    "-/bin/cat /run/secrets/api-token",
    "/bin/cat /var/run//secrets/./api-token",
    "/bin/cat /run/credentials/app.service/token",
    "/bin/cat /run/credentials/%n/token",
    "/bin/cat /run/tdx-guest/credentials/token",
    "/bin/cat /run/tdx-guest/secrets/state.json",
    "/bin/cat ${CREDENTIALS_DIRECTORY}/token",
    "/bin/true ; /bin/cat /run/secrets/api-token",
    "/usr/bin/env cat /run/secrets/api-token",
    "/usr/bin/env -S 'cat /run/secrets/api-token'",
    "/usr/bin/timeout 5 head -c9 /run/secrets/api-token",
    "/usr/bin/logger -f /run/secrets/api-token",
    "/usr/bin/jq . /run/secrets/api-token",
    "/usr/bin/env",
    "/usr/bin/env -0 A=b",
    "/usr/bin/printenv",
    "/usr/bin/printenv TOKEN",
    "/usr/bin/systemd-creds cat token",
    "/usr/bin/systemd-creds --newline=no cat other token",
    SHELL + '"app --token $$(systemd-creds cat token)"',
    "/usr/bin/timeout 5 systemd-creds cat token",
    "/usr/bin/python3 -c 'print(open(\"/run/secrets/api-token\").read())'",
    "/usr/bin/python3.13 -Ic 'import os; print(os.environ[\"TOKEN\"])'",
    "/usr/bin/perl -ne print /run/secrets/api-token",
]


@pytest.mark.parametrize("command", LEAKING)
def test_a_command_line_that_takes_a_secret_apart_is_refused(command: str) -> None:
    (found,) = leaks(services=(service(command),))
    assert found.span.line == 20
    assert found.notes[0].span.line == 10
    assert found.fix


KEEPING = [
    "/bin/app --token-file /run/secrets/api-token",
    "/bin/app --token-file=/run/secrets/api-token --join /run/secrets",
    "/bin/app join --token %d/token",
    "/bin/app -c ${CREDENTIALS_DIRECTORY}/token",
    "/bin/app read write cat /run/secrets/api-token",
    "/bin/app --header @/run/secrets/api-token 'two words'",
    "/bin/app --header 'X-Token: @/run/secrets/api-token'",
    "/bin/app --token-variable TOKEN",
    "/bin/app ${TOKEN_FILE} $TOKENS",
    "/bin/cat /run/secrets/api-token2 /run/secrets-of/api-token /etc/run/secrets/api-token",
    "/bin/cat /etc/passwd",
    "/usr/bin/env A=b /bin/app",
    "/usr/bin/env F=/run/secrets/api-token /bin/app",
    SHELL + '"app /run/secrets/api-token >/dev/null 2>&1 & app"',
    "/usr/bin/env -u A /bin/app",
    "/usr/bin/printenv HOME",
    "/usr/bin/systemd-creds list",
    "/usr/bin/systemd-creds cat other token2",
    "/usr/bin/openssl dgst -hmac-env TOKEN /etc/passwd",
    "/usr/bin/python3 /opt/app.py -c /run/secrets/api-token",
    "/usr/bin/python3 -E -m app --token-file /run/secrets/api-token",
    "/bin/sh /opt/start -c /run/secrets/api-token",
    "/bin/sh /opt/start -c x /run/secrets/api-token",
    "/usr/bin/env app -c x /run/secrets/api-token",
    SHELL + '"exec app --token-file /run/secrets/api-token"',
    SHELL + '"exec app --token-file \\"$CREDENTIALS_DIRECTORY\\"/token"',
    SHELL + '"exec app </run/secrets/api-token"',
    SHELL + '"umask 077; cat /etc/motd; exec app < /run/secrets/api-token"',
    SHELL + '"while ! [ -s /run/secrets/api-token ]; do sleep 1; done; exec app"',
    SHELL + '"test -e /run/secrets/api-token || exit 1; app"',
    SHELL + '"set -eu; app --day $(date +%%F) | tee /dev/null"',
    SHELL + '"A=1 exec app --settings TOKEN"',
]


@pytest.mark.parametrize("command", KEEPING)
def test_a_plain_argument_and_standard_input_of_a_program_are_its_own_affair(command: str) -> None:
    assert leaks(services=(service(command),)) == []


def test_a_variable_with_the_path_stands_for_the_path() -> None:
    extra = (Section(span=at(21), name="Service", directives=(directive("Environment", "F=/run/secrets/api-token"),)),)
    for command, count in (("/bin/app --file $F", 0), ("/bin/cat $F", 1), (SHELL + "'cat ${F}'", 1)):
        assert len(leaks(services=(service(command, extra_unit=extra),))) == count, command


def directive(key: str, value: str) -> Directive:
    return Directive(span=at(21), key=key, value=value)


@pytest.mark.parametrize(
    ("key", "value", "command", "count"),
    [
        ("StandardInput", "file:/run/secrets/api-token", "/bin/cat", 1),
        ("StandardInput", "file:%d/token", "/usr/bin/xargs app", 1),
        ("StandardInput", "file:/run/secrets/api-token", "/bin/app", 0),
        ("LoadCredential", "other:/run/secrets/api-token", "/bin/cat %d/other", 1),
        ("LoadCredential", "other:/etc/motd", "/bin/cat %d/other", 0),
        ("LoadCredential", "other:/run/secrets/api-token", "/usr/bin/systemd-creds cat other", 1),
        ("LoadCredential", "other:/etc/motd", "/usr/bin/systemd-creds cat other", 0),
        ("SetCredential", "token:hunter2", "/bin/app", 1),
        ("SetCredential", '"tdx.secret.token:hunter2"', "/bin/app", 1),
        ("SetCredential", "token:", "/bin/app", 0),
        ("SetCredential", "other:x", "/bin/app", 0),
        ("Environment", "TOKEN=hunter2", "/bin/app", 1),
        ("Environment", '"A=b" "TOKEN=hunter2"', "/bin/app", 1),
        ("Environment", "TOKEN_FILE=x", "/bin/app", 0),
    ],
)
def test_other_directives(key: str, value: str, command: str, count: int) -> None:
    extra = (Section(span=at(21), name="Service", directives=(directive(key, value),)),)
    found = leaks(services=(service(command, extra_unit=extra),))
    assert len(found) == count
    assert "hunter2" not in str(found)


def test_units_of_early_boot_are_looked_at_too() -> None:
    (found,) = [
        d
        for d in run(
            LowerGuest(),
            resolved(
                secret_delivery=DELIVERY,
                services=(
                    service(),
                    Service(span=at(25), name="first", exec=("/bin/cat /run/secrets/api-token",), early=True),
                ),
            ),
        )[1]
        if d.code is Code.E_SECRET
    ]
    assert found.span.line == 25
    assert "'first.service'" in found.message


def test_what_does_not_have_the_variable_may_print_its_own() -> None:
    other = Service(span=at(25), name="other", exec=("/usr/bin/env",))
    assert leaks(services=(service(), other)) == []


# What is in the image

IN_THE_IMAGE: dict[str, tuple[int, dict[str, Any]]] = {
    "at its place": (30, placed("/run/secrets/api-token", "hunter2")),
    "where systemd looks": (30, placed("/usr/lib/credstore/tdx.secret.token", "hunter2")),
    "where systemd looks first": (30, placed("/etc/credstore/tdx.secret.token", "hunter2")),
    "encrypted": (30, placed("/etc/credstore.encrypted/token", "hunter2")),
    "a link where systemd looks": (
        31,
        {"symlinks": (Symlink(span=at(31), path="/etc/credstore/token", target="/etc/x"),)},
    ),
    "source": (
        30,
        {
            "secret_delivery": records.evolve(DELIVERY, method="file", port=0, tls="off", source="/etc/s.json"),
            **placed("/etc/s.json", "hunter2"),
        },
    ),
    "environment file": (
        30,
        {
            "services": (
                service(
                    extra_unit=(
                        Section(span=at(21), name="Service", directives=(directive("EnvironmentFile", "-/etc/e"),)),
                    )
                ),
            ),
            **placed("/etc/e", "A=b\nexport TOKEN=hunter2\n"),
        },
    ),
    "credential file": (
        30,
        {
            "services": (
                service(
                    extra_unit=(
                        Section(span=at(21), name="Service", directives=(directive("LoadCredential", "token:/etc/t"),)),
                    )
                ),
            ),
            **placed("/etc/t", "hunter2"),
        },
    ),
    "variable of the kernel's": (
        32,
        {"kernel": Kernel(span=at(32), cmdline="quiet systemd.setenv=TOKEN=hunter2")},
    ),
    "credential of the kernel's": (
        32,
        {"kernel": Kernel(span=at(32), cmdline="systemd.set_credential_binary=tdx.secret.token:aHVudGVyMg==")},
    ),
    "drop-in as a file": (
        30,
        placed("/etc/systemd/system/app.service.d/a.conf", "[Service]\nExecStart=\nExecStart=/bin/app \\\n  $TOKEN\n"),
    ),
    "unit as a file": (
        30,
        placed("/usr/lib/systemd/system/other.service", "# x\n[Service]\nExecStart=/bin/cat /run/secrets/api-token\n"),
    ),
    "drop-in": (
        21,
        {
            "drop_ins": (
                DropIn(
                    span=at(33),
                    unit="app.service",
                    name="a",
                    sections=(
                        Section(
                            span=at(21), name="Service", directives=(directive("ExecStartPre", "/bin/log $TOKEN"),)
                        ),
                    ),
                ),
            )
        },
    ),
}


@pytest.mark.parametrize("name", sorted(IN_THE_IMAGE))
def test_values_in_the_image_are_refused_where_they_are_declared(name: str) -> None:
    line, declarations = IN_THE_IMAGE[name]
    (found,) = leaks(**declarations)
    assert found.span.line == line
    assert "hunter2" not in str(found)


@pytest.mark.parametrize(
    "declarations",
    [
        placed("/etc/credstore/other", "x"),
        placed("/etc/tokens/token", "x"),
        placed("/etc/systemd/system/other.service.d/a.conf", "[Service]\nExecStart=/bin/app $TOKEN\n"),
        placed("/etc/systemd/system/app.service", "[Service]\nExecStart=/bin/app\n# ExecStart=/bin/app $TOKEN\n"),
        placed("/etc/systemd/notes.txt", "ExecStart=/bin/app $TOKEN\n"),
        placed("/etc/systemd/system/app.service", "\xff\x00[Serv\nExecStart"),
        {"kernel": Kernel(span=at(32), cmdline="systemd.set_credential=tdx.secret.token2:x systemd.setenv=TOKENS=x")},
    ],
)
def test_what_only_looks_like_a_value_is_none(declarations: dict[str, Any]) -> None:
    assert leaks(**declarations) == []


def test_files_are_read_as_systemd_reads_them() -> None:
    text = "Lost=1\n[Unit]\n; no\nAfter = a.service \\\n# between\n  b.service\n[Service]\nExecStart=/bin/x \\"
    file = File(span=at(3), path="/etc/systemd/system/x@.service", content=Blob.of_text(text))
    other = records.evolve(file, path="/etc/systemd/system/x.service.wants/y.service")
    (found,) = placed_units((file, other))
    unit: Unit = found.unit
    assert unit.name == "x@.service"
    assert unit.values("Unit", "After") == ("a.service    b.service",)
    assert unit.values("Service", "ExecStart") == ("/bin/x",)
    assert found.label == "'x@.service' (in /etc/systemd/system/x@.service)"


def test_an_image_without_secrets_is_not_looked_at() -> None:
    image: ResolvedImage = resolved(services=(Service(span=at(20), name="app", exec=("/usr/bin/env",)),))
    assert run(LowerGuest(), image)[1] == ()
