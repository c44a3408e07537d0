"""lower-guest: the guest's configuration and units, contradictions, and the ways that secrets take."""

from __future__ import annotations

from typing import Any

import pytest
from support.authored import at, resolved, run
from tdxc import records
from tdxc.diagnostics import Code, Diagnostic
from tdxc.ir import (
    Blob,
    BootStep,
    Directive,
    EncryptedDisk,
    EnvironmentVariable,
    File,
    FirewallRuleText,
    GuestKey,
    Kernel,
    Network,
    Partition,
    QuoteService,
    ResolvedImage,
    Secret,
    SecretDelivery,
    SecretTarget,
    Section,
    Service,
    Setting,
    Unit,
)
from tdxc.ir.verify import verify_resolved
from tdxc.passes.init_priority import InitPriority
from tdxc.passes.lower_guest import LowerGuest

KEY = GuestKey(span=at(2), name="disk", strategy="tpm", pcrs=(4, 11))
DISK = EncryptedDisk(span=at(3), name="data", key="disk", strategy="path", device="/dev/vdb", mount_at="/persistent")


def file(path: str = "/run/secrets/token", line: int = 11, **fields: Any) -> SecretTarget:
    return SecretTarget(span=at(line), kind="file", path=path, **fields)


def env(variable: str = "TOKEN", scope: str = "global", line: int = 12) -> SecretTarget:
    return SecretTarget(span=at(line), kind="env", variable=variable, scope=scope)


def secret(*targets: SecretTarget, name: str = "token", line: int = 10, **fields: Any) -> Secret:
    return Secret(span=at(line), name=name, targets=targets, **fields)


def delivery(*secrets: Secret, **fields: Any) -> SecretDelivery:
    given = {"method": "http_post", "port": 8080, "tls": "generated", **fields}
    return SecretDelivery(span=at(9), secrets=secrets, **given)


def service(name: str = "app", exec_: str = "/bin/app", **fields: Any) -> Service:
    return Service(span=at(20), name=name, exec=(exec_,), **fields)


def lower(**declarations: Any) -> tuple[ResolvedImage, tuple[Diagnostic, ...]]:
    image, found = run(LowerGuest(), resolved(**declarations))
    assert verify_resolved(image) == ()
    return image, found


def unit(image: ResolvedImage, name: str) -> Unit:
    return next(unit for unit in image.units if unit.name == name)


def config(image: ResolvedImage) -> str:
    (found,) = (file for file in image.files if file.path == "/etc/tdx-guest/config.json")
    assert found.mode == 0o644
    return found.content.data.decode()


def test_an_image_without_a_guest_is_unchanged() -> None:
    assert lower(services=(service(),)) == (resolved(services=(service(),)), ())


def test_keys_and_disks_are_written_out_in_full() -> None:
    image, found = lower(guest_keys=(KEY,), encrypted_disks=(DISK,))
    assert found == ()
    assert config(image) == (
        '{"disks":[{"cipher":"aes-xts-plain64","device":{"path":"/dev/vdb","strategy":"path"},"format":"on_initialize",'
        '"fs":"ext4","grow":true,"integrity":"none","key":"disk","key_bits":512,"mount_at":"/persistent","name":"data",'
        '"sector_bytes":4096}],"keys":[{"name":"disk","size_bytes":64,"strategy":"tpm","tpm":{"bank":"sha256",'
        '"device":"/dev/tpmrm0","pcrs":[4,11]}}],"version":1}\n'
    )


def test_a_service_gets_its_secret_as_a_credential_and_waits_for_it() -> None:
    image, found = lower(secret_delivery=delivery(secret()), services=(service(secrets=("token",)), service("other")))
    assert found == ()
    app = unit(image, "app.service")
    assert app.values("Service", "LoadCredential") == ("token:/run/tdx-guest/credentials/token",)
    assert app.values("Unit", "Requires") == app.values("Unit", "After") == ("tdx-secrets.service",)
    assert '"path":"/run/tdx-guest/credentials/token"' in config(image)
    assert unit(image, "other.service").values("Unit", "After") == ()


def test_an_optional_secret_may_be_missing_and_holds_nobody_back() -> None:
    image, _ = lower(secret_delivery=delivery(secret(required=False)), services=(service(secrets=("token",)),))
    app = unit(image, "app.service")
    assert app.values("Service", "SetCredential") == ("token:",)
    assert app.values("Unit", "Requires") == ()
    assert app.values("Unit", "Wants") == ("tdx-secrets.service",)


def test_global_variables_reach_every_service_but_those_of_early_boot() -> None:
    services = (service(), service("early", early=True), service("late"))
    image, found = lower(secret_delivery=delivery(secret(env())), services=services)
    assert found == ()
    files = {unit.name: unit.values("Service", "EnvironmentFile") for unit in image.units}
    given = ("/run/tdx-guest/secrets/env/global.env",)
    assert files == {"app.service": given, "early.service": (), "late.service": given, "tdx-secrets.service": ()}


def test_a_variable_of_one_service_reaches_that_one_alone() -> None:
    services = (service(), service("other"))
    image, found = lower(secret_delivery=delivery(secret(env(scope="app.service"))), services=services)
    assert found == ()
    assert unit(image, "app.service").values("Service", "EnvironmentFile") == (
        "/run/tdx-guest/secrets/env/app.service.env",
    )
    assert unit(image, "other.service").values("Unit", "After") == ()


def test_whoever_names_the_file_of_a_secret_waits_for_it() -> None:
    app = service(exec_="/bin/app --token-file /run/secrets/token")
    other = service("other", exec_="/bin/app --token-file /run/secrets/token-of-another")
    image, found = lower(secret_delivery=delivery(secret(file())), services=(app, other))
    assert found == ()
    assert unit(image, "app.service").values("Unit", "Requires") == ("tdx-secrets.service",)
    assert unit(image, "other.service").values("Unit", "Requires") == ()


def test_the_server_may_write_only_where_its_targets_are() -> None:
    image, _ = lower(secret_delivery=delivery(secret(file("/run/a/b"), file("/run/c/d", line=13))))
    server = unit(image, "tdx-secrets.service")
    assert server.values("Service", "ReadWritePaths") == ("/run/tdx-guest", "/run/a", "/run/c", "-/sys/kernel/config")
    assert server.needs is not None
    assert server.needs.ports == (8080,)


def test_the_port_is_opened_where_the_recipe_has_a_firewall() -> None:
    rules = (FirewallRuleText(span=at(5), text="DROP all"),)
    image, _ = lower(secret_delivery=delivery(secret(file())), network=Network(span=at(5), firewall_rules=rules))
    assert [rule.text for rule in image.authored_network.firewall_rules] == ["ACCEPT tcp 8080", "DROP all"]
    image, _ = lower(secret_delivery=delivery(secret(file())))
    assert image.authored_network.firewall_rules == ()


def test_vsock_waits_for_the_module_that_nothing_else_may_load() -> None:
    image, found = lower(secret_delivery=delivery(secret(file()), method="vsock", port=80, tls="off"))
    assert found == ()
    made = unit(image, "tdx-secrets.service")
    for key in ("Wants", "After"):
        assert made.values("Unit", key)[0] == "modprobe@vsock.service"
    assert made.needs is not None
    assert made.needs.ports == (80,), "ports below 1024 need a capability over vsock too"


def test_credentials_of_the_machine_are_imported() -> None:
    image, found = lower(secret_delivery=delivery(secret(file()), method="env", port=0, tls="off"))
    assert found == ()
    server = unit(image, "tdx-secrets.service")
    assert server.values("Service", "ImportCredential") == ("tdx.secret.*",)
    assert server.values("Unit", "After") == ()
    assert '"quote"' not in config(image)


def test_a_disk_with_secrets_is_waited_for_and_opened() -> None:
    source = "/dev/disk/by-id/virtio-secrets"
    image, found = lower(secret_delivery=delivery(secret(file()), method="file", port=0, tls="off", source=source))
    assert found == ()
    server = unit(image, "tdx-secrets.service")
    device = r"dev-disk-by\x2did-virtio\x2dsecrets.device"
    assert server.values("Unit", "Wants") == server.values("Unit", "After") == (device,)
    assert server.needs is not None
    assert server.needs.devices == (source,)


def test_quotes_are_served_to_a_group_by_a_service_without_network() -> None:
    quotes = QuoteService(span=at(4), source="configfs", group="tdx", socket="/run/tdxs.sock")
    image, found = lower(quote_service=quotes)
    assert found == ()
    socket = unit(image, "tdxs.socket")
    assert socket.values("Socket", "SocketGroup") == ("tdx",)
    assert socket.values("Socket", "SocketMode") == ("0660",)
    assert unit(image, "tdxs.service").values("Service", "PrivateNetwork") == ("yes",)
    assert config(image) == '{"quote":{"idle_seconds":60,"max_connections":16,"source":"configfs"},"version":1}\n'
    assert '"test_image":true' in config(lower(quote_service=records.evolve(quotes, source="fake"))[0])


def test_boot_steps_may_ask_for_quotes() -> None:
    """The service does not wait for them: they would wait for each other."""
    quotes = QuoteService(span=at(4), source="configfs", group="tdx", socket="/run/tdxs.sock")
    image, _ = lower(quote_service=quotes)
    image, found = run(InitPriority(), records.evolve(image, boot_steps=(BootStep(span=at(5), name="a", script="a"),)))
    assert found == ()
    assert "runtime-init.service" in {unit.name for unit in image.units}
    for name in ("tdxs.service", "tdxs.socket"):
        for key in ("After", "Requires"):
            assert "runtime-init.service" not in unit(image, name).values("Unit", key)


RANDOM = GuestKey(span=at(2), name="disk", strategy="random")
OTHER_DISK = EncryptedDisk(span=at(4), name="logs", key="disk", strategy="path", device="/dev/vdc", mount_at="/logs")
CONTRADICTIONS: dict[str, tuple[Code, int, dict[str, Any]]] = {
    "no key": (Code.E_REFERENCE, 3, {"encrypted_disks": (DISK,)}),
    "unknown key": (
        Code.E_REFERENCE,
        3,
        {"guest_keys": (KEY,), "encrypted_disks": (records.evolve(DISK, key="dsik"),)},
    ),
    "key of one boot": (Code.E_CONFLICT, 3, {"guest_keys": (RANDOM,), "encrypted_disks": (DISK,)}),
    "two keys": (
        Code.E_CONFLICT,
        6,
        {"guest_keys": (KEY, records.evolve(KEY, span=at(6))), "encrypted_disks": (DISK,)},
    ),
    "a sealed key without a disk": (Code.E_REFERENCE, 2, {"guest_keys": (records.evolve(KEY, keep=True),)}),
    "a key for nobody": (Code.E_REFERENCE, 2, {"guest_keys": (RANDOM,)}),
    "too many secrets": (
        Code.E_LIMIT,
        266,
        {"secret_delivery": delivery(*(secret(env(f"V{n}"), name=f"s{n}", line=10 + n) for n in range(257)))},
    ),
    "too many targets": (
        Code.E_LIMIT,
        10,
        {"secret_delivery": delivery(secret(*(env(f"V{n}") for n in range(65))))},
    ),
    "too many targets with that of a service": (
        Code.E_LIMIT,
        10,
        {
            "secret_delivery": delivery(secret(*(env(f"V{n}") for n in range(64)))),
            "services": (service(secrets=("token",)),),
        },
    ),
    "one target twice": (Code.E_CONFLICT, 11, {"secret_delivery": delivery(secret(*[file()] * 2))}),
    "a file below a file": (
        Code.E_CONFLICT,
        16,
        {"secret_delivery": delivery(secret(file("/run/a"), file("/run/a/b/c", line=16)))},
    ),
    "a long configuration": (
        Code.E_LIMIT,
        9,
        {"secret_delivery": delivery(secret(env(), enum=("x" * (1 << 20),)))},
    ),
    "two disks of a name": (
        Code.E_CONFLICT,
        4,
        {"guest_keys": (KEY,), "encrypted_disks": (DISK, records.evolve(OTHER_DISK, name="data"))},
    ),
    "two disks on a device": (
        Code.E_CONFLICT,
        4,
        {"guest_keys": (KEY,), "encrypted_disks": (DISK, records.evolve(OTHER_DISK, device="/dev/vdb"))},
    ),
    "two disks at a place": (
        Code.E_CONFLICT,
        4,
        {"guest_keys": (KEY,), "encrypted_disks": (DISK, records.evolve(OTHER_DISK, mount_at="/persistent"))},
    ),
    "a partition there": (
        Code.E_CONFLICT,
        3,
        {
            "guest_keys": (KEY,),
            "encrypted_disks": (DISK,),
            "partitions": (Partition(span=at(5), mount_point="/persistent", fs="ext4", size_bytes=1 << 30),),
        },
    ),
    "unknown secret": (
        Code.E_REFERENCE,
        20,
        {"secret_delivery": delivery(secret(file())), "services": (service(secrets=("tokn",)),)},
    ),
    "no delivery": (Code.E_REFERENCE, 20, {"services": (service(secrets=("token",)),)}),
    "nothing to deliver": (Code.E_VALUE, 9, {"secret_delivery": delivery()}),
    "goes nowhere": (Code.E_VALUE, 10, {"secret_delivery": delivery(secret())}),
    "two of a name": (Code.E_CONFLICT, 15, {"secret_delivery": delivery(secret(file()), secret(env(), line=15))}),
    "one file": (
        Code.E_CONFLICT,
        16,
        {"secret_delivery": delivery(secret(file()), secret(file(line=16), name="other", line=15))},
    ),
    "one file twice": (Code.E_CONFLICT, 16, {"secret_delivery": delivery(secret(file(), file(line=16)))}),
    "the pipe of a key": (
        Code.E_CONFLICT,
        11,
        {
            "secret_delivery": delivery(secret(file("/run/disk-key"))),
            "guest_keys": (GuestKey(span=at(2), name="disk", strategy="pipe", pipe="/run/disk-key"),),
            "encrypted_disks": (DISK,),
        },
    ),
    "a disk that the secrets are on": (
        Code.E_CONFLICT,
        3,
        {
            "secret_delivery": delivery(secret(file()), method="file", source="/dev/vdb", port=0, tls="off"),
            "guest_keys": (KEY,),
            "encrypted_disks": (DISK,),
        },
    ),
    "the socket for quotes": (
        Code.E_CONFLICT,
        11,
        {
            "secret_delivery": delivery(secret(file("/run/tdxs.sock"))),
            "quote_service": QuoteService(span=at(4), source="configfs", group="tdx", socket="/run/tdxs.sock"),
        },
    ),
    "a folder that goes with its service": (
        Code.E_CONFLICT,
        11,
        {
            "secret_delivery": delivery(secret(file("/run/app/keys/token"))),
            "services": (service(runtime_directory="x app:link"),),
        },
    ),
    "a folder that is given away": (
        Code.E_CONFLICT,
        11,
        {
            "secret_delivery": delivery(secret(file("/run/app/token"))),
            "services": (service(user="app", writes=("/run/app",)),),
        },
    ),
    "one variable": (
        Code.E_CONFLICT,
        16,
        {"secret_delivery": delivery(secret(env()), secret(env(line=16), name="other", line=15))},
    ),
    "unknown service": (Code.E_REFERENCE, 12, {"secret_delivery": delivery(secret(env(scope="ap.service")))}),
    "binary variable": (Code.E_VALUE, 12, {"secret_delivery": delivery(secret(env(), kind="base64"))}),
    "port in use": (
        Code.E_CONFLICT,
        20,
        {"secret_delivery": delivery(secret(file())), "services": (service(ports=(8080,)),)},
    ),
    "old base": (
        Code.E_UNSUPPORTED,
        9,
        {"reference": "debian/bookworm", "secret_delivery": delivery(secret(file()))},
    ),
    "no systemd": (
        Code.E_UNSUPPORTED,
        9,
        {"init": Setting(span=at(1), value="busybox"), "secret_delivery": delivery(secret(file()))},
    ),
}


@pytest.mark.parametrize("name", sorted(CONTRADICTIONS))
def test_contradictions_are_refused_at_their_line(name: str) -> None:
    code, line, declarations = CONTRADICTIONS[name]
    reference = declarations.get("reference", "debian/trixie")
    rest = {key: value for key, value in declarations.items() if key != "reference"}
    _, found = run(LowerGuest(), resolved(reference, **rest))
    assert [(d.code, d.span.line) for d in found] == [(code, line)]
    assert found[0].fix


def test_folders_that_stay_roots_may_hold_secrets() -> None:
    kept = Section(
        span=at(21),
        name="Service",
        directives=tuple(
            Directive(span=at(21), key=key, value=value)
            for key, value in (("RuntimeDirectory", "app"), ("RuntimeDirectoryPreserve", "yes"))
        ),
    )
    for fields in ({"extra_unit": (kept,)}, {"writes": ("/run/app",)}, {"user": "root", "writes": ("/run/app",)}):
        _, found = lower(secret_delivery=delivery(secret(file("/run/app/token"))), services=(service(**fields),))
        assert found == ()


LEAKS: dict[str, tuple[int, dict[str, Any]]] = {
    "expanded": (20, {"services": (service(exec_="/bin/app --token ${TOKEN}"),)}),
    "expanded as a word": (20, {"services": (service(exec_="/bin/app $TOKEN"),)}),
    "expanded by a shell": (20, {"services": (service(exec_="/bin/sh -c 'app --token $$TOKEN'"),)}),
    "expanded before": (20, {"services": (service(exec_start_pre=("/bin/log ${TOKEN}",)),)}),
    "given a value": (
        20,
        {"services": (service(environment=(EnvironmentVariable(span=at(21), name="TOKEN", value="hunter2"),)),)},
    ),
    "substituted": (20, {"services": (service(exec_='/bin/sh -c "app --token $(cat /run/secrets/token)"'),)}),
    "read by a redirection": (20, {"services": (service(exec_='/bin/sh -c "app $(</run/secrets/token)"'),)}),
    "substituted by backquotes": (20, {"services": (service(exec_='/bin/sh -c "app `cat /run/secrets/token`"'),)}),
    "read by a boot step": (30, {"boot_steps": (BootStep(span=at(30), name="x", script="cat /run/secrets/token"),)}),
    "in the image": (31, {"files": (File(span=at(31), path="/run/secrets/token", content=Blob.of(b"hunter2")),)}),
    "on the command line": (
        32,
        {"kernel": Kernel(span=at(32), cmdline="quiet systemd.set_credential=tdx.secret.token:hunter2")},
    ),
}


@pytest.mark.parametrize("name", sorted(LEAKS))
def test_leaks_are_refused_with_their_stations(name: str) -> None:
    line, declarations = LEAKS[name]
    _, found = run(LowerGuest(), resolved(secret_delivery=delivery(secret(file(), env())), **declarations))
    leaks = [d for d in found if d.code is Code.E_SECRET]
    assert len(leaks) == 1
    assert leaks[0].span.line in {line, line + 1}
    assert leaks[0].notes[0].span.line == 10
    assert "hunter2" not in str(leaks[0])


@pytest.mark.parametrize(
    "command",
    [
        "/bin/app --token-file /run/secrets/token",
        "/bin/app ${TOKEN_FILE}",
        "/bin/app $TOKENS",
        "/bin/cat /run/secrets/token2",
    ],
)
def test_what_only_looks_like_a_leak_is_none(command: str) -> None:
    _, found = lower(secret_delivery=delivery(secret(file(), env())), services=(service(exec_=command),))
    assert found == ()
